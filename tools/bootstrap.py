"""Brings what the checkout needs into the checkout, then runs a command: the body of `./run`.

Needs nothing but Python 3.11: `uv` is taken from PATH if there, else fetched into `.tooling/` by
whatever this machine allows (venv, pip, or a plain download whose hash is checked). Nothing
outside the checkout is touched.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLING = ROOT / ".tooling"
UV_VERSION = "0.13.8"
# Compiled once at installation, everything starts twice as fast.
ENVIRONMENT = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_COMPILE_BYTECODE": "1"}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)
ENVIRONMENT.pop("VIRTUAL_ENV", None)


def say(text: str) -> None:
    print(f"run: {text}", file=sys.stderr, flush=True)


def works(uv: str) -> bool:
    try:
        found = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    numbers = found.stdout.split()[1].split(".")
    return (int(numbers[0]), int(numbers[1])) >= (0, 9)


def find_uv() -> str:
    """The path of a usable uv, fetched into the checkout if there is none."""
    on_path = shutil.which("uv")
    if on_path and works(on_path):
        return on_path
    local = TOOLING / "bin" / "uv"
    if local.exists() and works(str(local)):
        return str(local)
    for attempt in (by_venv, by_pip, by_download):
        say(f"fetching uv {UV_VERSION} into .tooling ({attempt.__name__.removeprefix('by_')})")
        try:
            attempt(local)
        except (OSError, subprocess.SubprocessError, KeyError, ValueError, StopIteration) as error:
            say(f"  that did not work: {error}")
            continue
        if works(str(local)):
            return str(local)
    sys.exit("run: uv could not be installed. Try: install uv yourself (any way), then run this again.")


def by_venv(local: Path) -> None:
    folder = TOOLING / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", f"uv=={UV_VERSION}"]
    subprocess.run(install, check=True, capture_output=True)
    put(folder / "bin" / "uv", local)


def by_pip(local: Path) -> None:
    # --target is allowed even where the system's environment is marked as externally managed.
    folder = TOOLING / "pip"
    install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), f"uv=={UV_VERSION}"]
    subprocess.run(install, check=True, capture_output=True)
    put(folder / "bin" / "uv", local)


def by_download(local: Path) -> None:
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
    page_url = f"{index.rstrip('/')}/uv/"
    # Every index speaks plain HTML (PEP 503); not every one speaks its JSON form.
    with urllib.request.urlopen(page_url, timeout=60) as answer:
        page = answer.read().decode()
    links = re.findall(r'href="([^"#]+)#sha256=([0-9a-f]{64})"[^>]*>\s*([^<\s]+)', page)
    url, digest = next((url, digest) for url, digest, name in links if fits(name))
    with urllib.request.urlopen(urllib.parse.urljoin(page_url, url), timeout=300) as answer:
        data = answer.read()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError("the download's hash is wrong")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(one for one in archive.namelist() if one.endswith("/scripts/uv"))
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(archive.read(name))
    local.chmod(0o755)


def fits(filename: str) -> bool:
    """Whether a wheel of the wanted version is for this machine."""
    if not filename.startswith(f"uv-{UV_VERSION}-") or not filename.endswith(".whl"):
        return False
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if sys.platform == "darwin":
        return "macosx" in filename and ("arm64" if machine == "arm64" else "x86_64") in filename
    musl = "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or "")
    return ("musllinux" if musl else "manylinux") in filename and machine in filename


def put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source)


def sync(uv: str, *, development: bool) -> Path:
    """Install the locked dependencies into `.venv`; returns its bin folder."""
    words = [uv, "sync", "--quiet", "--locked", "--python", sys.executable]
    if not development:
        words += ["--no-dev", "--inexact"]
    if subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=False).returncode:
        # Behind a proxy of one's own only the system's certificates know the way.
        ENVIRONMENT["UV_SYSTEM_CERTS"] = "true"
        if subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, check=False).returncode:
            sys.exit("run: installing the dependencies failed; the lines above say why.")
    return ROOT / ".venv" / "bin"


def main() -> None:
    words = sys.argv[1:] or ["--help"]
    development = words[0] in ("test", "check", "bench", "agents")
    tools = sync(find_uv(), development=development)
    if words[0] == "test":
        command = [str(tools / "python"), "-m", "pytest", *(words[1:] or ["-n", "2"])]
    elif words[0] == "check":
        command = ["sh", str(ROOT / "tools" / "check.sh"), *words[1:]]
    elif words[0] == "bench":
        command = [str(tools / "python"), "-m", "bench", *words[1:]]
    elif words[0] == "agents":
        command = [str(tools / "python"), str(ROOT / "tools" / "agents.py"), *words[1:]]
    else:
        command = [str(tools / "tollway"), *words]
    ENVIRONMENT["PATH"] = f"{tools}{os.pathsep}{ENVIRONMENT.get('PATH', '')}"
    os.execve(
        command[0] if "/" in command[0] else shutil.which(command[0]) or command[0], command, ENVIRONMENT
    )


if __name__ == "__main__":
    main()
