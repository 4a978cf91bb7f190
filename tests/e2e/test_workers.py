"""`tollway serve --workers N`: one gateway to those outside, whichever of its processes answers."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.authority import Authority
from tests.support.gateway import environment, running, start, tollway, wait_for
from tests.support.valkey import Valkey


@pytest.fixture
def database(postgres_database):
    return {"TOLLWAY_DATABASE_URL": postgres_database(), "TOLLWAY_ACCEPT_GRACE": "0"}


def workers(gateway) -> set[int]:
    pid = gateway.process.pid
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


def test_one_dies_and_nobody_outside_can_tell(tmp_path, database):
    with running(tmp_path / "data", "--workers", "2", **database) as gateway:
        assert "Workers    2" in gateway.screen
        assert "redis_url" in gateway.screen
        assert gateway.screen.count("is ready") == 1
        key = gateway.key
        before = workers(gateway)
        assert len(before) == 2
        assert gateway.get("/readyz")[2] == {"status": "ready"}
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(workers(gateway) - {victim}) == 2)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: gateway.chat("sandbox-chat", key=key)[0], range(24)))
        assert found == [200] * 24
        spent = gateway.cli("credits", "verify", **database)
        assert spent
        assert gateway.stop(signal.SIGTERM) == 0


def test_a_stream_is_finished_and_all_end(tmp_path, database):
    gateway = start(tmp_path / "data", "--workers", "2", **database)
    children = workers(gateway)
    body = {"model": "sandbox-long", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(gateway.url + "/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read(200)
        gateway.process.send_signal(signal.SIGTERM)
        rest = answer.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert gateway.process.wait(30) == 0
    gateway.process.stdout.close()
    assert all(gone(pid) for pid in children)


def test_workers_end_with_a_supervisor_that_was_killed(tmp_path, database):
    gateway = start(tmp_path / "data", "--workers", "2", **database)
    children = workers(gateway)
    gateway.process.kill()
    gateway.process.wait(10)
    gateway.process.stdout.close()
    wait_for(lambda: all(gone(pid) for pid in children))


def test_limits_are_counted_together_through_redis(tmp_path, database):
    valkey = Valkey()
    valkey.start()
    try:
        with running(
            tmp_path / "data", "--workers", "3", TOLLWAY_REDIS_URL=valkey.url, **database
        ) as gateway:
            assert "through Redis" in gateway.screen
            key = gateway.new_key("limited", "--rpm", "10")
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(lambda _: gateway.chat("sandbox-chat", key=key)[0], range(40)))
        assert (found.count(200), found.count(429)) == (10, 30)
    finally:
        valkey.close()


def test_sqlite_has_one_process_and_says_why(tmp_path):
    data = str(tmp_path / "data")
    refused = tollway("serve", "--data", data, "--port", "0", "--workers", "2", ok=False)
    assert refused.returncode == 2
    assert "only one process may write to a SQLite database" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not Path(data).exists()


def test_a_database_that_is_away_ends_the_start_with_one_complaint(tmp_path):
    refused = tollway(
        *("serve", "--data", str(tmp_path / "data"), "--port", "0", "--workers", "3"),
        env={"TOLLWAY_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
        ok=False,
    )
    assert refused.returncode not in (0, 2)
    assert refused.stderr.count("The database cannot be opened") == 1
    assert "Traceback" not in refused.stderr


class Secure:
    """A gateway that serves HTTPS, in as many processes as its flags say."""

    def __init__(self, tmp_path: Path, *flags: str, **env: str) -> None:
        folder = tmp_path / "made"
        folder.mkdir()
        self.authority = Authority(folder)
        self.pem = tmp_path / "server.pem"
        self.issue()
        words = (
            "serve",
            "--data",
            str(tmp_path / "data"),
            "--port",
            "0",
            "--tls-cert",
            str(self.pem),
            *flags,
        )
        with (tmp_path / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tollway", *words],
                env=environment(**{"TOLLWAY_ACCEPT_GRACE": "0", **env}),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.url = ""
        while not self.url:
            line = self.process.stdout.readline()
            assert line, (tmp_path / "stderr").read_text()
            if "Base URL" in line:
                self.url = line.split()[-1].removesuffix("/v1")

    def issue(self) -> int:
        before = set(self.authority.folder.iterdir())
        self.authority.server(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        (made,) = set(self.authority.folder.iterdir()) - before
        made.replace(self.pem)
        return x509.load_pem_x509_certificate(self.pem.read_bytes()).serial_number

    def serial(self) -> int:
        host, _, port = self.url.removeprefix("https://").partition(":")
        text = ssl.get_server_certificate((host, int(port)), timeout=10)
        return x509.load_pem_x509_certificate(text.encode()).serial_number

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.stdout.close()
        return self.process.wait(30)


@pytest.mark.parametrize("count", [1, 2])
def test_https_and_a_certificate_renewed_by_sighup(tmp_path, request, count):
    flags, env = (), {}
    if count > 1:
        flags, env = ("--workers", str(count)), request.getfixturevalue("database")
    gateway = Secure(tmp_path, *flags, **env)
    try:
        assert gateway.url.startswith("https://127.0.0.1:")
        with urllib.request.urlopen(
            f"{gateway.url}/readyz", context=gateway.authority.trusting(), timeout=30
        ) as answer:
            assert json.load(answer) == {"status": "ready"}
        renewed = gateway.issue()
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: all(gateway.serial() == renewed for _ in range(5)))
    finally:
        assert gateway.end() == 0


def test_a_certificate_that_cannot_be_served_is_one_line_before_anything_is_made(tmp_path):
    words = ("serve", "--data", str(tmp_path / "data"), "--port", "0", "--tls-cert", str(tmp_path / "no.pem"))
    refused = tollway(*words, ok=False)
    assert refused.returncode != 0
    assert f"Cannot use {tmp_path / 'no.pem'}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "data").exists()
