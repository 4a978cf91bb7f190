"""The sandbox's models as data: what the gateway's catalogue lists and what the sandbox answers to.

Adding a model is one row here, and one entry in `minds.py`, `faults.py` or a mouth's `quirks.py`
if it differs from `sandbox-chat`. Prices are the gateway's business and are not here.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

_CONTEXT: Final = 1_000_000
_CHAT: Final = ("streaming", "tools", "json_schema", "vision", "audio_input", "file_input", "logprobs")
_TEXT: Final = ("streaming",)
_AGENT_OUTPUT: Final = 262_144


class SandboxModel(Struct, frozen=True, kw_only=True):
    """One model. `kind`: what it produces ("chat" or "embedding"). `context` and `output_max` are tokens.

    `misbehaves`: whether it breaks the protocol, or answers with an error, on purpose.
    """

    id: str
    kind: str
    description: str
    context: int = _CONTEXT
    output_max: int = 4_096
    capabilities: tuple[str, ...] = _CHAT
    misbehaves: bool = False


class Found(Struct, frozen=True):
    """A model by the name a caller used. `numbers` are those in a family's name: 40 in sandbox-slow-40."""

    model: SandboxModel
    numbers: tuple[int, ...] = ()


def _good(
    id: str,  # noqa: A002 - the wire's own word
    description: str,
    *,
    output_max: int = 4_096,
    capabilities: tuple[str, ...] = _TEXT,
) -> SandboxModel:
    return SandboxModel(
        id=id, kind="chat", description=description, output_max=output_max, capabilities=capabilities
    )


_GOOD: Final = (
    _good(
        "sandbox-chat", "Answers, calls tools, fills JSON schemas, describes attachments", capabilities=_CHAT
    ),
    _good(
        "sandbox-reasoning",
        "Reasons first, then answers as sandbox-chat does",
        output_max=8_192,
        capabilities=(*_CHAT, "reasoning"),
    ),
    _good("sandbox-echo", "Repeats the last user message exactly", output_max=262_144),
    _good("sandbox-long", "Writes 2,000 tokens"),
    _good("sandbox-tokens-500", "Writes exactly 500 tokens; any number works", output_max=100_000),
    _good(
        "sandbox-cache",
        "Reports messages it has seen before as cached tokens",
        capabilities=(*_CHAT, "caching"),
    ),
    _good("sandbox-refusal", "Refuses: refusal text and no content"),
    _good("sandbox-filter", "Is stopped by a content filter half-way"),
    _good(
        "sandbox-redacted",
        "Reasons as sandbox-reasoning does and shows nothing of it",
        output_max=8_192,
        capabilities=(*_CHAT, "reasoning"),
    ),
    _good("sandbox-citation", "Answers from a source and cites it", capabilities=_CHAT),
    _good(
        "sandbox-picky",
        "Takes no temperature, top_p, stop or max_tokens in OpenAI's dialects",
        capabilities=_CHAT,
    ),
    _good(
        "sandbox-agent",
        "Reads and edits a file with the tools of a coding agent",
        output_max=_AGENT_OUTPUT,
        capabilities=_CHAT,
    ),
    SandboxModel(
        id="sandbox-embed",
        kind="embedding",
        description="Embeds texts: those that share words are near",
        capabilities=("embeddings",),
    ),
)

_MISBEHAVING: Final = {
    # errors by status
    "sandbox-400": "400: the prompt exceeds the context window",
    "sandbox-401": "401: the key is not accepted",
    "sandbox-403": "403: the key may not use this model",
    "sandbox-404": "404: the model does not exist",
    "sandbox-413": "413: the request is too large",
    "sandbox-429": "429 with Retry-After: 2",
    "sandbox-429-date": "429 with Retry-After as an HTTP date two seconds ahead",
    "sandbox-429-body": "429 with the delay only in the error's text",
    "sandbox-500": "500: an internal error",
    "sandbox-503": "503, or Anthropic's 529: overloaded",
    "sandbox-quota": "No credits left: 429 insufficient_quota, 402 or 429",
    "sandbox-flaky": "500 on the first and every other request after it",
    "sandbox-leak": "400 whose text repeats the Authorization header",
    "sandbox-leak-stream": "An in-band error whose text repeats the Authorization header",
    # slow and silent
    "sandbox-slow": "First token after 2 s, then one every 50 ms",
    "sandbox-drip": "A good answer written byte by byte",
    "sandbox-hang": "Takes the request and never answers",
    "sandbox-stall": "Three tokens, then silence on an open connection",
    # broken off
    "sandbox-rst": "Connection reset instead of an answer",
    "sandbox-rst-mid": "Connection reset after three tokens",
    "sandbox-cut": "Connection closed after three tokens, the body unfinished",
    "sandbox-cut-clean": "Body properly ended after three tokens, the answer unfinished",
    "sandbox-no-done": "A finished stream without [DONE]",
    "sandbox-close": "A good answer whose body ends with the connection",
    # not the dialect
    "sandbox-html": "200 with an HTML page",
    "sandbox-html-502": "502 with a proxy's HTML page",
    "sandbox-empty": "200 with an empty body",
    "sandbox-json-for-sse": "A whole JSON answer although a stream was asked for",
    "sandbox-bad-chunk": "Invalid chunked framing after three tokens",
    "sandbox-bad-json": "An event, or the body, that is not JSON",
    "sandbox-gzip": "A gzip body although identity was asked for",
    # odd but readable
    "sandbox-crlf": "CRLF line ends, comments, data-less pings, no space after the colon",
    "sandbox-big-line": "One event, or the body, of 2 MiB",
    "sandbox-cookie": "Set-Cookie and provider headers on a good answer",
    # wrong content
    "sandbox-first-error": "200 whose first event is an error",
    "sandbox-first-overloaded": "200 whose first event says overloaded",
    "sandbox-first-quota": "200 whose first event says that no credits are left",
    "sandbox-midstream-error": "200 with an error event after three tokens",
    "sandbox-empty-choice": "Finishes without any content",
    "sandbox-after-finish": "More content after the finish reason",
    "sandbox-wrong-model": "Another model name, and an id that changes",
    "sandbox-tool-index": "Tool calls without their index",
    "sandbox-tool-index-one": "Tool calls counted from 1",
    "sandbox-tool-no-id": "Tool calls with an empty id",
    "sandbox-tool-repeat": "The id and name of a tool call in each of its deltas",
    "sandbox-tool-split-name": "The name of a tool call in two deltas",
    "sandbox-tool-whole": "Each tool call in one delta",
    "sandbox-tool-object": "Tool arguments as an object, not as text",
    "sandbox-tool-no-arguments": "Tool calls without any arguments, not even {}",
    "sandbox-tool-stop": "Finishes with stop although there are tool calls",
    "sandbox-interleaved": "Fragments of several tool calls, and text, taking turns",
    "sandbox-malformed-call": "Finishes because the model called a tool wrongly",
    "sandbox-no-finish": "An end marker without a finish reason",
    "sandbox-null-content": "Deltas and messages with null in every field that is not used",
    "sandbox-azure": "A first chunk without choices, id or model, and filter results in the others",
    "sandbox-moderation": "One more chunk after the usage, with usage null",
    "sandbox-reasoning-field": "Reasoning in fields of compatible providers",
    "sandbox-think-tags": "Reasoning inside the content, in think tags",
    "sandbox-double-start": "The first event twice",
    "sandbox-spliced": "A second message that begins inside the first",
    "sandbox-rotating-ids": "Another item id in every event",
    "sandbox-done-marker": "[DONE] in a dialect that has no such end",
    # wrong usage
    "sandbox-no-usage": "Never reports usage",
    "sandbox-bad-usage": "Usage with negative, text and fractional counts",
    "sandbox-bad-usage-absurd": "Usage with counts of 2^63 and more",
    "sandbox-double-usage": "Running usage totals on every chunk",
    "sandbox-usage-finish": "Usage with the finish reason, and nowhere else",
    "sandbox-usage-groq": "Usage in x_groq, with the finish reason",
    "sandbox-usage-empty": "Usage without any counts",
    "sandbox-late-usage": "First all input as uncached, the right counts only at the end",
}

MODELS: Final[tuple[SandboxModel, ...]] = (
    *_GOOD,
    *(
        SandboxModel(id=name, kind="chat", description=description, misbehaves=True)
        for name, description in _MISBEHAVING.items()
    ),
)

FAMILIES: Final = {
    "sandbox-tokens": "sandbox-tokens-N: exactly N tokens, at most 100,000",
    "sandbox-slow": "sandbox-slow-N: N ms before each token; sandbox-slow-N-M: the same, exactly M tokens",
    "sandbox-drip": "sandbox-drip-N: one byte every N ms",
    "sandbox-cut": "sandbox-cut-N: closed after N bytes of the body",
}
"""Models whose names carry numbers. The catalogue need not list them; any member is answered."""

_BY_ID: Final = {model.id: model for model in MODELS}
_FAMILY_NAME: Final = re.compile(r"(sandbox-[a-z]+)-([0-9]{1,7})(?:-([0-9]{1,6}))?")
_TOKENS_MAX: Final = 100_000
_DELAY_MAX: Final = 60_000


def find(name: str) -> Found | None:
    """The model of that name, or None. A member of a family stands on its family's row."""
    numbered = _FAMILY_NAME.fullmatch(name)
    if numbered and numbered[1] in FAMILIES:
        return _member(name, numbered[1], tuple(int(number) for number in numbered.groups()[1:] if number))
    model = _BY_ID.get(name)
    return Found(model) if model else None


def _member(name: str, family: str, numbers: tuple[int, ...]) -> Found | None:
    limits = {
        "sandbox-tokens": (_TOKENS_MAX,),
        "sandbox-slow": (_DELAY_MAX, _TOKENS_MAX),
        "sandbox-drip": (_DELAY_MAX,),
        "sandbox-cut": (9_999_999,),
    }[family]
    if len(numbers) > len(limits) or any(
        number > most for number, most in zip(numbers, limits, strict=False)
    ):
        return None
    row = _BY_ID.get(family) or _BY_ID["sandbox-tokens-500"]
    output_max = _TOKENS_MAX if family in ("sandbox-tokens", "sandbox-slow") else row.output_max
    return Found(
        SandboxModel(
            id=name,
            kind=row.kind,
            description=FAMILIES[family],
            output_max=output_max,
            capabilities=row.capabilities,
            misbehaves=row.misbehaves,
        ),
        numbers,
    )


def behaviour(found: Found) -> str:
    """The name under which minds, faults and quirks know a model: its own, or its family's."""
    if not found.numbers:
        return found.model.id
    numbered = _FAMILY_NAME.fullmatch(found.model.id)
    return numbered[1] if numbered else found.model.id
