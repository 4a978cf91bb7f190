"""Which mouth answers which path. Paths are known by their end, so that any prefix serves as a base URL."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from tollway.upstream.sandbox.mouths.anthropic.mouth import Anthropic, AnthropicCount
from tollway.upstream.sandbox.mouths.base import Mouth
from tollway.upstream.sandbox.mouths.gemini.mouth import Gemini, GeminiCount, GeminiEmbeddings
from tollway.upstream.sandbox.mouths.openai_chat.mouth import OpenAIChat
from tollway.upstream.sandbox.mouths.openai_completions import OpenAICompletions
from tollway.upstream.sandbox.mouths.openai_embeddings import OpenAIEmbeddings
from tollway.upstream.sandbox.mouths.openai_responses.mouth import OpenAIResponses, ResponsesCount
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.signing import Signer

CHAT: Final = OpenAIChat()
_CHAT_END: Final = "/chat/completions"
_ENDS: Final[tuple[tuple[str, Callable[[Request, Signer], Mouth]], ...]] = (
    ("/completions", lambda _request, _signer: OpenAICompletions()),
    ("/embeddings", lambda _request, _signer: OpenAIEmbeddings()),
    ("/messages", Anthropic),
    ("/messages/count_tokens", AnthropicCount),
    ("/responses", OpenAIResponses),
    ("/responses/input_tokens", ResponsesCount),
)
_SMALL: Final = 64 * 1024
_LARGE: Final = 1024 * 1024
_GEMINI: Final = re.compile(r"/(?:models|tunedModels)/(?P<model>[^:]+):(?P<verb>[A-Za-z]+)$")


def heavy(request: Request) -> bool:
    """Whether an answer takes long enough to prepare to hold up everybody else on the event loop."""
    size = len(request.body)
    return (
        size > _SMALL and (size > _LARGE or not request.path.endswith(_CHAT_END))
    ) or "mbed" in request.path


def find(request: Request, signer: Signer) -> Mouth | None:
    """The mouth for a path, whatever the method; None if no model answers there."""
    path = request.path
    if path.endswith(_CHAT_END):
        return CHAT
    for end, made in _ENDS:
        if path.endswith(end):
            return made(request, signer)
    if "%" in path:
        path = unquote(path)
    found = _GEMINI.search(path)
    return _gemini(found["model"], found["verb"], request, signer) if found else None


def _gemini(model: str, verb: str, request: Request, signer: Signer) -> Mouth | None:
    if verb in ("generateContent", "streamGenerateContent"):
        return Gemini(model, request, signer, streamed=verb == "streamGenerateContent")
    if verb == "countTokens":
        return GeminiCount(model, signer)
    if verb in ("embedContent", "batchEmbedContents"):
        return GeminiEmbeddings(model, signer, batch=verb == "batchEmbedContents")
    return None


def speaks(request: Request, signer: Signer) -> Mouth:
    """The mouth that refuses a request which no model answers: its own where there is one, else by its look."""
    found = find(request, signer)
    if found is not None:
        return found
    headers = request.headers
    if "x-goog-api-key" in headers or "x-goog-api-client" in headers or "/v1beta" in request.path:
        return Gemini("", request, signer, streamed=False)
    if "anthropic-version" in headers:
        return Anthropic(request, signer)
    return CHAT
