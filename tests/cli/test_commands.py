"""The command line in this process: what commands print, where, and how they end."""

import asyncio
import csv
import io
import json
import os
import socket
import sqlite3
from pathlib import Path

import pytest
from tests.support.admin import ready

from tollway.cli.app import run

CANARY = "sk-upstream-canary-0123456789"


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def data(tmp_path) -> Path:
    return ready(tmp_path / "data")


@pytest.fixture
def cli(data, capsys, monkeypatch):
    for name in list(os.environ):
        if name.startswith("TOLLWAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TOLLWAY_DATA", str(data))

    def call(*words: str, code: int | None = 0) -> Result:
        capsys.readouterr()
        found = run(words, lambda settings: 0)
        result = Result(found, *capsys.readouterr())
        if code is not None:
            assert found == code, result.err
        return result

    return call


# -- output ------------------------------------------------------------------------------------


def test_data_goes_to_stdout_and_messages_to_stderr(cli):
    made = cli("key", "create", "--name", "ci")
    assert made.out.startswith("sk-tw-")
    assert made.out.count("\n") == 1
    assert "shown this once" in made.err
    assert "Undo: tollway key revoke key_" in made.err
    quiet = cli("key", "disable", "ci", "--quiet")
    assert (quiet.out, quiet.err) == ("", "")


def test_the_interface_others_rely_on(cli, monkeypatch):
    made = cli("key", "create", "--name", "x", "-o", "json").json
    assert made["key"].startswith("sk-tw-")
    monkeypatch.setenv("UP_KEY", CANARY)
    words = "--name n --dialect openai_chat --base-url http://127.0.0.1:9/v1 --secret-env UP_KEY --model gpt=up --model m -o json"
    added = cli("channel", "add", *words.split())
    assert added.json["name"] == "n"
    assert added.json["channel"]["models"] == {"gpt": "up", "m": "m"}
    assert CANARY not in added.out + added.err
    assert cli("credits", "balance", "-o", "json").json["available"] == 1000
    assert cli("credits", "verify", "-o", "json").json["ok"] is True


def test_a_provisional_price_is_named_with_the_command_that_changes_it(cli):
    added = cli("channel", "add", "--name", "n", "--base-url", "http://127.0.0.1:9/v1", "--model", "gpt")
    assert "The price of gpt is provisional: 3000 credits per 10^6 input tokens" in added.err
    assert "tollway model price gpt --input-price" in added.err
    cli("model", "price", "gpt", "--input-price", "1.5", "--output-price", "2", "--rate", "cache_read=0.25")
    rates = cli("model", "show", "gpt", "--json").json["details"]["price"]["rates"]
    assert rates == {"input": 1.5, "output": 2, "cache_read": 0.25}


@pytest.mark.parametrize("words", [("--json",), ("-o", "json"), ("--output=json",), ("--output", "json")])
def test_options_come_in_any_order(cli, data, words):
    for line in (
        [*words, "key", "list"],
        ["key", *words, "list"],
        ["key", "list", *words],
        ["--data", str(data), "key", *words, "list", "--all"],
        ["key", "list", "--all", *words, f"--data={data}"],
    ):
        assert cli(*line).json == []


def test_lists_print_as_table_json_lines_and_csv(cli):
    cli("key", "create", "--name", "a", "--rpm", "5")
    cli("key", "create", "--name", "b")
    table = cli("key", "list").out.splitlines()
    assert table[0].split()[:4] == ["ID", "NAME", "KEY", "STATUS"]
    assert "5 requests/min" in table[1]
    assert "\x1b" not in "".join(table)
    assert [row["name"] for row in cli("key", "list", "-o", "json").json] == ["a", "b"]
    lines = cli("key", "list", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["a", "b"]
    rows = list(csv.DictReader(io.StringIO(cli("key", "list", "-o", "csv").out)))
    assert [row["name"] for row in rows] == ["a", "b"]


@pytest.mark.parametrize("note", ["=1+1", "+x", "-x", "@x"])
def test_csv_holds_no_formulas(cli, note):
    cli("credits", "grant", "2", f"--note={note}")
    rows = list(csv.DictReader(io.StringIO(cli("credits", "ledger", "-o", "csv").out)))
    assert rows[0]["note"] == f"'{note}"
    assert rows[0]["amount"] == "2"


def test_amounts_are_exact_decimal_credits(cli):
    cli("credits", "grant", "0.000001")
    assert '"available": 1000.000001' in cli("credits", "balance", "--json").out
    assert "available  1000.000001 credits" in cli("credits", "balance").out


# -- errors ------------------------------------------------------------------------------------

ERRORS = [
    (["kye", "list"], 2, 'Error: Unknown command "kye".\nDid you mean "key"?\nTry: tollway --help\n'),
    (["key", "lsit"], 2, 'Error: Unknown command "lsit".\nDid you mean "list"?\nTry: tollway key --help\n'),
    (["key", "create"], 2, "Error: --name is missing.\nTry: tollway key create --help\n"),
    (
        ["key", "create", "--nmae", "x"],
        2,
        "Error: Unknown option: --nmae.\nDid you mean --name?\nTry: tollway key create --help\n",
    ),
    (
        ["key", "list", "more"],
        2,
        "Error: Unexpected: more.\nThe command takes nothing more.\nTry: tollway key list --help\n",
    ),
    (
        ["key", "list", "-o", "xml"],
        2,
        'Error: Invalid value "xml" for -o.\nChoose from: "table", "json", "jsonl", "csv".\nTry: tollway key list --help\n',
    ),
    (
        ["model", "show", "sandbox-chatt"],
        3,
        "Error: No model 'sandbox-chatt'.\nDid you mean 'sandbox-chat'?\nTry: tollway model list\n",
    ),
    (["key", "disable", "nope"], 3, "Error: No key 'nope'.\nThere is no such key.\nTry: tollway key list\n"),
    (
        ["channel", "add", "--name", "n", "--base-url", "http://h/v1", "--secret-env", "NOT_SET"],
        2,
        "Error: The variable NOT_SET is not set.\n--secret-env names a variable of this command's environment.\nTry: export NOT_SET=…, and run it again\n",
    ),
    (
        ["channel", "add", "--name", "n", "--base-url", "http://h/v1", "--secret-env", "EMPTY"],
        2,
        "Error: The variable EMPTY holds no credential.\nIt is empty.\nTry: export EMPTY=…, and run it again\n",
    ),
    (
        ["credits", "grant", "0"],
        2,
        "Error: A grant of 0 is not possible.\nIt must be more than 0 credits.\n",
    ),
    (
        ["channel", "remove", "sandbox"],
        2,
        "Error: This cannot be undone, and nobody can be asked.\nThere is no terminal.\nTry: tollway channel remove sandbox --yes\n",
    ),
    (
        ["credits", "grant", "abc"],
        2,
        "Error: 'abc' is no amount.\nAn amount is a decimal number, such as 12.5.\n",
    ),
    (
        ["key", "cap", "a", "sandbox-chat", "x"],
        2,
        "Error: 'x' is no amount.\nAn amount is a decimal number, such as 12.5, or none.\n",
    ),
    (
        ["credits", "ledger", "--limit", "x"],
        2,
        'Error: Invalid value for --limit.\n"x" is no number.\nTry: tollway credits ledger --help\n',
    ),
    (
        ["usage", "--tz", "Berlin"],
        2,
        "Error: This time zone is not known.\nThere is no time zone 'Berlin'; use a name such as Europe/Berlin.\nTry: --tz Europe/Berlin\n",
    ),
    (["key", "create", "--name", "a", "--budget", "abc"], 2, None),
    (["credits", "alert", "low"], 2, None),
    (["project", "budget", "default", "abc"], 2, None),
    (["model", "discount", "abc", "--group", "g"], 2, None),
    (["account", "suspend", "mian"], 3, None),
    (["alert", "ack", "nope"], 3, None),
    (["logs", "--outcome", "bad"], 2, None),
    (["key", "create", "--name", "a", "--expires-in", "soon"], 2, None),
    (["key", "limit", "a", "--rpm", "many"], 2, None),
    (["credits", "refund", "call_1"], 3, None),
    (["channel", "add", "--name", "n", "--base-url", "http://h/v1", "--option", "x"], 2, None),
    (["model", "price", "sandbox-chat", "--rate", "input"], 2, None),
    (["serve", "--port", "70000"], 2, None),
]


def test_errors_say_what_why_and_what_to_try(cli, monkeypatch, subtests):
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for words, code, text in ERRORS:
        with subtests.test(" ".join(words)):
            result = cli(*words, code=code)
            assert result.out == ""
            assert "Traceback" not in result.err
            assert result.err.startswith("Error: ")
            assert text is None or result.err == text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:canary@h/x", "must begin with postgresql://"),
        ("postgresql://u:canary@127.0.0.1:1/x", "Connect call failed"),
    ],
)
def test_a_database_that_cannot_be_reached_is_said_without_its_password(cli, monkeypatch, url, words):
    monkeypatch.setenv("TOLLWAY_DATABASE_URL", url)
    for command in (["key", "list"], ["doctor"]):
        result = cli(*command, code=1)
        assert words in result.out + result.err
        assert "unexpected" not in result.err
        assert "canary" not in result.out + result.err


def test_a_credential_given_as_a_variables_name_is_not_repeated(cli):
    result = cli("channel", "add", "--name", "n", "--base-url", "http://h/v1", "--secret-env", CANARY, code=2)
    assert CANARY not in result.out + result.err


def test_an_unknown_setting_in_the_environment_is_refused_with_the_closest(cli, monkeypatch):
    monkeypatch.setenv("TOLLWAY_PROT", "1")
    result = cli("key", "list", code=2)
    assert "TOLLWAY_PROT" in result.err
    assert "did you mean 'port'" in result.err


def test_an_unexpected_error_shows_its_traceback_only_when_asked(cli, data):
    cli("key", "list")
    with sqlite3.connect(data / "tollway.db") as broken:
        broken.execute("UPDATE channel SET groups = '{'")
    broken.close()
    result = cli("channel", "list", code=1)
    assert "Something unexpected happened" in result.err
    assert "--debug" in result.err
    with pytest.raises(Exception, match="Input data was truncated"):
        cli("channel", "list", "--debug")


def test_another_instances_key_is_exit_4(cli, monkeypatch):
    monkeypatch.setenv("TOLLWAY_INSTANCE_KEY", "a" * 43 + "=")
    result = cli("key", "list", code=4)
    assert "another instance key" in result.err


def test_what_is_no_database_is_refused_with_what_helps(cli, data):
    (data / "tollway.db").write_bytes(b"not a database at all, but long enough to be read as one" * 100)
    result = cli("key", "list", code=1)
    assert result.err.startswith("Error: The database cannot be opened.")
    assert "Try: Move it away or point --data elsewhere" in result.err


# -- secrets -----------------------------------------------------------------------------------


def test_a_credential_comes_from_a_file_or_standard_input(cli, tmp_path, monkeypatch):
    (tmp_path / "key").write_text(CANARY + "\n")
    base = ("channel", "add", "--base-url", "http://h/v1", "-o", "json")
    assert (
        cli(*base, "--name", "a", "--secret-file", str(tmp_path / "key")).json["channel"]["secret"] == "…6789"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(CANARY + "\n"))
    assert cli(*base, "--name", "b", "--secret-stdin").json["channel"]["secret"] == "…6789"
    assert cli(*base, "--name", "c").json["channel"]["secret"] == ""
    both = cli(*base, "--name", "d", "--secret-stdin", "--secret-file", str(tmp_path / "key"), code=2)
    assert "More than one source" in both.err


def test_an_administrators_password_is_piped_in(cli, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    made = cli("admin", "create", "--email", "a@example.com", "--json")
    assert made.json["role"] == "admin"
    assert "horse" not in made.out + made.err
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "No password" in cli("admin", "create", "--email", "b@example.com", code=2).err


def test_settings_are_listed_with_their_source_and_without_secrets(cli, data, monkeypatch):
    (data / "tollway.toml").write_text('port = 9000\nredis_url = "redis://u:canary@h:1/0"\n')
    monkeypatch.setenv("TOLLWAY_LOG_LEVEL", "debug")
    monkeypatch.setenv("TOLLWAY_INSTANCE_KEY", "canary")
    shown = cli("config", "--json", "--database-url", "postgresql://u:canary@h/x?sslpassword=canary")
    assert shown.json["port"] == {"value": 9000, "source": str(data / "tollway.toml")}
    assert shown.json["log_level"] == {"value": "debug", "source": "environment"}
    assert shown.json["database_url"]["source"] == "flag"
    assert shown.json["host"] == {"value": "127.0.0.1", "source": "default"}
    assert "canary" not in shown.out + cli("config").out


# -- channel test: real sockets, a sandbox that misbehaves ----------------------------------------

FAULTS = {
    "sandbox-chat": "ok",
    "sandbox-html": "html",
    "sandbox-html-502": "html",
    "sandbox-401": "unauthorized",
    "sandbox-403": "forbidden",
    "sandbox-404": "model_missing",
    "sandbox-429": "rate_limited",
    "sandbox-500": "server_error",
    "sandbox-bad-json": "bad_json",
    "sandbox-empty": "bad_json",
    "sandbox-empty-choice": "empty",
    "sandbox-rst": "broken_off",
    "sandbox-cut": "broken_off",
}


def test_a_channels_test_says_in_plain_language_what_is_wrong(cli, subtests):
    for model, finding in FAULTS.items():
        with subtests.test(model):
            result = cli(
                "channel", "test", "sandbox", "--model", model, "--json", code=0 if finding == "ok" else 6
            )
            assert result.json["ok"] is (finding == "ok")
            check = result.json["checks"][0]
            assert check["finding"] == finding, check
            assert check["meaning"]
            assert finding == "ok" or check["advice"] in result.err


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_unreachable_upstreams_are_told_apart(cli, subtests):
    async def with_listener(check) -> None:
        async def never(reader, writer):
            await reader.read()
            writer.close()

        server = await asyncio.start_server(never, "127.0.0.1", 0)
        try:
            await asyncio.to_thread(check, server.sockets[0].getsockname()[1])
        finally:
            server.close()
            await server.wait_closed()

    def check(port: int) -> None:
        for name, url, option, finding in [
            ("refused", f"http://127.0.0.1:{_closed_port()}/v1", "total_timeout=10", "refused"),
            ("dns", "http://no-such-host.invalid/v1", "total_timeout=10", "dns"),
            ("timeout", f"http://127.0.0.1:{port}/v1", "first_byte_timeout=0.2", "timeout"),
        ]:
            with subtests.test(name):
                cli(
                    "channel",
                    "add",
                    "--name",
                    name,
                    "--base-url",
                    url,
                    "--option",
                    option,
                    "--model",
                    f"m-{name}=m",
                )
                tested = cli("channel", "test", name, "--json", code=6)
                assert tested.json["checks"][0]["finding"] == finding, tested.json["checks"][0]

    asyncio.run(with_listener(check))


# -- the whole life ----------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def engine(request, cli, monkeypatch):
    """The same commands on either database."""
    if request.param == "postgresql":
        monkeypatch.setenv("TOLLWAY_DATABASE_URL", request.getfixturevalue("postgres_database")())
        (Path(os.environ["TOLLWAY_DATA"]) / "tollway.db").unlink()
    return request.param


def test_every_verb_works_once(cli, engine):
    cli("project", "create", "web")
    assert {row["name"] for row in cli("project", "list", "--json").json} == {"default", "web"}
    cli("account", "create", "acme")
    assert len(cli("account", "list", "--json").json) == 2
    cli(
        "key",
        "create",
        "--name",
        "k",
        "--project",
        "web",
        "--model",
        "sandbox-*",
        "--ip",
        "10.0.0.0/8",
        "--tag",
        "t",
    )
    cli("key", "limit", "k", "--rpm", "5", "--budget", "1.5")
    shown = cli("key", "show", "k").out
    assert "5 requests/min, 1.5 credits total" in shown
    rotated = cli("key", "rotate", "k", "--overlap", "1h")
    assert "works until" in rotated.err
    assert "works no more" in cli("key", "rotate", "k").err
    cli("key", "disable", "k")
    cli("key", "enable", "k")
    cli("key", "revoke", "k", "--yes")
    cli("model", "add", "m", "--input-price", "1", "--output-price", "2", "--description", "A model")
    cli("model", "alias", "fast", "m")
    cli("model", "unalias", "fast")
    cli("model", "disable", "m")
    cli("model", "enable", "m")
    cli("channel", "add", "--name", "c", "--base-url", "http://127.0.0.1:9/v1")
    cli("channel", "serve", "c", "--model", "m=up")
    assert "model m" in cli("channel", "show", "c").out
    cli("channel", "disable", "c")
    cli("channel", "enable", "c")
    assert "No channel serves these any more: m" in cli("channel", "remove", "c", "--yes").err
    cli("credits", "grant", "5", "--account", "acme", "--id", "x")
    assert "REASON" not in cli("credits", "ledger", "--limit", "1").out
    assert "The books balance." in cli("credits", "verify").err
    checks = {row["check"]: row for row in cli("doctor", "--json").json["checks"]}
    assert engine in checks["database"]["detail"]
    assert checks["ledger"]["verdict"] == checks["clock"]["verdict"] == "ok"
    assert cli("version").out.startswith("tollway ")
    assert cli("status", "--json", code=1).json == {"running": False}


def test_the_help_of_every_command_starts_with_examples_and_names_common_options(cli, subtests):
    from tollway.cli.tree import NOUNS

    overview = cli("--help").out
    assert overview.startswith("Examples:\n")
    assert overview == cli("-h").out == cli("help").out
    for noun in sorted(NOUNS):
        with subtests.test(noun):
            assert noun in overview
            assert cli(noun, "--help").out.startswith("Examples:\n")
            assert cli("help", noun).out == cli(noun, "--help").out
    assert "--data DIR" in cli("key", "create", "--help").out


def test_bare_tollway_helps_to_start_and_makes_nothing(cli, tmp_path):
    shown = cli("--data", str(tmp_path / "nowhere"))
    assert shown.out.startswith("No gateway runs")
    assert not (tmp_path / "nowhere").exists()


def test_a_closed_pipe_ends_quietly(data):
    import subprocess
    import sys

    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "tollway", "model", "list", "--all", "--data", str(data)],
        check=False,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(write)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
