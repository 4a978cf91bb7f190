"""Media as the dialects spell it: data URLs, and what can be told from a URL's ending."""

from __future__ import annotations

from typing import Final

from tollway.core.exchange import Media

_ENDINGS: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".pdf": "application/pdf",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".mp4": "video/mp4",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".json": "application/json",
}


def from_url(url: str, family: str, name: str = "") -> Media:
    """Media by its URL, which may be a data URL. `family`: the type assumed where none is told, like `image/*`."""
    if url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        kind, _, options = head.partition(";")
        if options.endswith("base64") or head.endswith("base64"):
            return Media(kind or family, "base64", data, name=name)
    return Media(guessed(name or url) or family, "url", url, name=name)


def guessed(path: str) -> str:
    """The media type a file name or URL ends in; "" if it does not tell."""
    path = path.partition("?")[0].partition("#")[0].lower()
    dot = path.rfind(".")
    return _ENDINGS.get(path[dot:], "") if dot >= 0 else ""


def data_url(media: Media) -> str:
    """The URL of media held as a URL or as base64."""
    if media.source == "url":
        return media.value
    return f"data:{media.media_type};base64,{media.value}"
