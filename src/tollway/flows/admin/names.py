"""What names, addresses and patterns may look like, and the refusals of those that may not."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from tollway.flows.admin.refusals import invalid
from tollway.upstream.channels import SANDBOX_URL

ACCOUNT: Final = "main"
"""The account of a fresh instance, and the one meant where none is named."""
PROJECT: Final = "default"
"""The project every account starts with, and the one meant where none is named."""

_NAME: Final = re.compile(r"[^\W_](?:[\w .:@+-]{0,62}[\w])?")
_MODEL: Final = re.compile(r"[\w][\w.:/@+-]{0,127}", re.ASCII)
_GLOB: Final = re.compile(r"[\w.:/@+*?-]{1,128}", re.ASCII)
_GROUP: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_EMAIL: Final = re.compile(r"[^\s@]{1,64}@[^\s@]{1,190}")
_URL_MAX: Final = 2048


def name(value: str, noun: str) -> str:
    """A name of 1 to 64 letters, digits, spaces and . : @ + - _ that starts with a letter or digit."""
    if not _NAME.fullmatch(value):
        invalid(
            f"{value[:80]!r} cannot name a {noun}",
            "A name has 1 to 64 letters, digits, spaces or . : @ + - _ and starts with a letter or digit.",
        )
    return value


def model(value: str) -> str:
    """A model's name: 1 to 128 ASCII letters, digits and . : / @ + - _."""
    if not _MODEL.fullmatch(value):
        invalid(
            f"{value[:140]!r} cannot name a model",
            "A model's name has 1 to 128 ASCII letters, digits or . : / @ + - _ and starts with a letter or digit.",
        )
    return value


def fits_model(value: str) -> bool:
    """Whether a text may name a model."""
    return _MODEL.fullmatch(value) is not None


def upstream_model(value: str) -> str:
    """What an upstream calls a model: 1 to 256 printable characters."""
    if not 0 < len(value) <= 256 or not value.isprintable():
        invalid(f"{value[:80]!r} cannot be an upstream's model", "It has 1 to 256 printable characters.")
    return value


def model_glob(value: str) -> str:
    """A model's name in which * and ? stand for others."""
    if not _GLOB.fullmatch(value):
        invalid(
            f"{value[:140]!r} is no pattern of model names",
            "It may hold what a model's name may, and * and ? as wildcards.",
            "--allow-model 'gpt-*'",
        )
    return value


def group(value: str) -> str:
    """A group: 1 to 32 lower-case letters, digits, - and _."""
    if not _GROUP.fullmatch(value):
        invalid(
            f"{value[:40]!r} cannot name a group",
            "A group has 1 to 32 lower-case letters, digits, - or _.",
            "--group default",
        )
    return value


def email(value: str) -> str:
    """An e-mail address, in lower case."""
    if not _EMAIL.fullmatch(value) or not value.isprintable():
        invalid(f"{value[:80]!r} is no e-mail address", "It must look like name@host.")
    return value.lower()


def network(value: str) -> str:
    """An IP address or CIDR block, in its canonical form."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        invalid(
            f"{value[:80]!r} is no network",
            "A network is an IPv4 or IPv6 address or CIDR block.",
            "--allow-ip 203.0.113.0/24",
        )


def base_url(value: str) -> str:
    """An upstream's base URL without its trailing slash."""
    if value == SANDBOX_URL:
        return value
    _check_characters(value)
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - reading it is what validates it
    except ValueError as error:
        invalid(f"{value!r} is no base URL", f"{str(error).capitalize()}.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        invalid(
            f"{value!r} is no base URL",
            "A base URL starts with http:// or https:// and names a host.",
            "--base-url https://api.openai.com/v1",
        )
    if "@" in parts.netloc:
        invalid(
            "The base URL holds a user name or password",
            "Credentials in URLs end up in logs; a channel keeps its credential sealed.",
            "Remove it from the URL and pass the credential by --secret-env NAME",
        )
    if parts.query or parts.fragment or value.endswith(("?", "#")):
        invalid(f"{value!r} is no base URL", "Requests append a path to it, so it has no query or fragment.")
    return value.rstrip("/")


def plain_http_hint(value: str) -> list[str]:
    """What there is to say of a base URL that does not encrypt."""
    parts = urlsplit(value)
    if parts.scheme == "http" and not _is_local(parts.hostname or ""):
        return ["The base URL is plain http: the credential and every prompt travel unencrypted"]
    return []


def _check_characters(value: str) -> None:
    if len(value) > _URL_MAX or not value.isascii() or not value.isprintable() or " " in value:
        invalid(
            f"{value[:80]!r} is no base URL",
            f"A URL has at most {_URL_MAX} printable ASCII characters and no spaces.",
        )


def _is_local(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or "." not in host
