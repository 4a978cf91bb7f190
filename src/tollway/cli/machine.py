"""What the doctor looks at outside the database: interpreter, data folder, disk, limits, clock, port."""

from __future__ import annotations

import ipaddress
import os
import platform
import shutil
import socket
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tollway.upstream.secrets import FILE_NAME as KEY_NAME

if TYPE_CHECKING:
    from tollway.config import Settings

Finding = dict[str, Any]
"""One thing looked at: check, verdict (ok, warning, failed, skipped), detail, fix."""

PYTHON_MIN: Final = (3, 11)
SQLITE_MIN: Final = (3, 37, 0)
DISK_FAILED: Final = 100 * 1024 * 1024
DISK_WARNING: Final = 1024 * 1024 * 1024
FILES_MIN: Final = 4096
RELEASED: Final = 1_760_000_000
"""Unix seconds before this version was written: a clock behind it is wrong."""


def finding(check: str, verdict: str, detail: str, fix: str = "") -> Finding:
    """A finding as data."""
    return {"check": check, "verdict": verdict, "detail": detail, "fix": fix}


def python(_: Settings) -> Finding:
    """The interpreter's version."""
    if sys.version_info[:2] < PYTHON_MIN:
        return finding("python", "failed", platform.python_version(), "Install Python 3.11 or newer")
    return finding("python", "ok", f"{platform.python_implementation()} {platform.python_version()}")


def sqlite(found: Settings) -> Finding:
    """SQLite's version; STRICT tables need 3.37."""
    import sqlite3

    if sqlite3.sqlite_version_info < SQLITE_MIN and not found.database_url:
        return finding(
            "sqlite",
            "failed",
            f"{sqlite3.sqlite_version}, older than 3.37",
            "Use a newer Python, or PostgreSQL",
        )
    return finding("sqlite", "ok", sqlite3.sqlite_version)


def folder(found: Settings) -> Finding:
    """Whether the data folder is there and can be written to."""
    path = Path(found.data)
    if not path.exists():
        return finding("data folder", "skipped", f"{path} does not exist yet", "tollway serve")
    if not path.is_dir():
        return finding("data folder", "failed", f"{path} is not a folder", "--data ANOTHER")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return finding("data folder", "failed", f"{path} cannot be written to", f"chown $(id -u) {path}")
    return finding("data folder", "ok", str(path.absolute()))


def permissions(found: Settings) -> Finding:
    """Whether other users can look into the data folder."""
    path = Path(found.data)
    if not path.is_dir():
        return finding("permissions", "skipped", "no data folder yet")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o002:
        return finding("permissions", "failed", f"everybody may write to {path}", f"chmod 700 {path}")
    if mode & 0o055:
        return finding("permissions", "warning", f"other users may look into {path}", f"chmod 700 {path}")
    return finding("permissions", "ok", f"{mode:o}")


def key_file(found: Settings) -> Finding:
    """Whether the instance key's file is for its owner only."""
    if found.instance_key:
        return finding("key file", "ok", "TOLLWAY_INSTANCE_KEY is used instead")
    path = Path(found.data) / KEY_NAME
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return finding("key file", "skipped", "no instance key yet")
    if mode & 0o077:
        return finding("key file", "failed", f"other users may read {path} ({mode:o})", f"chmod 600 {path}")
    return finding("key file", "ok", f"{path} ({mode:o}); back it up apart from the database")


def disk(found: Settings) -> Finding:
    """Free space where the data folder is, or will be."""
    path = Path(found.data).absolute()
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    shown = f"{free / 1024**3:.1f} GiB free"
    if free < DISK_FAILED:
        return finding("disk", "failed", shown, f"Free some space on the disk of {path}")
    if free < DISK_WARNING:
        return finding("disk", "warning", shown, f"Free some space on the disk of {path}")
    return finding("disk", "ok", shown)


def open_files(_: Settings) -> Finding:
    """How many files and connections the process may have open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_MIN:
        return finding(
            "open files",
            "warning",
            f"at most {soft}; a busy gateway needs more",
            f"ulimit -n {min(hard, 65_536)}",
        )
    return finding("open files", "ok", f"at most {soft}")


def system_clock(found: Settings) -> Finding:
    """Whether this machine's clock can be right: not before this version, nor before its own database."""
    now = time.time()
    fix = "timedatectl set-ntp true"
    if now < RELEASED:
        return finding("system clock", "failed", "it is behind this program's making", fix)
    database = Path(found.data) / "tollway.db"
    if database.is_file() and database.stat().st_mtime > now + 60:
        return finding("system clock", "failed", "the database was written in the future", fix)
    return finding("system clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def address(found: Settings) -> Finding:
    """Whether the address and the public URL fit each other."""
    if found.public_url and not found.public_url.startswith(("https://", "http://")):
        return finding(
            "address",
            "failed",
            f"public_url {found.public_url!r} is no URL",
            "TOLLWAY_PUBLIC_URL=https://gw.example.com",
        )
    try:
        local = ipaddress.ip_address(found.host).is_loopback
    except ValueError:
        local = found.host == "localhost"
    scheme = "https" if found.tls_cert else "http"
    if not local and scheme == "http" and not found.public_url.startswith("https://"):
        return finding(
            "address",
            "warning",
            f"{found.host} can be reached by others, and no https public_url is set",
            "Set tls_cert, or put a TLS proxy in front and set TOLLWAY_PUBLIC_URL=https://…",
        )
    return finding("address", "ok", found.public_url or f"{scheme}://{found.host}:{found.port}")


def port_problem(host: str, port: int) -> str:
    """Why an address cannot be listened on, or "" if it can."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
    except (OSError, OverflowError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""
