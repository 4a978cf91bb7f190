"""URLs that users gave, read once and strictly: what is checked is what is fetched.

The pieces of a Place go to the HTTP library as they are; no second parser ever sees the text.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NoReturn, cast
from urllib.parse import urljoin

from msgspec import Struct

from tollway.core.addresses import Address, read_address
from tollway.upstream.guard_faults import FetchFault

URL_MAX: Final = 8_192
_PORTS: Final = {"http": 80, "https": 443}
_URL: Final = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY: Final = re.compile(
    r"(?:\[([0-9a-f:.]+)\]|([^\[\]:%]+))(?::([0-9]{1,5}))?", re.IGNORECASE | re.ASCII
)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")
_NAME_MAX: Final = 253


class Place(Struct, frozen=True):
    """Where a URL leads. `host`: a name in lower-case ASCII, or an address without brackets. `target`: path and query."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str

    @property
    def address(self) -> Address | None:
        """The host as an address, if it is one and no name."""
        return read_address(self.host)

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def read_url(url: str) -> Place:
    """The place a URL leads to; its fragment is dropped. Raises FetchFault, kind bad_url."""
    if not url or len(url) > URL_MAX:
        _refuse(f"must have 1 to {URL_MAX} characters")
    if _UNSAFE.search(url):
        _refuse("must not hold blanks, control characters or backslashes")
    found = _URL.fullmatch(url.partition("#")[0])
    if found is None:
        _refuse("must begin with https:// or http://")
    scheme = cast("Literal['http', 'https']", found[1].lower())
    host, port = _read_authority(found[2])
    return Place(scheme, host, _PORTS[scheme] if port is None else port, _target(found[3]))


def joined(place: Place, location: bytes) -> str:
    """Where a redirect of `place` points, as a URL that is yet to be read. Raises FetchFault, kind redirect."""
    try:
        return urljoin(f"{place.scheme}://{place.authority}{place.target}", location.decode())
    except ValueError:
        raise FetchFault("redirect", f"{place.host} redirects to something that is no URL") from None


def _read_authority(authority: str) -> tuple[str, int | None]:
    if "@" in authority:
        _refuse("must not hold a user name or password")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        _refuse("must name a host, and a port only in digits")
    port = int(found[3]) if found[3] else None
    if port is not None and not 0 < port < 65_536:
        _refuse("must name a port from 1 to 65535")
    return _literal(found[1]) if found[1] else _name(found[2]), port


def _literal(text: str) -> str:
    address = read_address(text) if ":" in text else None
    if address is None:
        _refuse("must hold nothing but an IPv6 address in its brackets")
    return str(address)


def _name(text: str) -> str:
    name = (text if text.isascii() else _ascii(text)).lower()
    labels = name.split(".")
    if len(name) > _NAME_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        _refuse("must name a host by letters, digits, hyphens and single dots")
    # Resolvers take 127.1, 0x7f000001 and 017700000001 for addresses: whoever means one writes it in full.
    if _NUMBER.fullmatch(labels[-1]) and read_address(name) is None:
        _refuse("must write an IPv4 address as four decimal numbers")
    return name


def _ascii(name: str) -> str:
    import idna  # noqa: PLC0415 - large tables, for the few names that are not ASCII

    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except UnicodeError:
        _refuse("must name a host that exists in the domain name system")


def _target(text: str) -> str:
    if not text.startswith("/"):
        text = f"/{text}"
    if text.isascii():
        return text
    try:
        return "".join(
            one if one.isascii() else "".join(f"%{byte:02X}" for byte in one.encode()) for one in text
        )
    except UnicodeEncodeError:
        _refuse("must be valid Unicode")


def _refuse(why: str) -> NoReturn:
    raise FetchFault("bad_url", f"the URL {why}")
