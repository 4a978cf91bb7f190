"""The four text dialects at their own APIs, and at everything that imitates them: paths and plain credentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tollway.core.exchange import DialectName
from tollway.upstream.platforms.base import Headers, Platform, Sort, Verb, segment

ANTHROPIC_VERSION: Final = b"2023-06-01"
"""The version of the Messages API that our own requests are written in."""

_OPENAI: Final[dict[Verb, str]] = {
    "embed": "/embeddings",
    "embed_batch": "/embeddings",
    "complete": "/completions",
    "list": "/models",
}
_PATHS: Final[dict[DialectName, dict[Verb, str]]] = {
    "openai_chat": {**_OPENAI, "text": "/chat/completions"},
    "openai_responses": {**_OPENAI, "text": "/responses", "count": "/responses/input_tokens"},
    "anthropic": {"text": "/messages", "count": "/messages/count_tokens", "list": "/models?limit=1000"},
}
_GEMINI: Final[dict[Verb, str]] = {
    "text": "generateContent",
    "count": "countTokens",
    "embed": "embedContent",
    "embed_batch": "batchEmbedContents",
}
_COLLECTIONS: Final = ("models", "tunedModels")


def platform(dialect: DialectName, secret: str | None) -> Platform:
    """A dialect at its own API, with the credential in the header that dialect has for it."""
    return Platform(
        target=gemini_target if dialect == "gemini" else _fixed(_PATHS[dialect]),
        headers=(*credential(dialect, secret), *version(dialect)),
        model_in_path=dialect == "gemini",
        secrets=(secret,) if secret else (),
    )


def credential(dialect: DialectName, secret: str | None) -> Headers:
    """The header that carries a plain key in a dialect; never a query, which ends up in logs."""
    if not secret:
        return ()
    match dialect:
        case "anthropic":
            return ((b"x-api-key", secret.encode()),)
        case "gemini":
            return ((b"x-goog-api-key", secret.encode()),)
        case _:
            return ((b"authorization", b"Bearer " + secret.encode()),)


def version(dialect: DialectName) -> Headers:
    """The header that names the version of the API, where a dialect wants one."""
    return ((b"anthropic-version", ANTHROPIC_VERSION),) if dialect == "anthropic" else ()


def gemini_target(sort: Sort) -> str | None:
    """The path of a Gemini call: the model and the verb are its last segment."""
    if sort.verb == "list":
        return "/models?pageSize=1000"
    word = _GEMINI.get(sort.verb)
    if word is None:
        return None
    if sort.verb == "text" and sort.stream:
        word = "streamGenerateContent?alt=sse"
    collection, slash, name = sort.model.partition("/")
    if not slash or collection not in _COLLECTIONS:
        collection, name = "models", sort.model
    return f"/{collection}/{segment(name)}:{word}"


def _fixed(paths: dict[Verb, str]) -> Callable[[Sort], str | None]:
    return lambda sort: paths.get(sort.verb)
