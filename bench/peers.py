"""Where the programs under test are found, and how the optional peers are installed into bench/.scratch."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

SCRATCH: Final = Path(__file__).parent / ".scratch"
LITELLM: Final = "litellm[proxy]==1.106.2"
PORTKEY: Final = "@portkey-ai/gateway@1.15.2"
PORTKEY_OVERRIDES: Final = {"@hono/node-server": "1.13.8"}
"""With 1.14.2 and later Portkey answers 500 to every stream, because it changes headers that are immutable (its issue 1389)."""
LITELLM_KEY: Final = "sk-bench-0123456789"


class Command(Struct, frozen=True):
    """How a program is run, and which version it is."""

    words: list[str]
    version: str


def tollway_command() -> list[str]:
    """The `tollway` beside this interpreter, as a user would run it."""
    script = Path(sys.executable).parent / "tollway"
    return [str(script)] if script.exists() else [sys.executable, "-m", "tollway"]


def tollway_version() -> str:
    return f"tollway/{importlib.metadata.version('tollway')}"


def litellm_command(folder: Path, port: int, upstream: int) -> Command | None:
    """Write LiteLLM's configuration into `folder`; None if it is not installed."""
    binary = SCRATCH / "litellm" / "bin" / "litellm"
    if not binary.exists():
        return None
    params = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "bench", "litellm_params": params}],
        "general_settings": {"master_key": LITELLM_KEY},
        "litellm_settings": {"telemetry": False},
    }
    file = folder / "litellm.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    words = [
        str(binary),
        "--config",
        str(file),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    return Command(words, LITELLM)


def portkey_command(port: int) -> Command | None:
    """None if Portkey or Node is not installed."""
    script = SCRATCH / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    node = shutil.which("node")
    if node is None or not script.exists():
        return None
    return Command([node, str(script), f"--port={port}", "--headless"], PORTKEY)


def install(name: str) -> None:
    """Install one peer from its package registry into bench/.scratch. Raises CalledProcessError or KeyError."""
    folder = SCRATCH / name
    folder.mkdir(parents=True, exist_ok=True)
    python = str(folder / "bin" / "python")
    steps = {
        "litellm": [
            ["uv", "venv", "--allow-existing", "--python", sys.executable, str(folder)],
            ["uv", "pip", "install", "--python", python, LITELLM],
        ],
        "portkey": [
            [
                "npm",
                "install",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
                str(folder),
                PORTKEY,
            ]
        ],
    }[name]
    if name == "portkey":
        wanted = {"private": True, "overrides": PORTKEY_OVERRIDES}
        (folder / "package.json").write_text(json.dumps(wanted), encoding="utf-8")
    for words in steps:
        subprocess.run(words, check=True)
