"""Bringing a database to the schema this version serves, and refusing one it cannot serve.

A revision is a folder of SQL scripts per database below `sql`; a statement ends where an empty
line follows. An empty database gets all scripts at once; one that holds data is upgraded by
Alembic, which runs the same scripts, so there is one truth and Alembic is imported only then.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct
from sqlalchemy import Connection

from tollway.store.base import UnknownSchema
from tollway.store.schema import metadata

HERE: Final = Path(__file__).parent
BEGINNING: Final = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"

State = Literal["empty", "older", "current"]


class Scripts(Struct, frozen=True):
    """Where revisions are and which there are, oldest first; a test ties them to Alembic's own list."""

    folder: Path = HERE
    revisions: tuple[str, ...] = ("0001", "0002", "0003", "0004", "0005", "0006")

    @property
    def head(self) -> str:
        return self.revisions[-1]

    def statements(self, revision: str, engine: str) -> list[str]:
        """The statements of one revision for "sqlite" or "postgresql", in order."""
        files = sorted((self.folder / "sql" / revision / engine).glob("*.sql"))
        return [
            one for file in files for one in file.read_text(encoding="utf-8").strip().split("\n\n") if one
        ]

    def triggers(self, engine: str) -> set[str]:
        """The names of the triggers a complete database has."""
        found: set[str] = set()
        for revision in self.revisions:
            for statement in self.statements(revision, engine):
                found.update(re.findall(r"CREATE TRIGGER (\w+)", statement))
                found.difference_update(re.findall(r"DROP TRIGGER (?:IF EXISTS )?(\w+)", statement))
        return found


SCRIPTS: Final = Scripts()

_TABLES: Final = {
    "sqlite": "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'",
    "postgresql": "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace",
}
_TRIGGERS: Final = {
    "sqlite": "SELECT name FROM sqlite_schema WHERE type = 'trigger'",
    "postgresql": (
        "SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND c.relnamespace = current_schema()::regnamespace"
    ),
}


def inspect(conn: Connection, where: str, scripts: Scripts = SCRIPTS) -> State:
    """What must be done to a database before it is served. `where` names it in messages.

    Raises UnknownSchema for one that is foreign, newer or half migrated, with what to do.
    """
    tables = _names(conn, _TABLES)
    if not tables:
        return "empty"
    if "alembic_version" not in tables:
        raise UnknownSchema(
            f"{where} holds tables that are not Tollway's; point --data or TOLLWAY_DATABASE_URL at an empty database"
        )
    versions = list(conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())
    if len(versions) != 1:
        raise _half(where, f"it names {len(versions)} schema versions instead of one")
    version = versions[0]
    if version not in scripts.revisions:
        raise _unknown(where, version, scripts)
    if version != scripts.head:
        return "older"
    missing = metadata.tables.keys() - tables or scripts.triggers(conn.dialect.name) - _names(conn, _TRIGGERS)
    if missing:
        raise _half(where, f"it lacks {', '.join(sorted(missing))}")
    return "current"


def create(conn: Connection, scripts: Scripts = SCRIPTS) -> None:
    """Give an empty database the whole schema, inside the caller's transaction."""
    for revision in scripts.revisions:
        for statement in scripts.statements(revision, conn.dialect.name):
            conn.exec_driver_sql(statement)
    conn.exec_driver_sql(BEGINNING)
    conn.exec_driver_sql(f"INSERT INTO alembic_version (version_num) VALUES ('{scripts.head}')")  # noqa: S608 - our own constant


def upgrade(conn: Connection, where: str, scripts: Scripts = SCRIPTS) -> None:
    """Run the revisions a database lacks, inside the caller's transaction. Raises UnknownSchema."""
    from alembic import command  # noqa: PLC0415 - costs 0.4 s, and almost no start needs it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(scripts.folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    config.attributes["scripts"] = scripts
    try:
        command.upgrade(config, "head")
    except (DBAPIError, CommandError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise _half(where, f"the upgrade to {scripts.head} failed ({cause})") from error


def _names(conn: Connection, queries: dict[str, str]) -> set[str]:
    return set(conn.exec_driver_sql(queries[conn.dialect.name]).scalars())


def _unknown(where: str, version: str, scripts: Scripts) -> UnknownSchema:
    if re.fullmatch(r"\d{4}", version) and version > scripts.head:
        return UnknownSchema(
            f"{where} has schema {version}, newer than {scripts.head} of this Tollway; upgrade Tollway or restore an older backup"
        )
    return UnknownSchema(
        f"{where} belongs to another application (its schema version is {version!r}); point --data or TOLLWAY_DATABASE_URL elsewhere"
    )


def _half(where: str, why: str) -> UnknownSchema:
    return UnknownSchema(f"{where} is half migrated: {why}; restore the backup made before the upgrade")
