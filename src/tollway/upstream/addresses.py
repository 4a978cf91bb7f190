"""Base URLs as people paste them: what is plainly meant is put right, and it is told what was changed."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from tollway.core.exchange import DialectName

_ENDPOINTS: Final = re.compile(
    r"(/chat/completions|/completions|/embeddings|/responses(/input_tokens)?|/messages(/count_tokens)?"
    r"|/(models|tunedModels)(/[^/]+)?)$"
)
_VERSION: Final = re.compile(r"/v\d+(alpha|beta)?\d*(/|$)")
_DOUBLED: Final = re.compile(r"(/v\d+(?:beta)?)\1$")
_AZURE: Final = re.compile(r"/openai(/.*)?$")
_CLOUD: Final = re.compile(r"/(projects|publishers|model)/.*$")
_ROOTS: Final[dict[DialectName, str]] = {
    "openai_chat": "/v1",
    "openai_responses": "/v1",
    "anthropic": "/v1",
    "gemini": "/v1beta",
}


def settled(dialect: DialectName, platform: str, url: str) -> tuple[str, list[str]]:
    """An http(s) URL without query as the base URL of a dialect, and what was changed in it, one sentence each.

    Full addresses of a call lose what the gateway appends itself. A missing version is added where
    the dialect's usual one must be meant: where nothing but a host was given, and for Anthropic,
    whose own tools want base URLs without it.
    """
    parts = urlsplit(url)
    path, told = parts.path.rstrip("/"), []
    for pattern, why in _cuts(platform):
        cut = pattern.sub(r"\1" if pattern is _DOUBLED else "", path).rstrip("/")
        if cut != path:
            told.append(f"{path} became {cut or '/'}: {why}")
            path = cut
    added = _root(dialect, platform, path)
    if added:
        told.append(f"{added} was added to the base URL: that is where the API is")
        path += added
    return urlunsplit((parts.scheme, parts.netloc, path, "", "")), told


def _cuts(platform: str) -> list[tuple[re.Pattern[str], str]]:
    appended = "the gateway appends the rest itself"
    match platform:
        case "azure":
            return [(_AZURE, appended)]
        case "vertex" | "bedrock":
            return [(_CLOUD, appended)]
        case _:
            return [(_ENDPOINTS, appended), (_DOUBLED, "the version was there twice")]


def _root(dialect: DialectName, platform: str, path: str) -> str:
    match platform:
        case "azure" | "bedrock":
            return ""
        case "vertex":
            return "" if path else "/v1"
        case _ if not path:
            return _ROOTS[dialect]
        case _ if dialect == "anthropic" and not _VERSION.search(path):
            return "/v1"
        case _:
            return ""


def has_version(url: str) -> bool:
    """Whether a URL's path names an API version."""
    return _VERSION.search(urlsplit(url).path) is not None
