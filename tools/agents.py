"""Runs real coding agents through a gateway against every upstream dialect of the sandbox.

    just agents            install all of PACKAGES from npm into a scratch folder, run all
    just agents claude     only one of them

Each agent reads a file and edits it, on a model behind a channel of each of the four dialects; then
it is asked once more with a key that has no credits left. The agents run in a network namespace
that knows nothing but loopback, in a home folder of their own, telemetry and updates off. Needs
root (or the right to make namespaces), npm and `ip`. Not part of CI.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.gateway import Gateway, running  # noqa: E402 - found only now

PACKAGES = {
    "claude": "@anthropic-ai/claude-code@2.1.328",
    "codex": "@openai/codex@0.169.0",
    "gemini": "@google/gemini-cli@0.61.0",
    "opencode": "opencode-ai@1.18.33",
    "qwen": "@qwen-code/qwen-code@0.15.10",
    "cline": "cline@3.0.65",
    "cn": "@continuedev/cli@1.5.47",
    "pi": "@mariozechner/pi-coding-agent@0.73.1",
}
"""By the name of the command."""
DIALECTS = ("openai_chat", "openai_responses", "anthropic", "gemini")
INSIDE = "TOLLWAY_AGENTS_INSIDE"
LIMIT_S = 180


def main() -> int:
    """Install, step into the namespace, run; the exit code says whether all went well."""
    wanted = [word for word in sys.argv[1:] if word in PACKAGES] or list(PACKAGES)
    folder = Path(os.environ.get("TOLLWAY_AGENTS", Path(tempfile.gettempdir()) / "tollway-agents"))
    if INSIDE not in os.environ:
        _install(folder)
        command = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        words = [sys.executable, __file__, *wanted]
        return subprocess.run([*command, *words], env={**os.environ, INSIDE: "1"}, check=False).returncode
    return _run(folder / "node_modules" / ".bin", wanted)


def _install(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in PACKAGES if not (folder / "node_modules" / ".bin" / name).exists()]
    if missing:
        packages = [PACKAGES[name] for name in missing]
        subprocess.run(
            ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", *packages], check=True
        )


def _run(binaries: Path, wanted: list[str]) -> int:
    failures = 0
    with tempfile.TemporaryDirectory(prefix="tollway-agents-") as scratch:
        base = Path(scratch)
        with running(base / "data") as gateway:
            gateway.cli("credits", "grant", "1000000", "--quiet")
            for dialect in DIALECTS:
                _channel(gateway, dialect)
            poor = gateway.new_key("poor", "--budget", "0.000001", "--budget-period", "total")
            for agent in wanted:
                stage = Stage(agent, binaries, base, gateway)
                failures += sum(not stage.edits(dialect) for dialect in DIALECTS)
                failures += not stage.refuses(poor)
            print(
                "the books balance" if gateway.cli("credits", "verify")["ok"] else "THE BOOKS DO NOT BALANCE"
            )
    print("all went well" if not failures else f"{failures} went wrong")
    return 1 if failures else 0


def _model(dialect: str) -> str:
    # Claude Code lists only models whose names begin so.
    return f"claude-via-{dialect.replace('_', '-')}"


def _channel(gateway: Gateway, dialect: str) -> None:
    name = _model(dialect)
    price = ("--input-price", "100", "--output-price", "400")
    gateway.cli("model", "add", name, *price, "--quiet")
    gateway.cli(
        *("channel", "add", "--name", f"to-{dialect}", "--dialect", dialect, "--quiet"),
        *("--base-url", "sandbox:", "--model", f"{name}=sandbox-agent"),
    )


@dataclass
class Stage:
    """One agent and all it needs to run."""

    agent: str
    binaries: Path
    base: Path
    gateway: Gateway

    def edits(self, dialect: str) -> bool:
        """Whether the agent changed a file as it was told, on a model behind one dialect."""
        work = self.base / f"{self.agent}-{dialect}"
        work.mkdir()
        (work / "notes.txt").write_text("one apple\nsecond line\n")
        began = time.monotonic()
        done = self._start(
            work, _model(dialect), self.gateway.key, 'In notes.txt replace "apple" with "pear"'
        )
        changed = (work / "notes.txt").read_text() == "one pear\nsecond line\n"
        return self._tell(dialect, done, good=done.returncode == 0 and changed, began=began)

    def refuses(self, key: str) -> bool:
        """Whether the agent says so, and soon, when there are no credits, instead of trying again and again."""
        work = self.base / f"{self.agent}-poor"
        work.mkdir()
        began = time.monotonic()
        done = self._start(work, _model("openai_chat"), key, "Say hello")
        told = (done.stdout + done.stderr).lower()
        good = done.returncode != 0 and any(word in told for word in ("credit", "budget", "quota"))
        return self._tell("out of credits", done, good=good, began=began)

    def _tell(self, what: str, done: subprocess.CompletedProcess[str], *, good: bool, began: float) -> bool:
        took = time.monotonic() - began
        print(f"{self.agent:8} {what:17} {'good' if good else 'FAILED':7} {took:5.1f} s", flush=True)
        if not good:
            print(done.stdout[-3000:], done.stderr[-2000:], sep="\n")
        return good

    def _start(self, work: Path, model: str, key: str, task: str) -> subprocess.CompletedProcess[str]:
        home = self.base / f"home-{self.agent}"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        command, more = _SETUPS[self.agent](home, self.gateway, model, key)
        return subprocess.run(
            [str(self.binaries / self.agent), *command, task],
            check=False,
            cwd=work,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "NO_COLOR": "1", **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )


def _claude(_: Path, gateway: Gateway, model: str, key: str) -> tuple[list[str], dict[str, str]]:
    command = ["-p", "--output-format", "json", "--permission-mode", "acceptEdits"]
    return command, {
        "ANTHROPIC_BASE_URL": gateway.url,
        "ANTHROPIC_API_KEY": key,
        "ANTHROPIC_MODEL": model,
        "ANTHROPIC_SMALL_FAST_MODEL": model,
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
    }


def _codex(home: Path, gateway: Gateway, model: str, key: str) -> tuple[list[str], dict[str, str]]:
    folder = home / ".codex"
    folder.mkdir()
    settings: dict[str, Any] = {
        "model": model,
        "model_provider": "tollway",
        "check_for_update_on_startup": False,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    lines += [
        "[model_providers.tollway]",
        'name = "Tollway"',
        f'base_url = "{gateway.url}/v1"',
        'env_key = "TOLLWAY_KEY"',
        'wire_api = "responses"',
    ]
    (folder / "config.toml").write_text("\n".join(lines) + "\n")
    command = ["exec", "--skip-git-repo-check", "--json", "--dangerously-bypass-approvals-and-sandbox"]
    return command, {"TOLLWAY_KEY": key}


def _gemini(home: Path, gateway: Gateway, model: str, key: str) -> tuple[list[str], dict[str, str]]:
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"disableAutoUpdate": True},
    }
    _write(home / ".gemini" / "settings.json", settings)
    command = ["-m", model, "--output-format", "json", "--approval-mode", "yolo", "-p"]
    return command, {
        "GEMINI_API_KEY": key,
        "GOOGLE_GEMINI_BASE_URL": gateway.url,
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    }


def _opencode(home: Path, gateway: Gateway, model: str, key: str) -> tuple[list[str], dict[str, str]]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{gateway.url}/v1", "apiKey": "{env:TOLLWAY_KEY}"},
        "models": {model: {}},
    }
    settings = {"autoupdate": False, "share": "disabled", "provider": {"tollway": provider}}
    _write(home / ".config" / "opencode" / "opencode.json", settings)
    return ["run", "-m", f"tollway/{model}"], {"TOLLWAY_KEY": key}


def _qwen(home: Path, gateway: Gateway, model: str, key: str) -> tuple[list[str], dict[str, str]]:
    settings = {
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"disableAutoUpdate": True},
    }
    _write(home / ".qwen" / "settings.json", settings)
    command = ["--auth-type", "openai", "-m", model, "--approval-mode", "yolo", "-p"]
    return command, {"OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": key}


def _cline(home: Path, gateway: Gateway, model: str, key: str) -> tuple[list[str], dict[str, str]]:
    name = "openai-compatible"
    settings = {"provider": name, "apiKey": key, "model": model, "baseUrl": f"{gateway.url}/v1"}
    entry = {"settings": settings, "updatedAt": "2026-11-21T00:00:00.000Z", "tokenSource": "manual"}
    providers = {"version": 1, "lastUsedProvider": name, "modes": {}, "providers": {name: entry}}
    _write(home / ".cline" / "data" / "settings" / "providers.json", providers)
    return ["--json"], {}


def _cn(home: Path, gateway: Gateway, model: str, key: str) -> tuple[list[str], dict[str, str]]:
    entry = {
        "name": model,
        "provider": "openai",
        "model": model,
        "apiBase": f"{gateway.url}/v1",
        "apiKey": key,
        "roles": ["chat"],
        "capabilities": ["tool_use"],
    }
    # YAML, of which JSON is a part.
    _write(home / "config.yaml", {"name": "Tollway", "version": "1.0.0", "schema": "v1", "models": [entry]})
    return ["--config", str(home / "config.yaml"), "--auto", "-p"], {"CONTINUE_TELEMETRY_ENABLED": "0"}


def _pi(home: Path, gateway: Gateway, model: str, key: str) -> tuple[list[str], dict[str, str]]:
    entry = {"id": model, "name": model, "contextWindow": 128_000, "maxTokens": 16_000}
    provider = {
        "baseUrl": f"{gateway.url}/v1",
        "api": "openai-completions",
        "apiKey": "TOLLWAY_KEY",
        "models": [entry],
    }
    _write(home / ".pi" / "agent" / "models.json", {"providers": {"tollway": provider}})
    return ["--offline", "--provider", "tollway", "--model", model, "-p"], {"TOLLWAY_KEY": key}


def _write(path: Path, settings: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


_SETUPS = {
    "claude": _claude,
    "codex": _codex,
    "gemini": _gemini,
    "opencode": _opencode,
    "qwen": _qwen,
    "cline": _cline,
    "cn": _cn,
    "pi": _pi,
}


if __name__ == "__main__":
    raise SystemExit(main())
