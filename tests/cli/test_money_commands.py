"""`usage`, `logs`, `alert`, `key test` and `account suspend` beside a running gateway: what they print, and how they end."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
from tests.support.gateway import environment, in_process, running, tollway, wait_for


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with running(tmp_path_factory.mktemp("money") / "data") as found:
        for _ in range(3):
            assert found.chat("sandbox-chat")[0] == 200
        yield found


@pytest.fixture
def line(gateway):
    """A command as a person types it: its exit code and what it printed."""

    def call(*words):
        return in_process([*words, "--data", str(gateway.data)], gateway.env)

    return call


def test_usage_is_a_table_with_a_total_csv_and_json(gateway, line):
    code, table = line("usage", "--by", "day,model")
    lines = table.splitlines()
    assert code == 0
    assert lines[0].split()[:3] == ["DAY", "MODEL", "CALLS"]
    assert lines[1].split()[1:3] == ["sandbox-chat", "3"]
    assert lines[-1].split()[:3] == ["total", "-", "3"]
    (row,) = csv.DictReader(io.StringIO(line("usage", "--by", "model", "-o", "csv")[1]))
    assert (row["model"], row["calls"]) == ("sandbox-chat", "3")
    found = gateway.cli("usage", "--by", "key", "--from", "1h", "--tz", "Asia/Ho_Chi_Minh")
    assert (found["zone"], [one["key"] for one in found["rows"]]) == ("Asia/Ho_Chi_Minh", ["first"])
    spent = gateway.cli("credits", "balance")["spent"]
    assert found["total"]["charged"] == spent == gateway.cli("key", "show", "first")["usage"]["spent_today"]
    assert line("usage", "--model", "sandbox-chta")[0] == 3
    assert line("usage", "--by", "modle")[0] == 2


def test_logs_lead_to_what_a_call_cost(gateway, line):
    found = gateway.cli("logs", "--limit", "2")
    assert len(found["calls"]) == 2
    assert found["has_more"]
    assert (
        gateway.cli("explain", found["calls"][0]["id"])["receipt"]["charged"] == found["calls"][0]["charged"]
    )
    assert len(gateway.cli("logs", "--before", found["next"])["calls"]) == 1
    assert line("logs", "--outcome", "failed")[1] == ""
    assert line("logs")[1].splitlines()[0].split()[:3] == ["AT", "STATUS", "OUTCOME"]


def test_logs_are_followed_until_they_are_stopped(gateway):
    process = subprocess.Popen(
        [sys.executable, "-m", "tollway", "logs", "-f", "-o", "jsonl", "--model", "sandbox-echo", "--data", str(gateway.data)],
        env=environment(PYTHONUNBUFFERED="1"),
        # Tests that run in the background hand down that interrupts are ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no lock is taken there
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert gateway.chat("sandbox-chat")[0] == 200
        assert gateway.chat("sandbox-echo", "followed")[0] == 200
        row = json.loads(process.stdout.readline())
        assert (row["model"], row["status"]) == ("sandbox-echo", 200)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        process.stdout.close()


def test_a_low_balance_is_shown_to_both_sides_until_it_is_acknowledged(gateway, line):
    gateway.cli("account", "create", "lowly")
    key = gateway.new_key("lowly", "--account", "lowly")
    gateway.cli("credits", "alert", "5", "--account", "lowly")
    assert gateway.get("/v1/credits", key)[2]["low_since"] is None
    assert gateway.cli("job", "run", "keep-credits")["status"] == "ok"
    found = gateway.get("/v1/credits", key)[2]
    (alert,) = found["alerts"]
    assert (alert["kind"], alert["available"], alert["below"]) == ("balance.low", 0, 5)
    assert found["low_since"] == alert["at"]
    assert gateway.get("/v1/credits")[2]["alerts"] == []
    code, table = line("alert", "list")
    assert (code, alert["id"] in table, "lowly" in table) == (0, True, True)
    assert gateway.cli("alert", "ack", "all", "--account", "main") == {"acknowledged": 0}
    assert gateway.cli("alert", "ack", alert["id"]) == {"acknowledged": 1}
    found = gateway.get("/v1/credits", key)[2]
    assert (found["alerts"], found["low"]) == ([], True)
    assert line("alert", "list")[1] == ""
    assert gateway.cli("alert", "list", "--all")[0]["id"] == alert["id"]
    assert line("alert", "ack", "nonesuch")[0] == 3


def test_a_suspended_account_is_refused_within_a_second(gateway, line):
    gateway.cli("account", "create", "late")
    gateway.cli("credits", "grant", "5", "--account", "late")
    key = gateway.new_key("late", "--account", "late")
    assert line("key", "test", "late", "--model", "sandbox-chat")[0] == 0
    gateway.cli("account", "suspend", "late")
    wait_for(lambda: gateway.chat("sandbox-chat", key=key)[0] == 403, 1.0)
    code, table = line("key", "test", "late")
    assert (code, "account_suspended" in table) == (5, True)
    gateway.cli("account", "resume", "late")
    wait_for(lambda: gateway.chat("sandbox-chat", key=key)[0] == 200, 1.0)


def test_the_key_its_holder_sees_is_the_key_the_operator_sees(gateway):
    holder = gateway.get("/v1/key")[2]
    operator = gateway.cli("key", "show", "first")
    for name in ("usage", "budget", "project_budget", "caps", "own_caps"):
        assert holder[name] == operator[name]
    assert holder["id"] == operator["details"]["id"]


def _as_somebody_else(*words):
    """A command as a user who owns nothing; as ourselves where we are no superuser."""
    user = {"user": 65534, "group": 65534, "extra_groups": ()} if os.getuid() == 0 else {}
    return subprocess.run(
        [sys.executable, *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **user,
    )


def test_a_folder_of_another_user_is_refused_in_words():
    """Whose it is and who asks are named; nothing is said to be unexpected."""
    if _as_somebody_else("-c", "import tollway").returncode:
        pytest.skip("nobody but the superuser can run this interpreter")
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0)
        for words, code in ((["key", "list"], 4), (["usage"], 4), (["status"], 4), (["doctor"], 1)):
            done = _as_somebody_else("-m", "tollway", *words, "--data", str(folder))
            assert (done.returncode, "may not use the data folder" in done.stderr) == (code, True), (
                done.stderr
            )
            assert "Errno" not in done.stdout + done.stderr
        assert "This command runs as" in done.stderr or "--data ANOTHER" in done.stderr
        # Readable, but nothing may be written.
        folder.chmod(0o555)
        done = _as_somebody_else("-m", "tollway", "key", "list", "--data", str(folder))
        assert (done.returncode, "may not use the data folder" in done.stderr) == (4, True), done.stderr
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_a_database_that_is_no_file_is_found_by_the_doctor(tmp_path):
    (tmp_path / "tollway.db").mkdir()
    for words in (["key", "list"], ["doctor"]):
        done = tollway(*words, "--data", str(tmp_path), ok=False)
        assert done.returncode == 1
        assert "database" in done.stderr
        assert "unexpected" not in done.stderr
