"""A real gateway in a process of its own, and a sandbox upstream beside it, as a user would run them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from tollway.cli.app import run as run_command_line
from tollway.upstream.sandbox.server import SandboxServer

READY_S = 30


def environment(**more: str) -> dict[str, str]:
    """The environment of a command: ours without any setting of a gateway, plus `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWAY_")}
    return {**kept, "NO_COLOR": "1", **more}


def tollway(
    *words: str, env: dict[str, str] | None = None, stdin: str = "", ok: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    found = subprocess.run(
        [sys.executable, "-m", "tollway", *words],
        check=False,
        env=environment(**(env or {})),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if ok and found.returncode:
        raise AssertionError(
            f"tollway {' '.join(words)} exited {found.returncode}\n{found.stdout}\n{found.stderr}"
        )
    return found


def in_process(words: list[str], env: dict[str, str]) -> tuple[int, str]:
    """Run a command on a thread of its own: it brings its own event loop. Its exit code and output."""
    out = io.StringIO()

    def run() -> int:
        with mock.patch.dict(os.environ, environment(**env), clear=True), contextlib.redirect_stdout(out):
            return run_command_line(words, lambda _: 1)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(60), out.getvalue()


@dataclass
class Gateway:
    """A running `tollway serve`."""

    process: subprocess.Popen[str]
    data: Path
    port: int
    screen: str
    env: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        found = re.search(r"sk-tw-\w+", self.screen)
        assert found, self.screen
        return found[0]

    def cli(self, *words: str, ok: bool = True, **env: str) -> Any:
        """A command against this gateway, without the half second of a process of its own.

        Returns its JSON output, or its exit code where it failed and that was expected.
        """
        code, text = in_process([*words, "--data", str(self.data), "-o", "json"], {**self.env, **env})
        if code and ok:
            raise AssertionError(f"tollway {' '.join(words)} exited {code}")
        return json.loads(text) if code == 0 else code

    def new_key(self, name: str, *options: str) -> str:
        return self.cli("key", "create", "--name", name, *options)["key"]

    def post(
        self, body: object, key: str | None = None, path: str = "/v1/chat/completions"
    ) -> tuple[int, Any, Any]:
        """POST JSON; status, headers and the parsed body, whatever the status."""
        request = urllib.request.Request(
            self.url + path,
            data=body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"},
        )
        return fetch(request)

    def get(self, path: str, key: str | None = None) -> tuple[int, Any, Any]:
        return fetch(
            urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {key or self.key}"})
        )

    def chat(
        self, model: str, content: str = "Hello!", key: str | None = None, **more: Any
    ) -> tuple[int, Any, Any]:
        return self.post({"model": model, "messages": [{"role": "user", "content": content}], **more}, key)

    def stop(self, how: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(30)


def fetch(request: urllib.request.Request) -> tuple[int, Any, Any]:
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        raw = answer.read()
        kind = answer.headers.get("content-type", "")
        return answer.status, answer.headers, json.loads(raw) if "json" in kind else raw


@contextlib.contextmanager
def running(data: Path, *flags: str, port: int = 0, **env: str) -> Iterator[Gateway]:
    """Start a gateway on an empty or existing folder and wait until it says that it is ready."""
    gateway = start(data, *flags, port=port, **env)
    try:
        yield gateway
    finally:
        gateway.stop()
        gateway.process.stdout.close()  # type: ignore[union-attr]


def start(data: Path, *flags: str, port: int = 0, module: str = "tollway", **env: str) -> Gateway:
    """Start a gateway without stopping it; `module` is another way to run the command line."""
    errors = data.parent / f"{data.name}.stderr"
    with errors.open("ab") as stderr:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                module,
                "serve",
                "--data",
                str(data),
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                *flags,
            ],
            env=environment(**{"TOLLWAY_BALLAST": "0", **env}),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    screen = ""
    deadline = time.monotonic() + READY_S
    while "stops it" not in screen:
        line = process.stdout.readline()  # type: ignore[union-attr]
        screen += line
        if not line or time.monotonic() > deadline:
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]
            raise AssertionError(f"the gateway did not start:\n{screen}\n{errors.read_text()[-4000:]}")
    found = re.search(r"http://127\.0\.0\.1:(\d+)", screen)
    assert found, screen
    return Gateway(process, data, int(found[1]), screen, env)


class Upstream:
    """The sandbox provider on a thread of its own: an upstream whose truth can be looked at."""

    def __init__(self, account: str = "") -> None:
        self._account = account
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._server = SandboxServer(account=self._account)
        await self._server.start("127.0.0.1", 0)
        self.port = self._server.port
        self._ready.set()
        await self._stopped.wait()
        await self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stats(self) -> dict[str, Any]:
        return fetch(urllib.request.Request(f"{self.url}/sandbox/stats"))[2]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)


def wait_for(condition: Any, seconds: float = 15.0) -> Any:
    """The first true value of a condition; fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError("the condition did not come true in time")
        time.sleep(0.02)
