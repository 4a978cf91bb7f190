"""`tollway config`: every setting, its value and where the value comes from, secrets masked."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from tollway.cli.common import DEFAULT, Common, settings
from tollway.cli.output import field, one, rows

MASK: Final = "********"
SECRETS: Final = frozenset({"instance_key", "jobs_secret"})
URLS: Final = frozenset({"database_url", "redis_url"})


def config(*, common: Common = DEFAULT) -> None:
    """Print every setting with its value and source. Flags win over environment, file and default."""
    found = listed(common)
    if common.format == "json":
        one(common, {row["name"]: {"value": row["value"], "source": row["source"]} for row in found}, ())
    else:
        columns = (field("name"), field("value"), field("source"), field("variable"))
        rows(common, found, columns, empty="")


def listed(common: Common) -> list[dict[str, Any]]:
    """Every setting: name, value without secrets, source, and the variable that sets it."""
    import msgspec

    from tollway.config import FILE_NAME, PREFIX, Settings

    found = settings(common)
    file = Path(found.data) / FILE_NAME
    in_file = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    shown = []
    for name in (one_field.name for one_field in msgspec.structs.fields(Settings)):
        variable = PREFIX + name.upper()
        source = _source(name, common.flags(), os.environ, in_file, str(file))
        shown.append(
            {
                "name": name,
                "value": masked(name, getattr(found, name)),
                "source": source,
                "variable": variable,
            }
        )
    return shown


def masked(name: str, value: object) -> object:
    """A setting's value as it may be shown."""
    if name in SECRETS and value:
        return MASK
    if name in URLS and value:
        return without_password(str(value))
    return value


def without_password(url: str) -> str:
    """A URL whose password, in the authority or the query, is masked."""
    try:
        parts = urlsplit(url)
        user, at, host = parts.netloc.rpartition("@")
        name, colon, _ = user.partition(":")
        authority = f"{name}{colon}{MASK if colon else ''}{at}{host}"
        query = MASK if "password" in parts.query.lower() else parts.query
        return urlunsplit((parts.scheme, authority, parts.path, query, ""))
    except ValueError:
        return MASK


def _source(
    name: str, flags: Mapping[str, Any], environ: Mapping[str, str], in_file: Mapping[str, Any], file: str
) -> str:
    from tollway.config import PREFIX

    if flags.get(name) is not None:
        return "flag"
    if PREFIX + name.upper() in environ:
        return "environment"
    return file if name in in_file else "default"
