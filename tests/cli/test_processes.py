"""The command line as real processes: beside a running gateway, several at once, and on both databases."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from tests.support.admin import ready
from tests.support.gateway import environment, running, tollway

from tollway.cli.app import run


def together(*lines: list[str], env: dict[str, str] | None = None) -> list[subprocess.CompletedProcess[str]]:
    """Run several commands at the same time."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tollway", *words],
            env=environment(**(env or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in lines
    ]
    done = []
    for process in started:
        out, err = process.communicate(timeout=90)
        done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return done


@pytest.fixture
def here(capsys, monkeypatch):
    """A command in this process, which spares it a start: its exit code, output and messages."""
    for name in [name for name in os.environ if name.startswith("TOLLWAY_")]:
        monkeypatch.delenv(name)

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(words, lambda settings: 0)
        return code, *capsys.readouterr()

    return call


def test_commands_give_the_same_beside_a_running_gateway_and_a_stopped_one(tmp_path, here):
    data = tmp_path / "data"
    lists = [
        ["key", "list"],
        ["channel", "list"],
        ["model", "list", "--all"],
        ["credits", "ledger"],
        ["account", "list"],
    ]
    same = [[*words, "--json", "--data", str(data)] for words in lists]
    same.append(["key", "show", "cii", "--data", str(data)])
    with running(data) as gateway:
        made = gateway.cli("key", "create", "--name", "ci", "--rpm", "5")
        here(
            "channel",
            "add",
            "--name",
            "up",
            "--base-url",
            "http://127.0.0.1:9/v1",
            "--model",
            "m",
            "--data",
            str(data),
        )
        assert gateway.chat("sandbox-chat", key=made["key"])[0] == 200
        gateway.cli("key", "disable", "ci")
        assert gateway.chat("sandbox-chat", key=made["key"])[0] == 403, "the gateway knows at once"
        assert here("channel", "test", "sandbox", "--model", "sandbox-chat", "--data", str(data))[0] == 0
        assert here("--data", str(data))[1].startswith("gateway  ")
        code, shown, _ = here("doctor", "--json", "--data", str(data))
        checks = {row["check"]: row["verdict"] for row in json.loads(shown)["checks"]}
        assert (code, len(checks) >= 20) == (0, True)
        assert checks["gateway"] == checks["ledger"] == checks["instance key"] == "ok"
        second = tollway("serve", "--data", str(data), "--port", "0", ok=False)
        assert second.returncode == 1
        assert "runs on this data folder already" in second.stderr
        beside = [here(*words) for words in same]
    assert [here(*words) for words in same] == beside
    assert [code for code, *_ in beside] == [0] * len(lists) + [3]
    assert here("credits", "verify", "--data", str(data))[0] == 0


def test_short_commands_on_one_stopped_gateway_take_turns(tmp_path):
    data = ready(tmp_path / "data")
    done = together(*(["key", "create", "--name", f"k{n}", "--data", str(data)] for n in range(4)))
    assert [one.returncode for one in done] == [0] * 4, [one.stderr for one in done]
    assert len(json.loads(tollway("key", "list", "--data", str(data), "--json").stdout)) == 4


def test_an_empty_folder_is_set_up_by_any_command_without_showing_a_key(tmp_path):
    data = tmp_path / "made" / "here"
    shown = tollway("model", "list", "--data", str(data))
    assert "sandbox-chat" in shown.stdout
    assert "sk-tw-" not in shown.stdout + shown.stderr
    assert data.stat().st_mode & 0o777 == 0o700


@pytest.mark.postgres
def test_four_processes_that_meet_an_empty_postgresql_set_it_up_once(tmp_path, postgres):
    postgres.sql("CREATE DATABASE four_boots")
    env = {"TOLLWAY_DATABASE_URL": postgres.url("four_boots"), "TOLLWAY_DATA": str(tmp_path)}
    done = together(*(["key", "create", "--name", f"k{n}", "--json"] for n in range(4)), env=env)
    assert [one.returncode for one in done] == [0] * 4, [one.stderr for one in done]
    assert len({json.loads(one.stdout)["key"] for one in done}) == 4
    accounts = json.loads(tollway("account", "list", "--json", env=env).stdout)
    assert [(row["name"], row["available"]) for row in accounts] == [("main", 1000)]
    assert len(json.loads(tollway("channel", "list", "--json", env=env).stdout)) == 1
    assert tollway("credits", "verify", env=env).returncode == 0


@pytest.mark.postgres
def test_hosts_with_keys_of_their_own_cannot_share_a_postgresql(tmp_path, postgres_database):
    url = postgres_database()
    folders = [tmp_path / name for name in "ab"]
    done = [
        tollway("key", "list", env={"TOLLWAY_DATABASE_URL": url, "TOLLWAY_DATA": str(folder)}, ok=False)
        for folder in folders
    ]
    assert [one.returncode for one in done] == [0, 4]
    assert "TOLLWAY_INSTANCE_KEY" in done[1].stderr
    assert not (folders[1] / "instance.key").exists()


def test_the_sandbox_runs_alone_until_it_is_stopped():
    process = subprocess.Popen(
        [sys.executable, "-m", "tollway", "sandbox", "--port", "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        import urllib.request

        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/models", timeout=20) as answer:
            assert "sandbox-chat" in answer.read().decode()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stdout.close()


def test_help_loads_neither_the_parser_nor_the_database():
    script = (
        "import sys; from tollway.cli.app import run; run(['--help'], None);"
        "heavy = {'cyclopts', 'rich', 'sqlalchemy', 'asyncio', 'cryptography', 'msgspec'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_question_is_asked_on_a_terminal_and_answered_there(tmp_path):
    """`key revoke` on a pseudo-terminal: no leaves the key, yes ends it."""
    data = ready(tmp_path / "data")
    tollway("key", "create", "--name", "ci", "--data", str(data))
    for answer, code, status in [(b"n\n", 1, "active"), (b"y\n", 0, "revoked")]:
        assert _on_a_terminal(["key", "revoke", "ci", "--data", str(data)], answer) == code
        shown = json.loads(tollway("key", "list", "--all", "--data", str(data), "--json").stdout)
        assert [row["status"] for row in shown] == [status]


def _on_a_terminal(words: list[str], answer: bytes) -> int:
    import pty

    leader, follower = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "tollway", *words],
            env=environment(),
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        follower = -1
        os.write(leader, answer)
        drain = threading.Thread(target=_drain, args=(leader,), daemon=True)
        drain.start()
        return process.wait(60)
    finally:
        if follower >= 0:
            os.close(follower)
        os.close(leader)


def _drain(leader: int) -> None:
    try:
        while os.read(leader, 4096):
            pass
    except OSError:
        return


def test_a_data_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "data", tmp_path / "file"):
        done = tollway("key", "list", "--data", str(folder), ok=False)
        assert done.returncode == 1
        assert "cannot be made" in done.stderr
        assert "unexpected" not in done.stderr
