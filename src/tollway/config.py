"""Settings: one frozen value, read once, from flags over environment over file over defaults.

Every setting has one name: `port` is the flag `--port`, the variable `TOLLWAY_PORT` and the key
`port` of `tollway.toml` in the data folder. An unknown TOLLWAY_ variable or key is an error,
because a setting that is silently ignored is worse than one that is refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

PREFIX: Final = "TOLLWAY_"
FILE_NAME: Final = "tollway.toml"
SECRET_MIN: Final = 16
DAYS_MAX: Final = 36_500
WORKERS_MAX: Final = 256


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a process is told from outside. Durations are seconds, sizes bytes."""

    data: str = "tollway-data"
    """Folder for the SQLite database, the instance key and the control socket."""
    host: str = "127.0.0.1"
    port: int = 8800
    public_url: str = ""
    """How clients reach the gateway, e.g. https://gw.example.com; "" means http://host:port."""
    database_url: str = ""
    """postgresql://user:password@host/name, or "" for SQLite in the data folder."""
    ballast: int = 64 * 1024 * 1024
    """Bytes of a file in the data folder that is deleted when the disk is full, so that calls can be settled; 0: none."""
    redis_url: str = ""
    """redis://host:port/0 to share limits among processes, or "" for limits in memory."""
    instance_key: str = ""
    """32 bytes in base64 that seal upstream credentials and key digests; "" reads or makes DATA/instance.key."""
    key_prefix: str = "sk-tw-"
    opening_credits: str = "1000"
    """Credits granted to the first account of an empty database."""
    sandbox: bool = True
    """Whether an empty database starts with the sandbox provider enabled."""
    trusted_proxies: str = ""
    """Comma-separated CIDRs whose X-Forwarded-For is believed."""
    body_max: int = 32 * 1024 * 1024
    answer_max: int = 64 * 1024 * 1024
    """Largest whole (non-streamed) answer read from an upstream."""
    connections_max: int = 20_000
    calls_max: int = 4_000
    """Calls in flight per process; beyond it calls are shed with 503."""
    memory_max: int = 0
    """Memory one process may use; at three quarters of it calls are shed. 0 is the container's or the machine's, shared among the workers."""
    workers: int = 1
    """Processes that serve; more than one needs PostgreSQL."""
    tls_cert: str = ""
    """File with the server's certificate and those that lead to its root, or "" for plain HTTP."""
    tls_key: str = ""
    """File with the certificate's private key, or "" where it is in `tls_cert` too."""
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    """Seconds a request body may take, plus one second per KiB."""
    keep_alive_timeout: float = 75.0
    write_timeout: float = 60.0
    """Seconds in which a client must read at least 1 KiB/s of what waits for it, or be cut off."""
    accept_grace: float = 5.0
    """Seconds new connections are still accepted after SIGTERM, so that a balancer notices first."""
    drain_timeout: float = 120.0
    """Seconds open answers may take to finish after SIGTERM."""
    connect_timeout: float = 5.0
    first_byte_timeout: float = 60.0
    idle_timeout: float = 60.0
    total_timeout: float = 600.0
    stream_timeout: float = 1800.0
    stream_keep_alive: float = 15.0
    """Seconds of silence after which a stream's client is sent something that means nothing."""
    fetch_allow: str = ""
    """Comma-separated hosts and CIDRs that URLs given by users may lead to although they are not public."""
    fetch_ports: str = "80, 443"
    """Comma-separated ports that such URLs may name; hosts of `fetch_allow` may be reached on any."""
    fetch_max: int = 20 * 1024 * 1024
    """Largest file fetched from a URL that a user gave."""
    fetch_timeout: float = 20.0
    """Seconds such a fetch may take, redirects included."""
    call_days: int = 90
    """Days calls and their attempts are kept; what they add up to stays. 0 keeps them for ever."""
    job_run_days: int = 30
    """Days the history of jobs is kept; 0 keeps it for ever."""
    scheduler: bool = True
    """Whether this process runs jobs that are due."""
    jobs_secret: str = ""
    """What callers of /api/internal/jobs must know, at least 16 characters; "" means there are no such endpoints."""
    credit_leases: Literal["auto", "on", "off"] = "auto"
    """Whether the calls of a busy wallet are held within credits that are held for many at once; auto: on SQLite."""
    log_level: str = "info"
    responses_days: int = 30
    """Days a response of the Responses API is kept; 0 keeps none."""
    responses_max: int = 32 * 1024 * 1024
    """Largest conversation kept for the Responses API, in bytes of JSON."""
    show_amounts: bool = True
    """Whether refusals name balances and limits in credits."""


class BadSettings(ValueError):
    """A setting that is unknown or has an impossible value; the message names where it came from."""


def load(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Merge flags, environment, file and defaults. Raises BadSettings."""
    known = {field.name for field in msgspec.structs.fields(Settings)}
    from_env: dict[str, Any] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in known:
            raise BadSettings(f"unknown setting {variable} in the environment; {_closest(name, known)}")
        from_env[name] = value
    given = {name: value for name, value in flags.items() if value is not None}
    folder = Path(str(given.get("data") or from_env.get("data") or Settings().data))
    merged = {**_from_file(folder / FILE_NAME, known), **from_env, **given}
    try:
        found = msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadSettings(f"bad setting: {error}") from None
    _check(found)
    return found


def _check(found: Settings) -> None:
    """Refuse values that are of their type and yet no use."""
    if 0 < len(found.jobs_secret) < SECRET_MIN:
        raise BadSettings(f"bad setting: jobs_secret has fewer than {SECRET_MIN} characters")
    if found.ballast < 0:
        raise BadSettings("bad setting: ballast is 0 or more bytes")
    for name in ("call_days", "job_run_days"):
        if not 0 <= getattr(found, name) <= DAYS_MAX:
            raise BadSettings(f"bad setting: {name} is 0 to {DAYS_MAX} days")
    if not 1 <= found.workers <= WORKERS_MAX:
        raise BadSettings(f"bad setting: workers is 1 to {WORKERS_MAX}")
    if found.workers > 1 and not found.database_url:
        raise BadSettings(
            "bad setting: workers needs database_url, because only one process may write to a SQLite database"
        )
    if found.memory_max < 0:
        raise BadSettings("bad setting: memory_max is negative")
    if found.tls_key and not found.tls_cert:
        raise BadSettings("bad setting: tls_key is a key to no certificate; set tls_cert too")


def _from_file(path: Path, known: set[str]) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} cannot be read: {error}") from None
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"{path} is not valid TOML: {error}") from None
    for name in found:
        if name not in known:
            raise BadSettings(f"unknown setting {name!r} in {path}; {_closest(name, known)}")
    return found


def _closest(name: str, known: set[str]) -> str:
    import difflib  # noqa: PLC0415 - only on the way to an error

    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "see `tollway config` for all of them"
