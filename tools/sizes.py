"""Fails when a file grows past 500 lines or a function past 70: the design is telling us something."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

FILE_MAX = 500
FUNCTION_MAX = 70


def complaints(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    found = []
    lines = text.count("\n")
    if lines > FILE_MAX:
        found.append(f"{path}: {lines} lines, more than {FILE_MAX}: split it by subject")
    tree = ast.parse(text)
    if path.parts[0] == "src" and not ast.get_docstring(tree):
        found.append(f"{path}: the module does not say what it is for")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_MAX:
                found.append(
                    f"{path}:{node.lineno}: {node.name} has {length} lines, more than {FUNCTION_MAX}"
                )
    return found


def tracked() -> list[Path]:
    """The Python files git knows of, whatever else lies about."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], capture_output=True, check=True)
    return [Path(name) for name in listed.stdout.decode().split("\0") if name]


def main() -> None:
    found = [complaint for path in tracked() for complaint in complaints(path)]
    print("\n".join(found) or "every file and function is of a readable size")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
