"""The canonical exchange: what any dialect's request, answer and stream mean.

Dialects read into these values and write out of them; none of them is the pivot. A relay yields
the events whatever the upstream's dialect; billing, attempts and logs read nothing else.

Rules that hold for every reader and writer:
  - Three roles. A tool result is a part of a user turn.
  - A part keeps what only its own dialect understands in `extras[dialect]`, so that it survives
    the way home. Another dialect never looks inside; it reports a `Loss`.
  - Counts of `Usage` are inclusive totals (cached tokens are part of `input`, reasoning tokens
    part of `output`); `core/billing/meters.py` makes them disjoint.
  - In a stream, parts are numbered from 0 in the order they start. A part starts once, grows
    while it is open and ends once; several may be open together. `Finished` comes when no part is
    open; after it only `Counted` follows. `Failed` may come at any time and is the last event.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "pause", "error", "other"]
DialectName = Literal["openai_chat", "openai_responses", "anthropic", "gemini"]
Extras = dict[str, dict[str, Any]]
Role = Literal["system", "user", "assistant"]
ToolKind = Literal["function", "custom", "search"]
Severity = Literal["note", "capability"]


class Seal(Struct, frozen=True):
    """Opaque state that the model behind one channel wants back unchanged.

    `origin`: the dialect that made it. `scope`: short keyed hash naming the channel account, "" when
    it is unknown. `note`: the origin's own remark on what the value is or where it sat.
    """

    origin: str
    value: str
    scope: str = ""
    note: str = ""


class Citation(Struct, frozen=True, kw_only=True):
    """A source of a text part. `start`, `end`: characters within that part; None means all of it."""

    kind: Literal["url", "document"]
    url: str = ""
    title: str = ""
    cited_text: str = ""
    start: int | None = None
    end: int | None = None
    extras: Extras = {}


class Logprob(Struct, frozen=True):
    """One generated token, its natural log probability, and the alternatives that were asked for.

    `data`: the token's bytes, where they are not simply its text in UTF-8.
    """

    token: str
    logprob: float
    top: tuple[Logprob, ...] = ()
    data: tuple[int, ...] | None = None


class Part(Struct, frozen=True, kw_only=True):
    """What every part may carry. `cache_ttl`: "5m", "1h", or "" for a mark without a time; None is no mark."""

    extras: Extras = {}
    seal: Seal | None = None
    cache_ttl: str | None = None


class Text(Part, frozen=True):
    text: str
    citations: tuple[Citation, ...] = ()
    logprobs: tuple[Logprob, ...] = ()


class Refusal(Part, frozen=True):
    text: str


class Reasoning(Part, frozen=True):
    """Thoughts: as they were, summarised, or withheld (then only the seal speaks)."""

    text: str = ""
    form: Literal["full", "summary", "withheld"] = "full"


class Media(Part, frozen=True):
    """An image, sound, video or document. `media_type` may end in `/*` where only the family is known.

    `value` is base64 data, a URL, an upstream's file id or plain text, as `source` says. `name`: file name.
    """

    media_type: str
    source: Literal["base64", "url", "file", "text"]
    value: str
    name: str = ""
    detail: str = ""

    @property
    def family(self) -> str:
        """image, audio, video, or document for everything else."""
        kind = self.media_type.partition("/")[0]
        return kind if kind in ("image", "audio", "video") else "document"


class ToolCall(Part, frozen=True):
    """A call the client must carry out. `arguments`: the text the model wrote, JSON unless `kind` is custom."""

    id: str
    name: str
    arguments: str = ""
    kind: ToolKind = "function"
    namespace: str = ""


class ToolResult(Part, frozen=True):
    """What came of a call. `content` holds Text, Media and Opaque parts only."""

    call_id: str
    content: tuple[Part, ...] = ()
    name: str = ""
    is_error: bool = False
    kind: ToolKind = "function"


class Opaque(Part, frozen=True):
    """A block only its own dialect understands: verbatim at home, a loss abroad."""

    origin: str
    payload: dict[str, Any]


class Turn(Struct, frozen=True, kw_only=True):
    """One turn. `word`: the dialect's own word for who speaks, where it has several for one role."""

    role: Role
    parts: tuple[Part, ...]
    word: str = ""
    extras: Extras = {}


class Tool(Struct, frozen=True, kw_only=True):
    """A tool the client offers. A hosted tool runs upstream: `payload` is its declaration in `origin`."""

    name: str
    kind: Literal["function", "custom", "search", "hosted"] = "function"
    namespace: str = ""
    description: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    grammar: dict[str, Any] | None = None
    origin: str = ""
    payload: dict[str, Any] = {}
    cache_ttl: str | None = None
    extras: Extras = {}


class Namespace(Struct, frozen=True, kw_only=True):
    """A named group of tools."""

    name: str
    description: str = ""
    extras: Extras = {}


class ToolChoice(Struct, frozen=True, kw_only=True):
    """`names`: the only tools that may be called; empty means all of them."""

    mode: Literal["auto", "none", "required"]
    names: tuple[str, ...] = ()
    extras: Extras = {}


class Sampling(Struct, frozen=True, kw_only=True):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    max_output_tokens: int | None = None


class ReasoningWish(Struct, frozen=True, kw_only=True):
    """How much to think. `effort`: none, minimal, low, medium, high, xhigh, max, or None where unsaid.

    `budget_tokens`: -1 lets the model decide. `show`: what of the thoughts the answer should contain.
    """

    effort: str | None = None
    budget_tokens: int | None = None
    show: Literal["none", "summary", "full"] | None = None
    extras: Extras = {}


class OutputFormat(Struct, frozen=True, kw_only=True):
    kind: Literal["text", "json", "json_schema"]
    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str = ""
    extras: Extras = {}


class Request(Struct, frozen=True, kw_only=True):
    """One request for text. `origin`: the dialect it was read from. `logprobs`: alternatives per token, 0 for none."""

    model: str
    turns: tuple[Turn, ...]
    origin: str
    tools: tuple[Tool, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    sampling: Sampling = Sampling()
    reasoning: ReasoningWish | None = None
    output: OutputFormat | None = None
    verbosity: str | None = None
    stream: bool = False
    candidates: int = 1
    logprobs: int | None = None
    modalities: tuple[str, ...] = ()
    user: str | None = None
    metadata: dict[str, Any] | None = None
    cache_key: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    previous: str | None = None
    extras: Extras = {}


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts as the upstream reported them, clamped to sane integers.

    `tools` counts what the upstream's own tools did, by the meter that prices it; see `core/billing/meters.py`.
    `tier` is the tier that served the call in our words (`priority`, `flex-us`, ...), "" for the usual one.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    audio_in: int = 0
    audio_out: int = 0
    anomalous: bool = False
    image_in: int = 0
    image_out: int = 0
    tools: dict[str, int] = {}
    tier: str = ""
    extras: Extras = {}


class Started(Struct, frozen=True):
    """The upstream accepted the request and named its answer."""

    id: str
    model: str
    extras: Extras = {}


class Grew(Struct, frozen=True):
    """Content arrived: `size` bytes of UTF-8 text, reasoning or tool arguments. Native relays say no more.

    `times`: how many events of the upstream brought it, where one stands for several that came together.
    """

    size: int
    times: int = 1


class PartStarted(Struct, frozen=True):
    """A part began. `part` holds what is known so far; kinds that do not grow are complete."""

    index: int
    part: Part


class PartGrew(Struct, frozen=True):
    """More of an open part: text (or tool arguments), a source, its seal, token probabilities."""

    index: int
    text: str = ""
    citation: Citation | None = None
    seal: Seal | None = None
    logprobs: tuple[Logprob, ...] = ()


class PartEnded(Struct, frozen=True):
    """The part is complete. `extras` are what its dialect said of it only now."""

    index: int
    extras: Extras = {}


class Counted(Struct, frozen=True):
    """Running totals of usage; the last one wins."""

    usage: Usage


class Finished(Struct, frozen=True):
    """One choice ended: `reason` in our words, `raw` in the upstream's.

    `stop`: the stop sequence that was hit, where the upstream says which.
    """

    reason: FinishReason
    raw: str
    stop: str | None = None
    extras: Extras = {}


class Answered(Struct, frozen=True):
    """A whole answer of one choice that said something: in one what Grew, Finished and Counted say. Native relays' alone."""

    size: int
    reason: FinishReason
    usage: Usage


class Failed(Struct, frozen=True):
    """The upstream reported an error inside its answer, or the answer broke off."""

    kind: str
    message: str
    upstream: dict[str, Any] | None = None


class StillAlive(Struct, frozen=True):
    """The upstream said nothing, but it said it: whoever waits for this answer may go on waiting."""


Event = (
    Started | Grew | PartStarted | PartGrew | PartEnded | Counted | Finished | Answered | Failed | StillAlive
)


class Response(Struct, frozen=True, kw_only=True):
    """A whole answer: what its events fold into."""

    id: str
    model: str
    parts: tuple[Part, ...]
    finish: Finished
    usage: Usage | None = None
    extras: Extras = {}


class Loss(Struct, frozen=True):
    """What a dialect cannot say. A lost capability makes the channel unfit; a note is only told."""

    path: str
    why: str
    severity: Severity = "note"


def size_of(event: Event) -> int:
    """Bytes of UTF-8 of generated content an event brought: what an unreported usage is estimated from."""
    if type(event) is PartGrew:
        return _utf8(event.text)
    if type(event) is Grew:
        return event.size
    return size_of_part(event.part) if type(event) is PartStarted else 0


def size_of_part(part: Part) -> int:
    """Bytes of generated content a part holds."""
    match part:
        case Text() | Refusal() | Reasoning():
            return _utf8(part.text)
        case ToolCall():
            return _utf8(part.name) + _utf8(part.arguments)
        case Media():
            return len(part.value)
        case _:
            return 0


def _utf8(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
