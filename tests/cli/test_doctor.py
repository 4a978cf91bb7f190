"""The doctor: finds what is wrong, says what helps, and changes nothing."""

import json
import os
import socket
import sqlite3

import pytest
from tests.support.admin import ready

from tollway.cli import machine
from tollway.cli.app import run
from tollway.config import Settings


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def doctor(tmp_path, capsys, monkeypatch, port):
    for name in [name for name in os.environ if name.startswith("TOLLWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TOLLWAY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TOLLWAY_PORT", str(port))

    def call(*words: str) -> tuple[int, dict[str, dict[str, str]]]:
        capsys.readouterr()
        code = run(["doctor", "--json", *words], lambda settings: 0)
        found = json.loads(capsys.readouterr().out)
        assert found["ok"] is (code == 0)
        return code, {row["check"]: row for row in found["checks"]}

    return call


@pytest.fixture
def data(tmp_path):
    folder = ready(tmp_path / "data")
    folder.chmod(0o700)
    return folder


def test_a_sound_instance_passes_at_least_twenty_checks(doctor, data):
    code, found = doctor()
    assert code == 0, found
    assert len(found) >= 20
    assert {row["verdict"] for row in found.values()} <= {"ok", "warning", "skipped"}


def test_where_nothing_is_nothing_is_made(doctor, tmp_path):
    code, found = doctor()
    assert code == 0
    assert found["data folder"]["verdict"] == found["database"]["verdict"] == "skipped"
    assert not (tmp_path / "data").exists()


def _open_folder(data):
    data.chmod(0o777)


def _open_key(data):
    (data / "instance.key").chmod(0o644)


def _lost_key(data):
    (data / "instance.key").unlink()


def _foreign_database(data):
    (data / "tollway.db").write_bytes(b"this is no database, though it is long enough" * 100)


def _another_applications_database(data):
    (data / "tollway.db").unlink()
    _sql(data, "CREATE TABLE theirs(x)")


def _tampered_wallet(data):
    _sql(data, "UPDATE ledger_account SET credited = credited + 1 WHERE kind = 'wallet'")


def _no_price(data):
    _sql(data, "INSERT INTO model(id, created_at) VALUES ('bare', 1)")


def _foreign_seal(data):
    _sql(
        data,
        "INSERT INTO channel(id, name, dialect, base_url, secret, created_at) VALUES ('c', 'c', 'openai_chat', 'https://h/v1', x'0102', 1)",
    )


def _sql(data, statement):
    connection = sqlite3.connect(data / "tollway.db")
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("harm", "check", "fix"),
    [
        (_open_folder, "permissions", "chmod 700"),
        (_open_key, "key file", "chmod 600"),
        (_lost_key, "database", "TOLLWAY_INSTANCE_KEY"),
        (_foreign_database, "database", "Move it away"),
        (_another_applications_database, "database", "Point --data"),
        (_tampered_wallet, "ledger", "tollway credits verify"),
        (_no_price, "prices", "tollway model price bare"),
        (_foreign_seal, "credentials", "tollway channel remove c"),
    ],
)
def test_what_is_wrong_fails_with_what_helps(doctor, data, harm, check, fix):
    harm(data)
    code, found = doctor()
    assert code == 1
    assert found[check]["verdict"] == "failed", found[check]
    assert fix in found[check]["fix"]


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        ("UPDATE channel SET status = 'disabled'", "routes"),
        (
            "INSERT INTO channel(id, name, dialect, base_url, created_at) VALUES ('c', 'c', 'openai_chat', 'https://h/v1', 1)",
            "channel secrets",
        ),
    ],
)
def test_what_is_odd_warns_but_passes(doctor, data, statement, check):
    _sql(data, statement)
    code, found = doctor()
    assert (code, found[check]["verdict"]) == (0, "warning")


def test_a_port_in_use_by_others_fails(doctor, data, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        code, found = doctor()
    assert (code, found["port"]["verdict"]) == (1, "failed")
    assert "--port" in found["port"]["fix"]


def test_channels_are_called_only_when_asked(doctor, data):
    assert not any(name.startswith("channel sandbox") for name in doctor()[1])
    _sql(data, "DELETE FROM route WHERE model_id <> 'sandbox-chat'")
    code, found = doctor("--channels")
    assert (code, found["channel sandbox"]["verdict"]) == (0, "ok")
    _sql(data, "UPDATE route SET upstream_model = 'sandbox-401'")
    code, found = doctor("--channels")
    assert (code, found["channel sandbox"]["verdict"]) == (1, "failed")
    assert "rejected the credential" in found["channel sandbox"]["detail"]


def test_a_bad_setting_is_the_first_finding(doctor, monkeypatch):
    monkeypatch.setenv("TOLLWAY_PROT", "1")
    code, found = doctor()
    assert (code, found["settings"]["verdict"]) == (1, "failed")


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({"host": "127.0.0.1"}, "ok"),
        ({"host": "localhost"}, "ok"),
        ({"host": "::1"}, "ok"),
        ({"host": "0.0.0.0"}, "warning"),
        ({"host": "0.0.0.0", "public_url": "https://gw.example.com"}, "ok"),
        ({"public_url": "gw.example.com"}, "failed"),
    ],
)
def test_the_address_and_the_public_url_fit_each_other(settings, verdict):
    assert machine.address(Settings(**settings))["verdict"] == verdict
