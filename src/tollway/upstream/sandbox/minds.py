"""What each model answers, as a pure function of the question: the same ask gives the same words.

A mind composes a Thought in whole texts; `think` cuts it into tokens and applies what the caller
limited: the number of tokens, stop sequences, how many choices. A mind knows no dialect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

from msgspec.structs import replace

from tollway.core.json import encode
from tollway.upstream.sandbox import agent, models, schema, tokens
from tollway.upstream.sandbox.ask import (
    Ask,
    AttachmentKind,
    Citation,
    Finish,
    JsonFormat,
    Piece,
    Spoken,
)
from tollway.upstream.sandbox.thought import Thought
from tollway.upstream.sandbox.tools import wanted

ANSWER_MAX: Final = 262_144
"""The most tokens of one answer, over all its choices."""
_EXCERPT: Final = 120
_JSON_ONLY: Final = "one JSON object and nothing else"
_LONG_TOKENS: Final = 2_000
_EFFORT_TOKENS: Final = {
    "none": 0,
    "minimal": 8,
    "low": 16,
    "medium": 32,
    "high": 64,
    "xhigh": 96,
    "max": 128,
}
_OPENINGS: Final = ("You said:", "I read:", "I have received:", "Your message is:")
_VERBS: Final[tuple[tuple[AttachmentKind, str], ...]] = (
    ("image", "see"),
    ("audio", "hear"),
    ("file", "read"),
)
_SOURCE: Final = "https://example.com/sandbox"
_QUOTE: Final = "A sandbox model answers the same question in the same words."
# Characters of several bytes before the end of the citation: offsets in bytes and in characters differ.
_CITED: Final = "According to the handbook \N{EM DASH} \N{LEFT DOUBLE QUOTATION MARK}same question, same words\N{RIGHT DOUBLE QUOTATION MARK}."
# Each word is one token together with the space before it, see tokens.py.
_WORDS: Final = (
    "the",
    "sun",
    "can",
    "see",
    "all",
    "our",
    "old",
    "red",
    "sea",
    "may",
    "run",
    "far",
    "and",
    "new",
)


Mind = Callable[[Ask, models.Found, int], Thought]
"""A mind is given the ask, the model by the name used, and which choice it is to make."""


def think(ask: Ask, found: models.Found) -> tuple[Spoken, ...]:
    """All choices of the answer."""
    mind = MINDS.get(models.behaviour(found), chat)
    limit = min(ask.output_max or found.model.output_max, found.model.output_max, ANSWER_MAX // ask.n)
    return tuple(_spoken(ask, mind(ask, found, choice), limit) for choice in range(ask.n))


def _spoken(ask: Ask, thought: Thought, limit: int) -> Spoken:
    text, stop = _stopped(thought.text, ask.stops)
    pieces = tuple(islice(_pieces(thought, text), limit + 1))
    finish: Finish = "stop" if stop else thought.finish
    if len(pieces) > limit:
        pieces, finish, stop = pieces[:limit], "length", ""
    if not thought.citations:
        return Spoken(pieces, thought.calls, finish, stop, thought.redacted)
    said = sum(len(piece.text) for piece in pieces if piece.kind == "text")
    cited = tuple(one for one in thought.citations if one.end <= said)
    return Spoken(pieces, thought.calls, finish, stop, thought.redacted, cited)


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, str]:
    """The text before the first stop sequence in it, and that sequence."""
    cuts = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not cuts:
        return text, ""
    at, stop = min(cuts, key=lambda cut: cut[0])
    return text[:at], stop


def _pieces(thought: Thought, text: str) -> Iterator[Piece]:
    yield from (Piece("reasoning", token) for token in tokens.split(thought.reasoning))
    yield from (Piece("text", token) for token in tokens.split(text))
    yield from (Piece("refusal", token) for token in tokens.split(thought.refusal))
    for number, call in enumerate(thought.calls):
        yield Piece("call", call.name, number)
        yield from (Piece("input", token, number) for token in tokens.split(call.input))


def chat(ask: Ask, _found: models.Found, choice: int) -> Thought:
    """Call the tools that fit; else quote tool results; else answer in the format asked for."""
    calls = wanted(ask, choice)
    if calls:
        return Thought(calls=calls, finish="tool_calls")
    form = ask.format or _told(ask)
    if form is not None:
        return Thought(text=_json_text(ask, form))
    if ask.turns[-1].role == "tool":
        return Thought(text=_results_text(ask))
    return Thought(text=_chat_text(ask, choice))


def _chat_text(ask: Ask, choice: int) -> str:
    said = [_OPENINGS[(ask.seed + choice) % len(_OPENINGS)] + f' "{_excerpt(ask.last_user_text)}".']
    seen = _attachments_text(ask)
    if seen:
        said.append(seen)
    said.append("I am a sandbox model: the same question always gets this answer.")
    return " ".join(said)


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT else line[:_EXCERPT].rstrip() + "..."


def _attachments_text(ask: Ask) -> str:
    """One sentence per kind, such as: I see 1 image (PNG, 64x64)."""
    last = next((turn for turn in reversed(ask.turns) if turn.role == "user"), None)
    if last is None or not last.attachments:
        return ""
    sentences = []
    counts = Counter(one.kind for one in last.attachments)
    for kind, verb in _VERBS:
        number = counts[kind]
        if number:
            about = "; ".join(one.about for one in last.attachments if one.kind == kind)
            noun = {"image": "image", "audio": "sound", "file": "file"}[kind] + ("s" if number > 1 else "")
            sentences.append(f"I {verb} {number} {noun} ({about}).")
    return " ".join(sentences)


def _results_text(ask: Ask) -> str:
    """Quote every tool result since the model last spoke."""
    results = []
    for turn in reversed(ask.turns):
        if turn.role != "tool":
            break
        results.append(f"{turn.source or 'The tool'} returned: {_excerpt(turn.text)}")
    return "\n".join(reversed(results))


def _told(ask: Ask) -> JsonFormat | None:
    """JSON mode where it is asked for in words, as it is of models that have no such mode."""
    told = any(turn.role == "system" and _JSON_ONLY in turn.text for turn in ask.turns)
    return JsonFormat() if told else None


def _json_text(ask: Ask, form: JsonFormat) -> str:
    if form.schema is None:
        value: object = {"answer": _excerpt(ask.last_user_text), "model": ask.model}
    else:
        value = schema.generate(form.schema)
    if form.bare and type(value) is str:
        return value
    return encode(value).decode()


def reasoning(ask: Ask, found: models.Found, choice: int) -> Thought:
    """Reason for as many tokens as the effort asks, then answer."""
    answer = chat(ask, found, choice)
    effort = _EFFORT_TOKENS.get(ask.effort, _EFFORT_TOKENS["medium"])
    return Thought(answer.text, _prose(effort), answer.refusal, answer.calls, answer.finish)


def redacted(ask: Ask, found: models.Found, choice: int) -> Thought:
    """Reason, and show nothing of it."""
    return replace(reasoning(ask, found, choice), redacted=True)


def citing(ask: Ask, found: models.Found, choice: int) -> Thought:
    """Answer from one source, and cite it."""
    answer = chat(ask, found, choice)
    if answer.calls or ask.format is not None:
        return answer
    cited = Citation(0, len(_CITED), "The sandbox handbook \N{EN DASH} models", _SOURCE, _QUOTE)
    return replace(answer, text=f"{_CITED} {answer.text}", citations=(cited,))


def echo(ask: Ask, _found: models.Found, _choice: int) -> Thought:
    """The last user message, exactly."""
    return Thought(text=ask.last_user_text)


def long(_ask: Ask, _found: models.Found, _choice: int) -> Thought:
    """Two thousand tokens of prose."""
    return Thought(text=_prose(_LONG_TOKENS))


def counted(_ask: Ask, found: models.Found, _choice: int) -> Thought:
    """As many tokens of prose as the model's name says."""
    return Thought(text=_prose(found.numbers[-1] if found.numbers else 500))


def slow(ask: Ask, found: models.Found, choice: int) -> Thought:
    """The usual answer, unless the name gives a number of tokens."""
    return counted(ask, found, choice) if len(found.numbers) > 1 else chat(ask, found, choice)


def refusal(_ask: Ask, _found: models.Found, _choice: int) -> Thought:
    return Thought(refusal="I cannot help with that. A sandbox model refuses this on purpose.")


def filtered(_ask: Ask, _found: models.Found, _choice: int) -> Thought:
    return Thought(text="This answer is stopped by a", finish="content_filter")


def silent(_ask: Ask, _found: models.Found, _choice: int) -> Thought:
    return Thought()


def eager(ask: Ask, found: models.Found, choice: int) -> Thought:
    """Call every tool on offer, asked or not."""
    calls = wanted(ask, choice, all_of_them=True)
    return Thought(calls=calls, finish="tool_calls") if calls else chat(ask, found, choice)


def interleaved(ask: Ask, found: models.Found, choice: int) -> Thought:
    """Call every tool on offer, and say something too."""
    return replace(eager(ask, found, choice), text="I am calling all of these tools at once.")


@lru_cache(maxsize=8)
def _prose(length: int) -> str:
    """Exactly `length` tokens of meaningless sentences, ten words each."""
    words = []
    for at in range(length):
        word = _WORDS[(at * 5 + at // 10) % len(_WORDS)]
        words.append(word.capitalize() if at % 10 == 0 else "it." if at % 10 == 9 else word)
    return " ".join(words)


MINDS: Final[dict[str, Mind]] = {
    "sandbox-reasoning": reasoning,
    "sandbox-redacted": redacted,
    "sandbox-citation": citing,
    "sandbox-echo": echo,
    "sandbox-long": long,
    "sandbox-tokens": counted,
    "sandbox-slow": slow,
    "sandbox-refusal": refusal,
    "sandbox-filter": filtered,
    "sandbox-empty-choice": silent,
    "sandbox-reasoning-field": reasoning,
    "sandbox-think-tags": reasoning,
    "sandbox-tool-index": eager,
    "sandbox-tool-index-one": eager,
    "sandbox-tool-no-id": eager,
    "sandbox-tool-repeat": eager,
    "sandbox-tool-split-name": eager,
    "sandbox-tool-whole": eager,
    "sandbox-tool-object": eager,
    "sandbox-tool-no-arguments": eager,
    "sandbox-tool-stop": eager,
    "sandbox-interleaved": interleaved,
    "sandbox-agent": agent.work,
}
"""Models that do not think as `chat` does."""
