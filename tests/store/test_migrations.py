"""What is served and what is refused: fresh, older, newer, foreign and half-migrated databases."""

from __future__ import annotations

import ast
import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text
from tests.support.ledger import books_balance, held_and_settled, rows_of, wallet_of

from tollway.config import Settings
from tollway.store import marks, migrations, schema
from tollway.store.base import DamagedDatabase, DatabaseInUse, Store, StoreError, UnknownSchema
from tollway.store.factory import open_store
from tollway.store.lock import NAME
from tollway.store.migrations import SCRIPTS, Scripts
from tollway.store.postgres.store import PostgresStore
from tollway.store.rollups import usage
from tollway.store.sqlite.store import FILE_NAME, SqliteStore

HEAD = SCRIPTS.head
NEXT = f"{int(HEAD) + 1:04}"
BOTH = pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])


def shape(conn: Connection) -> dict[str, Any]:
    """The tables as the database describes them, in words both ways of making them share."""
    found = inspect(conn)
    return {
        name: {
            "columns": [
                (c["name"], str(c["type"]), c["nullable"], c["default"]) for c in found.get_columns(name)
            ],
            "key": found.get_pk_constraint(name)["constrained_columns"],
            "foreign": sorted(
                (f["constrained_columns"], f["referred_table"]) for f in found.get_foreign_keys(name)
            ),
            "unique": sorted(u["column_names"] for u in found.get_unique_constraints(name)),
            "checks": sorted((c["name"] or "", c["sqltext"]) for c in found.get_check_constraints(name)),
            "indexes": sorted(
                (i["name"] or "", i["column_names"], i["unique"]) for i in found.get_indexes(name)
            ),
        }
        for name in found.get_table_names()
        if name != "alembic_version"
    }


async def change(settings: Settings, *statements: str) -> None:
    """Tamper with a database while no store has it open."""
    if settings.database_url:
        conn = await asyncpg.connect(settings.database_url)
        for statement in statements:
            await conn.execute(statement)
        await conn.close()
        return
    folder = Path(settings.data)
    folder.mkdir(exist_ok=True)
    with sqlite3.connect(folder / FILE_NAME) as raw:
        for statement in statements:
            raw.execute(statement)
    raw.close()


async def opened(settings: Settings, scripts: Scripts = SCRIPTS) -> Store:
    kind: Any = PostgresStore if settings.database_url else SqliteStore
    where: Any = settings.database_url or Path(settings.data)
    store: Store = kind(where, os.urandom(8).hex(), lambda: 10**12, scripts)
    await store.open()
    return store


async def born(settings: Settings) -> None:
    await (await opened(settings)).close()


async def test_the_migrations_make_the_tables_that_queries_are_written_for(store: Store) -> None:
    made = await store.read(shape)
    if store.engine == "sqlite":
        engine = create_engine("sqlite://")
        with engine.begin() as conn:
            schema.metadata.create_all(conn)
            expected = shape(conn)
        engine.dispose()
    else:

        def in_another_schema(conn: Connection) -> dict[str, Any]:
            conn.execute(text("CREATE SCHEMA twin"))
            conn.execute(text("SET LOCAL search_path TO twin"))
            schema.metadata.create_all(conn)
            found = shape(conn)
            conn.execute(text("DROP SCHEMA twin CASCADE"))
            return found

        expected = await store.write(in_another_schema)
        expected = ast.literal_eval(repr(expected).replace("twin.", ""))
    assert made == expected


def test_the_revisions_are_those_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.HERE))
    config.set_main_option("path_separator", "os")
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == SCRIPTS.revisions


@BOTH
def test_a_statement_never_hides_another_behind_an_empty_line(engine: str) -> None:
    statements = [one for name in SCRIPTS.revisions for one in SCRIPTS.statements(name, engine)]
    assert all(one.rstrip().endswith(";") for one in statements)
    if engine == "sqlite":
        assert all(sqlite3.complete_statement(one) for one in statements)
    assert {"hold_fixed", "entry_fixed", "audit_fixed"} <= SCRIPTS.triggers(engine)


@BOTH
async def test_alembic_and_the_short_way_make_the_same(
    engine: str, fresh: Callable[[str], Settings], tmp_path: Path
) -> None:
    settings = fresh(engine)
    listing = (
        "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' AND name <> 'alembic_version' ORDER BY name"
        if engine == "sqlite"
        else "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname, 2"
    )
    store = await opened(settings)
    short = await rows_of(store, listing), await store.read(shape)
    await store.close()
    if engine == "sqlite":
        shutil.rmtree(settings.data)
        Path(settings.data).mkdir()
    else:
        await change(settings, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def by_alembic(conn: Connection) -> None:
        migrations.upgrade(conn, "here", SCRIPTS)

    await _run(settings, by_alembic)
    store = await opened(settings)
    assert (await rows_of(store, listing), await store.read(shape)) == short
    await store.close()


async def _run(settings: Settings, function: Callable[[Connection], None]) -> None:
    if settings.database_url:
        from sqlalchemy.ext.asyncio import create_async_engine

        pool = create_async_engine(settings.database_url.replace("postgresql", "postgresql+asyncpg", 1))
        async with pool.begin() as conn:
            await conn.run_sync(function)
        await pool.dispose()
        return
    engine = create_engine(f"sqlite:///{Path(settings.data) / FILE_NAME}")
    with engine.begin() as conn:
        function(conn)
    engine.dispose()


@pytest.fixture
def next_scripts(tmp_path: Path) -> Scripts:
    """The migrations with one more revision, which adds a table and a row."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.HERE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    first = (folder / "versions" / "0001_first.py").read_text()
    second = first.replace('revision = "0001"', f'revision = "{NEXT}"').replace(
        "down_revision = None", f'down_revision = "{HEAD}"'
    )
    (folder / "versions" / f"{NEXT}_next.py").write_text(second)
    for engine in ("sqlite", "postgresql"):
        scripts = folder / "sql" / NEXT / engine
        scripts.mkdir(parents=True)
        (scripts / "1.sql").write_text(
            "CREATE TABLE extra (id INTEGER PRIMARY KEY);\n\nINSERT INTO extra (id) VALUES (7);\n"
        )
    return Scripts(folder, (*SCRIPTS.revisions, NEXT))


@BOTH
async def test_an_older_database_is_upgraded_with_its_data(
    engine: str, fresh: Callable[[str], Settings], next_scripts: Scripts
) -> None:
    settings = fresh(engine)
    store = await opened(settings)
    await held_and_settled(store, await wallet_of(store, 100), 50, 20)
    await store.close()
    for _ in range(2):
        store = await opened(settings, next_scripts)
        assert await rows_of(store, "SELECT id FROM extra") == [(7,)]
        assert await rows_of(store, "SELECT count(*) FROM call") == [(1,)]
        await books_balance(store)
        await store.close()
    if engine == "sqlite":
        copy = Path(settings.data) / f"{FILE_NAME}.before-{NEXT}"
        with sqlite3.connect(copy) as raw:
            assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
            assert raw.execute("SELECT count(*) FROM call").fetchone() == (1,)
        raw.close()
        assert copy.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UnknownSchema, match=f"newer than {HEAD}"):
        await opened(settings)


@BOTH
async def test_a_failing_upgrade_changes_nothing_and_says_what_to_do(
    engine: str, fresh: Callable[[str], Settings], next_scripts: Scripts
) -> None:
    settings = fresh(engine)
    await born(settings)
    broken = next_scripts.folder / "sql" / NEXT / engine / "2.sql"
    broken.write_text("CREATE TABLE account (id INTEGER);\n")
    with pytest.raises(UnknownSchema, match="half migrated.*restore the backup"):
        await opened(settings, next_scripts)
    store = await opened(settings)
    assert await rows_of(store, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    await store.close()


BEFORE_PLACES = (
    "INSERT INTO mark (topic, value) VALUES ('rolled', 1800000)",
    *(
        "INSERT INTO rollup (bucket, kept, account_id, project_id, key_id, model, channel_id, calls, charged)"
        f" VALUES ({bucket}, {kept}, 'a', '{project}', '{key}', '{model}', '{channel}', {calls}, {charged})"
        for bucket, kept, project, key, model, channel, calls, charged in (
            (0, 0, "p", "k", "m", "c", 1, 10),
            (0, 1, "p", "k", "m", "c", 2, 20),
            (0, 1, "", "", "", "", 0, 5),
            (900000, 0, "p", "k", "m", "", 4, 40),
            (1800000, 0, "p", "k", "m", "c", 8, 80),
        )
    ),
)
"""What an older gateway had summed: complete up to 1,800,000, and more that it would have computed again."""


@BOTH
async def test_sums_of_an_older_database_are_kept(engine: str, fresh: Callable[[str], Settings]) -> None:
    settings = fresh(engine)
    if engine == "sqlite":
        Path(settings.data).mkdir()
    else:
        await change(settings, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    await _run(settings, partial(migrations.create, scripts=Scripts(revisions=("0001", "0002"))))
    await change(settings, *BEFORE_PLACES)
    store = await opened(settings)
    used = await store.read(
        partial(usage, since=0, until=86_400_000, by=("account", "key", "model", "channel"))
    )
    assert [(one.key_id, one.model, one.channel_id, one.calls, one.charged) for one in used] == [
        ("k", "m", "", 4, 40),
        ("k", "m", "c", 3, 30),
        ("", "", "", 0, 5),
    ]
    assert await store.read(partial(marks.value, topic=marks.SUMMED)) == 1_800_000
    await store.close()


REFUSED = {
    "a foreign database": (("CREATE TABLE wp_posts (id INTEGER)",), "not Tollway's.*--data", False),
    "another application of Alembic": (
        (migrations.BEGINNING, "INSERT INTO alembic_version VALUES ('ae1027a6acf')"),
        "another application",
        False,
    ),
    "a newer schema": (
        ("UPDATE alembic_version SET version_num = '9999'",),
        f"newer than {HEAD}.*upgrade Tollway",
        True,
    ),
    "no version": (("DELETE FROM alembic_version",), "half migrated.*0 schema versions", True),
    "two versions": (
        ("INSERT INTO alembic_version VALUES ('0000')",),
        "half migrated.*2 schema versions",
        True,
    ),
    "a missing table": (("DROP TABLE job_run",), "half migrated: it lacks job_run", True),
    "a missing trigger": (("DROP TRIGGER {trigger}",), "half migrated: it lacks entry_fixed", True),
}


@BOTH
@pytest.mark.parametrize("case", REFUSED)
async def test_an_unknown_schema_is_refused_with_its_fix(
    engine: str, case: str, fresh: Callable[[str], Settings]
) -> None:
    statements, words, ours = REFUSED[case]
    settings = fresh(engine)
    if ours:
        await born(settings)
    elif settings.database_url:
        await change(settings, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    trigger = "entry_fixed" if engine == "sqlite" else "entry_fixed ON entry"
    await change(settings, *(one.format(trigger=trigger) for one in statements))
    with pytest.raises(UnknownSchema, match=words) as refused:
        await opened(settings)
    assert "\n" not in str(refused.value)


@pytest.mark.postgres
async def test_the_password_of_the_database_is_in_no_message(fresh: Callable[[str], Settings]) -> None:
    settings = fresh("postgresql")
    await change(settings, "UPDATE alembic_version SET version_num = '9999'")
    secret = Settings(database_url=settings.database_url.replace("postgres@", "postgres:hunter2@"))
    with pytest.raises(UnknownSchema) as refused:
        await opened(secret)
    assert "hunter2" not in str(refused.value)


@pytest.mark.postgres
async def test_four_processes_boot_together_on_an_empty_database(fresh: Callable[[str], Settings]) -> None:
    settings = fresh("postgresql")
    await change(settings, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    program = (
        "import asyncio, sys\n"
        "from tollway.config import Settings\n"
        "from tollway.store.factory import open_store\n"
        "async def main():\n"
        "    store = open_store(Settings(database_url=sys.argv[1]))\n"
        "    await store.open()\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, settings.database_url, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    outcomes = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0] * 4, outcomes
    store = await opened(settings)
    assert await rows_of(store, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    await store.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(UnknownSchema, match="not a SQLite database"):
        await opened(Settings(data=str(tmp_path)))


async def test_a_damaged_file_is_found_after_an_unclean_stop(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    store = await opened(settings)
    for _ in range(50):
        await held_and_settled(store, await wallet_of(store, 100), 50, 20)
    await store.close()
    file = tmp_path / FILE_NAME
    pages = bytearray(file.read_bytes())
    root = (
        sqlite3.connect(file)
        .execute("SELECT rootpage FROM sqlite_schema WHERE name = 'ix_entry_debit'")
        .fetchone()[0]
    )
    pages[(root - 1) * 4096 : root * 4096] = b"\x0d" + b"\xff" * 4095
    file.write_bytes(pages)
    (tmp_path / NAME).write_bytes(b"1")
    with pytest.raises(DamagedDatabase, match="restore a backup"):
        await opened(settings)


async def test_a_folder_has_one_process_and_the_second_learns_which(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    store = await opened(settings)
    with pytest.raises(DatabaseInUse, match=f"process {os.getpid()}") as refused:
        await opened(settings)
    assert refused.value.pid == os.getpid()
    await store.close()
    assert (tmp_path / NAME).read_bytes() == b""
    await born(settings)


async def test_what_the_data_folder_holds_is_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    store = await opened(Settings(data=str(folder)))
    await wallet_of(store, 5)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.iterdir()]}
    await store.close()
    assert modes.pop("data") == 0o700
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize(
    ("url", "engine"),
    [
        ("", "sqlite"),
        ("postgres://u@h/d", "postgresql"),
        ("postgresql://u@h/d", "postgresql"),
        ("postgresql+asyncpg://u@h/d", "postgresql"),
    ],
)
async def test_the_url_chooses_the_engine(url: str, engine: str, tmp_path: Path) -> None:
    assert open_store(Settings(data=str(tmp_path), database_url=url)).engine == engine


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(StoreError, match="not mysql:"):
        open_store(Settings(database_url="mysql://u:hunter2@h/d"))


def test_a_start_on_a_current_database_does_not_import_alembic(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from tollway.config import Settings\n"
        "from tollway.store.factory import open_store\n"
        "async def main():\n"
        "    for _ in range(2):\n"
        "        store = open_store(Settings(data=sys.argv[1]))\n"
        "        await store.open()\n"
        "        await store.close()\n"
        "    assert 'alembic' not in sys.modules and 'asyncpg' not in sys.modules\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
