"""What is asked for when a channel is added, checked and completed from its preset."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final, NoReturn
from urllib.parse import parse_qs, urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from tollway.core.exchange import DialectName
from tollway.core.json import decode, encode
from tollway.core.routing.targets import KNOWN, NOT_TARGET, fault_of
from tollway.flows.admin import names
from tollway.flows.admin.refusals import invalid, nearest, unknown
from tollway.upstream import addresses
from tollway.upstream.channels import DIALECTS, SANDBOX_URL
from tollway.upstream.presets import OPTION, PRESETS, Preset
from tollway.upstream.secrets import Secret

PRIORITY_MAX: Final = 1000
WEIGHT_MAX: Final = 1_000_000
AUTO: Final = "auto"
"""In place of a model's name: all that the upstream lists."""

PLATFORMS: Final = ("azure", "bedrock", "vertex")
PLACES: Final = ("api_version", "location", "project", "region", "resource")
"""What may be told of where a channel is; `resource` only fills in a preset's address."""

SECRET_MAX: Final = 16 * 1024
HEADERS_MAX: Final = 20

_TIMEOUTS: Final = ("connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout")
_SWITCHES: Final = ("bills_after_cancel",)
_PLACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,62}")
_BLANK: Final = re.compile(r"\{(\w+)\}")
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_NOT_HEADERS: Final = re.compile(
    r"(proxy-)?authorization|cookie|.*api[-_]?key.*|.*(secret|token|credential).*|host|connection|content-.*"
    r"|transfer-encoding|te|trailer|upgrade|expect|keep-alive|accept(-encoding)?|user-agent|x-request-id",
    re.IGNORECASE,
)


class AddChannel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel to add.

    `preset` fills in what is left out: name, address, dialect, quirks. `place`: see PLACES. `exact`:
    the base URL is taken as it is written. `models`: "public=upstream", a name that is the same on
    both sides, or "auto". Prices are credits per 10^6 tokens and apply to models that do not exist
    yet. `options`: timeouts in seconds; `quirks`: see `core/routing/targets.py`; `headers` are sent
    with every request. `secret` is sealed at once and never shown again.
    """

    name: str = ""
    base_url: str = ""
    dialect: str = ""
    preset: str = ""
    platform: str = ""
    place: dict[str, str] = {}
    exact: bool = False
    secret: str | None = None
    models: tuple[str, ...] = ()
    groups: tuple[str, ...] = ("default",)
    priority: int = 0
    weight: int = 1
    input_price: Decimal | None = None
    output_price: Decimal | None = None
    options: dict[str, float] = {}
    quirks: dict[str, Any] = {}
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"AddChannel(name={self.name!r}, base_url={self.base_url!r})"


class Settled(Struct, frozen=True):
    """Where a new channel is and how it is spoken to, with remarks for its owner."""

    name: str
    dialect: DialectName
    base_url: str
    options: dict[str, Any]
    hints: tuple[str, ...]


def settle(request: AddChannel) -> Settled:
    """The request with its preset's facts and its address put right. Raises Refused."""
    preset = _preset(request.preset)
    name = request.name or (preset.name if preset else "")
    names.name(name, "channel")
    dialect = _dialect(request.dialect, preset)
    platform = request.platform or (preset.platform if preset else "")
    if platform and platform not in PLATFORMS:
        _unknown("platform", platform, PLATFORMS)
    check_order(request.priority, request.weight, request.groups)
    place = _checked_place(request.place)
    base_url, found, hints = _address(request, preset, (dialect, platform), place)
    if base_url == SANDBOX_URL and request.secret is not None:
        invalid("The sandbox takes no credential", "It runs inside the gateway.")
    options: dict[str, Any] = {**checked_options(request.options)}
    options |= {key: value for key, value in {**found, **place}.items() if key != "resource"}
    if platform:
        options["platform"] = platform
    if preset is not None:
        options[OPTION] = preset.name
    if request.quirks:
        options["quirks"] = checked_quirks(request.quirks)
    if request.headers:
        options["headers"] = checked_headers(request.headers)
    return Settled(name, dialect, base_url, options, tuple(hints))


def _preset(name: str) -> Preset | None:
    if not name:
        return None
    if name not in PRESETS:
        unknown("preset", name, PRESETS)
    return PRESETS[name]


def _dialect(asked: str, preset: Preset | None) -> DialectName:
    if not asked:
        return preset.dialect if preset else "openai_chat"
    found = next((known for known in DIALECTS if asked == known), None)
    if found is None:
        _unknown("upstream dialect", asked, DIALECTS)
    return found


def _unknown(noun: str, asked: str, known: tuple[str, ...]) -> NoReturn:
    near = nearest(asked, known)
    invalid(
        f"There is no {noun} {asked!r}",
        f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known)}.",
    )


def _checked_place(place: dict[str, str]) -> dict[str, str]:
    for name, value in place.items():
        if name not in PLACES:
            _unknown("setting", name, PLACES)
        if not _PLACE.fullmatch(value):
            invalid(f"The {name} {value[:80]!r} is not possible", "It has letters, digits and . : -")
    return place


def _address(
    request: AddChannel, preset: Preset | None, kind: tuple[DialectName, str], place: dict[str, str]
) -> tuple[str, dict[str, str], list[str]]:
    """The base URL, what else its text told, and hints."""
    dialect, platform = kind
    if not request.base_url:
        return _presets_address(preset, dialect, place), {}, []
    given, found = _without_version_query(request.base_url, platform)
    url = names.base_url(given)
    if url == SANDBOX_URL:
        return url, {}, []
    hints = names.plain_http_hint(url)
    if request.exact:
        return url, found, hints
    url, changed = addresses.settled(dialect, platform, url)
    hints = [f"{one} (--exact-url keeps it as it was written)" for one in changed] + hints
    if not (platform or preset or addresses.has_version(url)):
        hints.append(
            f"The base URL has no version in its path; most OpenAI-compatible upstreams want {url}/v1"
        )
    return url, found, hints


def _without_version_query(url: str, platform: str) -> tuple[str, dict[str, str]]:
    """Azure's addresses are copied with the API version behind them."""
    if platform != "azure" or "?" not in url:
        return url, {}
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, {}
    query = parse_qs(parts.query)
    if set(query) != {"api-version"}:
        return url, {}
    return urlunsplit(parts._replace(query="")), _checked_place({"api_version": query["api-version"][0]})


def _presets_address(preset: Preset | None, dialect: DialectName, place: dict[str, str]) -> str:
    if preset is None:
        invalid(
            "The channel has no base URL",
            "Nothing says where the upstream is.",
            "--base-url URL, or --preset NAME",
        )
    template = preset.bases.get(dialect)
    if template is None:
        invalid(
            f"{preset.title} does not speak {dialect}",
            f"It speaks: {', '.join(preset.bases)}.",
            f"--dialect {preset.dialect}",
        )
    if place.get("location") == "global":
        template = template.replace("{location}-", "")
    for blank in _BLANK.findall(template):
        if blank not in place:
            invalid(
                f"The address of {preset.title} needs its {blank}",
                f"It is {template}",
                f"--set {blank}=VALUE, or --base-url URL",
            )
    return _BLANK.sub(lambda found: place[found[1]], template)


def check_order(priority: int, weight: int, groups: tuple[str, ...]) -> None:
    """What decides in which order channels are tried. Raises Refused."""
    for group in groups:
        names.group(group)
    if not groups:
        invalid("The channel has no group", "Keys reach channels by group.", "--group default")
    if not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        invalid(f"A priority of {priority} is not possible", "It is -1000 to 1000; lower goes first.")
    if not 0 < weight <= WEIGHT_MAX:
        invalid(f"A weight of {weight} is not possible", f"It is 1 to {WEIGHT_MAX}.")


def checked_options(options: dict[str, float]) -> dict[str, float]:
    """Timeouts in seconds, and what may be switched on (1) or off (0), by name. Raises Refused."""
    for option, value in options.items():
        good = 0 < value <= 86_400 if option in _TIMEOUTS else option in _SWITCHES and value in (0, 1)
        if not good:
            known = ", ".join(f"{name}=SECONDS" for name in _TIMEOUTS)
            switches = ", ".join(f"{name}=1" for name in _SWITCHES)
            invalid(f"The option {option}={value} is not possible", f"Options: {known}, {switches}.")
    return dict(options)


def checked_quirks(quirks: dict[str, Any], *, of_route: bool = False) -> dict[str, Any]:
    """Quirks that exist and make sense; a route's cannot change finished bodies. Raises Refused."""
    for name, value in quirks.items():
        fault = fault_of(name, value)
        if name not in KNOWN:
            _unknown("quirk", name, tuple(KNOWN))
        if fault:
            invalid(f"The quirk {name}={encode(value).decode()[:80]} is not possible", f"It {fault}.")
        if of_route and name in NOT_TARGET:
            invalid(f"The quirk {name} holds for a whole channel", "It is not set for one model.")
    return dict(quirks)


def checked_headers(headers: dict[str, str]) -> dict[str, str]:
    """Headers that hold no credential and that are ours to send. Raises Refused."""
    if len(headers) > HEADERS_MAX:
        invalid(f"{len(headers)} headers are too many", f"A channel has at most {HEADERS_MAX}.")
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or _NOT_HEADERS.fullmatch(name):
            invalid(
                f"The header {name[:80]!r} cannot be set",
                "A channel's headers are shown to whoever may see the channel, so they hold no credentials;"
                " and some belong to the gateway.",
            )
        if not 0 < len(value) <= 1024 or not value.isascii() or not value.isprintable():
            invalid(
                f"The header {name} has an impossible value", "It has 1 to 1024 printable ASCII characters."
            )
    return {name.lower(): value for name, value in headers.items()}


def credential(secret: str) -> Secret:
    """A credential on one line; a JSON document, which providers hand out on many, is put on one. Raises Refused."""
    stripped = secret.strip()
    if not stripped:
        invalid(
            "The credential is empty",
            "",
            "Set the variable, or leave the option out for upstreams without one",
        )
    if stripped.startswith("{"):
        try:
            stripped = encode(decode(stripped)).decode()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            invalid(
                "The credential is not JSON", "It starts like a JSON document, and does not go on like one."
            )
    if len(stripped) > SECRET_MAX or not stripped.isascii() or not stripped.isprintable():
        invalid(
            "The credential cannot be sent",
            f"It must be one line of at most {SECRET_MAX} printable ASCII characters, or a JSON document.",
        )
    return Secret(stripped)


def hint_of(secret: Secret) -> str:
    """What may be shown of a credential: the end of a key, or the name of a service account."""
    text = secret.reveal()
    if text.startswith("{"):
        email = decode(text).get("client_email")
        return email if type(email) is str and len(email) <= 200 else "…"
    return f"…{text[-4:]}" if len(text) >= 16 else "…"
