"""Upstreams' lists of models: reading them, and telling chat models from others by their names."""

from __future__ import annotations

import re
from typing import Any, Final

from tollway.core.exchange import DialectName
from tollway.core.relay import BadAnswer

_OTHER: Final = re.compile(
    r"embed|whisper|tts|dall-e|image|imagen|veo-|sora|moderation|realtime|transcri|rerank|audio|speech|"
    r"stable-diffusion|flux|bge-|guard|babbage|davinci|aqa|lyria|ocr|search-api"
)


def names_in(dialect: DialectName, body: dict[str, Any]) -> tuple[str, ...]:
    """The models an upstream names, as requests name them, without those it cannot generate text with.

    Raises BadAnswer for what is no list of models.
    """
    rows = body.get("models") if dialect == "gemini" else body.get("data")
    if type(rows) is not list:
        raise BadAnswer("the answer holds no list of models")
    found: dict[str, None] = {}
    for row in rows:
        if type(row) is not dict:
            continue
        name = row.get("name" if dialect == "gemini" else "id")
        methods = row.get("supportedGenerationMethods")
        if type(name) is not str or not name or not name.isprintable():
            continue
        if type(methods) is list and "generateContent" not in methods:
            continue
        found[name.removeprefix("models/")] = None
    return tuple(found)


def is_chat(name: str) -> bool:
    """Whether a model's name looks like one that chats, and not like one that embeds, paints or speaks."""
    return _OTHER.search(name.lower()) is None
