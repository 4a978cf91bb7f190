"""What Anthropic refuses with a 400: fields it does not know, conversations out of order, seals not its own.

Messages are checked as plain objects, after `read.py` has found that their outer shape is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from tollway.upstream.sandbox.ask import Refused
from tollway.upstream.sandbox.mouths.reading import string, words
from tollway.upstream.sandbox.signing import Signer

NEWEST: Final = "2026-10-21"
VERSIONS: Final = ("2023-06-01", NEWEST)
THINKING: Final = "anthropic thinking"
REDACTED: Final = "anthropic redacted thinking"
SEARCHED: Final = "anthropic web search"

_MARKS_MAX: Final = 4
_SAMPLING: Final = ("temperature", "top_p", "top_k")
# Fields of other dialects; whoever sends them has not translated.
_FOREIGN: Final = words(
    "max_completion_tokens max_output_tokens n stop seed response_format reasoning_effort reasoning functions "
    "parallel_tool_calls stream_options logprobs top_logprobs logit_bias presence_penalty frequency_penalty "
    "user store input instructions text include previous_response_id contents generationConfig toolConfig "
    "systemInstruction safetySettings verbosity modalities audio prediction"
)
# Fields that only a beta header makes known, by what that header's value begins with.
_BETA: Final = {"context_management": "context-management-", "mcp_servers": "mcp-client-"}
_FIELDS: Final[dict[str, frozenset[str]]] = {
    kind: words(f"type {fields}")
    for kind, fields in {
        "text": "text cache_control citations",
        "image": "source cache_control",
        "document": "source title context citations cache_control",
        "search_result": "source title content citations cache_control",
        "thinking": "thinking signature",
        "redacted_thinking": "data",
        "tool_use": "id name input caller toolset_name cache_control",
        "tool_result": "tool_use_id content is_error cache_control",
    }.items()
}
_PLACES: Final = {
    "user": frozenset({"text", "image", "document", "search_result", "tool_result", "container_upload"}),
    "assistant": frozenset(
        {"text", "document", "thinking", "redacted_thinking", "tool_use", "server_tool_use"}
    ),
    "system": frozenset({"text"}),
}
_TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_IMAGES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")


def bad(message: str) -> Refused:
    """A 400."""
    return Refused(400, message)


def unexpected(where: str) -> Refused:
    """A field that is not known."""
    return bad(f"{where}: Extra inputs are not permitted")


def check_fields(body: dict[str, Any], version: str, betas: str) -> None:
    """The outermost fields: those of other dialects, other versions and absent betas are refused."""
    for name in body:
        removed = version == NEWEST and name in _SAMPLING
        beta = _BETA.get(name)
        if removed or name in _FOREIGN or (beta is not None and beta not in betas):
            raise unexpected(name)


def check_messages(messages: list[dict[str, Any]], version: str, signer: Signer) -> None:
    """Everything about the conversation that does not depend on the model."""
    if not messages:
        raise bad("messages: at least one message is required")
    if messages[0]["role"] == "assistant":
        raise bad('messages: first message must use the "user" role')
    for at, message in enumerate(messages):
        last = at == len(messages) - 1 and message["role"] == "assistant"
        if not message["content"] and not last:
            raise bad(
                f"messages.{at}: all messages must have non-empty content except for the optional final assistant message"
            )
        for number, block in enumerate(blocks_of(message)):
            _check_block(block, f"messages.{at}.content.{number}", message["role"], version)
            _check_seal(block, f"messages.{at}.content.{number}", signer)
    check_prefill(messages[-1])
    check_results(messages)


def blocks_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The content of a message as blocks."""
    content = message["content"]
    if type(content) is str:
        return [{"type": "text", "text": content}] if content else []
    return content if type(content) is list else []


def check_prefill(last: dict[str, Any]) -> None:
    """An answer begun by the caller must not end in white space."""
    blocks = blocks_of(last)
    if last["role"] != "assistant" or not blocks or blocks[-1].get("type") != "text":
        return
    text = string(blocks[-1], "text")
    if text != text.rstrip():
        raise bad("messages: final assistant content cannot end with trailing whitespace")


def _check_block(block: Any, where: str, role: str, version: str) -> None:
    kind = block.get("type") if type(block) is dict else None
    if type(kind) is not str:
        raise bad(f"{where}.type: Field required")
    known = kind in _PLACES[role] or (role == "assistant" and kind.endswith("_tool_result"))
    if not known:
        raise bad(f"{where}: Input tag '{kind}' is not expected in a message of role '{role}'")
    fields = _FIELDS.get(kind)
    for name in block:
        if fields is not None and name not in fields:
            raise unexpected(f"{where}.{kind}.{name}")
    if version == NEWEST and role == "assistant" and kind == "document":
        raise bad(f"{where}: document blocks are not permitted in assistant messages")
    if version == NEWEST and role == "user" and kind == "text" and block.get("citations"):
        raise unexpected(f"{where}.text.citations")
    checks = {
        "text": _check_text,
        "image": _check_image,
        "tool_use": _check_use,
        "tool_result": _check_result,
    }
    if kind in checks:
        checks[kind](block, where)


def _check_text(block: dict[str, Any], where: str) -> None:
    text = block.get("text")
    if type(text) is not str:
        raise bad(f"{where}.text.text: Field required")
    if not text:
        raise bad("messages: text content blocks must be non-empty")
    if not text.strip():
        raise bad("messages: text content blocks must contain non-whitespace text")


def _check_image(block: dict[str, Any], where: str) -> None:
    source = block.get("source")
    kind = string(source, "type")
    if kind == "base64" and string(source, "media_type") not in _IMAGES:
        raise bad(f"{where}.image.source.base64.media_type: Input should be one of {', '.join(_IMAGES)}")
    if kind not in ("base64", "url", "file"):
        raise bad(f"{where}.image.source: Field required")
    if kind == "url" and not string(source, "url").startswith(("https://", "http://")):
        raise bad("Only HTTPS URLs are supported.")


def _check_use(block: dict[str, Any], where: str) -> None:
    if not _TOOL_ID.fullmatch(string(block, "id")):
        raise bad(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", string(block, "name")):
        raise bad(f"{where}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if type(block.get("input")) is not dict:
        raise bad(f"{where}.tool_use.input: Input should be a valid dictionary")


def _check_result(block: dict[str, Any], where: str) -> None:
    if not _TOOL_ID.fullmatch(string(block, "tool_use_id")):
        raise bad(f"{where}.tool_result.tool_use_id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    content = block.get("content", "")
    if type(content) not in (str, list):
        raise bad(f"{where}.tool_result.content: Input should be a valid string or list")
    for number, inner in enumerate(content if type(content) is list else ()):
        if string(inner, "type") not in ("text", "image", "document", "search_result", "tool_reference"):
            raise bad(f"{where}.tool_result.content.{number}: Input tag is not expected here")
        if inner["type"] in ("text", "image"):
            _check_block(inner, f"{where}.tool_result.content.{number}", "user", "")


def _check_seal(block: dict[str, Any], where: str, signer: Signer) -> None:
    """Thinking must come back as it was given; with its text withheld only the signature vouches for it."""
    if block["type"] == "thinking":
        signature, text = string(block, "signature"), string(block, "thinking")
        if not signer.accepts(THINKING, signature, text or None):
            raise bad(f"{where}: Invalid `signature` in `thinking` block")
    if block["type"] == "redacted_thinking" and not signer.accepts(REDACTED, string(block, "data")):
        raise bad(f"{where}: Invalid `data` in `redacted_thinking` block")
    if block["type"] == "web_search_tool_result" and type(block.get("content")) is list:
        for result in block["content"]:
            if not signer.accepts(SEARCHED, string(result, "encrypted_content")):
                raise bad(f"{where}: Invalid `encrypted_content` in `web_search_result` block")


def merged(messages: list[dict[str, Any]]) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
    """Neighbours of one role as one message: where it begins, its role and its blocks. System text is passed over."""
    found: tuple[int, str, list[dict[str, Any]]] | None = None
    for at, message in enumerate(messages):
        role = message["role"]
        if role == "system":
            continue
        if found is not None and found[1] == role:
            found[2].extend(blocks_of(message))
            continue
        if found is not None:
            yield found
        found = (at, role, list(blocks_of(message)))
    if found is not None:
        yield found


def check_results(messages: list[dict[str, Any]]) -> None:
    """Every tool use is answered at the beginning of the very next message, and nothing else is."""
    asked: set[str] = set()
    for at, _role, blocks in merged(messages):
        results = [string(block, "tool_use_id") for block in blocks if block["type"] == "tool_result"]
        _check_answers(at, asked, results, blocks)
        uses = [string(block, "id") for block in blocks if block["type"] == "tool_use"]
        asked = set(uses)
        if len(asked) != len(uses):
            raise bad(f"messages.{at}: `tool_use` ids must be unique")
    if asked:
        raise _unanswered("messages", asked)


def _check_answers(at: int, asked: set[str], results: list[str], blocks: list[dict[str, Any]]) -> None:
    given = set(results)
    if given - asked:
        raise bad(
            f"messages.{at}.content: unexpected `tool_use_id` found in `tool_result` blocks: {min(given - asked)}. Each "
            "`tool_result` block must have a corresponding `tool_use` block in the previous message."
        )
    first = all(block["type"] == "tool_result" for block in blocks[: len(results)])
    if asked - given or not first:
        raise _unanswered(f"messages.{at}", asked - given or asked)
    if len(given) != len(results):
        raise bad(f"messages.{at}: each tool_use must have a single result. Found multiple for one id.")


def _unanswered(where: str, ids: set[str]) -> Refused:
    return bad(
        f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(sorted(ids))}. "
        "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def check_thinking_first(messages: list[dict[str, Any]]) -> None:
    """With thinking enabled by a budget, the turn that is going on must begin with its thinking."""
    turns = list(merged(messages))
    uses = [turn for turn in turns if turn[1] == "assistant"]
    if not uses or not any(block["type"] == "tool_result" for block in turns[-1][2]):
        return
    at, _, blocks = uses[-1]
    kind = blocks[0]["type"] if blocks else "nothing"
    if kind not in ("thinking", "redacted_thinking"):
        raise bad(
            f"messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{kind}`. When "
            "`thinking` is enabled, a final `assistant` message must start with a thinking block."
        )


def check_marks(ttls: list[str]) -> None:
    """Cache marks, in the order of the prompt: few enough, and the long ones first."""
    if len(ttls) > _MARKS_MAX:
        raise bad(f"A maximum of {_MARKS_MAX} blocks with cache_control may be provided. Found {len(ttls)}.")
    if ttls != sorted(ttls):  # "1h" sorts before "5m"
        raise bad("a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block.")
