"""The scripted agent: it edits one file with whatever tools its caller has, in three steps.

The task is a phrase anywhere in what the user said: In FILE replace "OLD" with "NEW". The first answer
reads the file, the second edits it, the third says what was done. How far the work has got is counted
in tool results since the task was given. Tools are known by their names and the properties of their
schemas: file tools (Read, Edit, read_file, replace, ...), patches (apply_patch) and shells.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from tollway.core.json import decode, encode
from tollway.upstream.sandbox import models, schema, tools
from tollway.upstream.sandbox.ask import Ask, Tool
from tollway.upstream.sandbox.thought import Thought

_TEXT: Final = r'"((?:[^"\\]|\\.)*)"'
_TASK: Final = re.compile(rf'\bIn (?:"([^"\n]+)"|(\S+)),? replace {_TEXT} with {_TEXT}', re.IGNORECASE)
_FOLDER: Final = re.compile(r"(?:<cwd>|[Ww]orking directory:? ?`?)(/[^\s<`]+)")
_FAILED: Final = re.compile(
    r"\b(error|failed|failure|not found|no such file|denied|invalid)\b", re.IGNORECASE
)
_READS: Final = re.compile(r"read|view|open|cat\b", re.IGNORECASE)
_READS_OTHER: Final = re.compile(
    r"mcp|many|image|notebook|web|url|output|resource|thread|memory", re.IGNORECASE
)
_EDITOR: Final = re.compile(r"str_replace_(based_edit_tool|editor)")
_PATHS: Final = ("file_path", "filePath", "absolute_path", "path", "target_file", "filename", "file")
_OLD: Final = ("old_string", "oldString", "old_str", "old_text", "oldText", "search")
_NEW: Final = ("new_string", "newString", "new_str", "new_text", "newText", "replace")
_PATCH: Final = ("input", "patch")
_SHELL: Final = ("command", "cmd", "script")
_EXPLAINED: Final = ("description", "explanation", "instruction", "justification")
_SED_PATTERN: Final = re.compile(r"([\\/\[\].*^$])")
_SED_VALUE: Final = re.compile(r"([\\/&])")


class Task(Struct, frozen=True):
    """What is to be done, and where the work is going on."""

    file: str
    old: str
    new: str
    folder: str

    @property
    def path(self) -> str:
        """The file's full path where the folder is known."""
        if not self.folder or self.file.startswith(("/", "~")):
            return self.file
        return f"{self.folder.rstrip('/')}/{self.file.removeprefix('./')}"


def work(ask: Ask, _found: models.Found, choice: int) -> Thought:
    """The next step."""
    at, task = _task(ask)
    if task is None:
        return Thought(text='Tell me what to do like this: In FILE replace "OLD" with "NEW".')
    results = [turn.text for turn in ask.turns[at:] if turn.role == "tool"]
    step = len(results)
    if step == 0:
        said, call = f"I will read {task.file}.", _read(ask, task)
    elif step == 1:
        said, call = f"Now I will edit {task.file}.", _edit(ask, task, results[0])
    elif step == 2 and _FAILED.search(results[-1]):
        said, call = "That did not work; I will try the shell.", _edit_in_shell(ask, task)
    else:
        said, call = "", None
    if call is not None and ask.choice.mode != "none":
        tool, given = call
        return Thought(
            text=said,
            calls=(tools.call(tool, given, f"{len(ask.turns)}.{choice}.{step}"),),
            finish="tool_calls",
        )
    return Thought(text=_report(task, results))


def _report(task: Task, results: list[str]) -> str:
    if not results:
        return f"I have no tool to read {task.file} with."
    if len(results) == 1:
        return f"I have no tool to edit {task.file} with."
    if _FAILED.search(results[-1]):
        return f"I could not edit {task.file}."
    return f'Done: I replaced "{task.old}" with "{task.new}" in {task.file}.'


def _task(ask: Ask) -> tuple[int, Task | None]:
    """The task that was given last, and at which turn."""
    for at in range(len(ask.turns) - 1, -1, -1):
        turn = ask.turns[at]
        found = list(_TASK.finditer(turn.text)) if turn.role == "user" else []
        if found:
            quoted, plain, old, new = found[-1].groups()
            return at, Task(quoted or plain, _unescaped(old), _unescaped(new), _folder(ask))
    return 0, None


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)


def _folder(ask: Ask) -> str:
    for turn in ask.turns:
        found = _FOLDER.search(turn.text) if turn.role != "tool" else None
        if found:
            return found[1]
    return ""


Step = tuple[Tool, str] | None
"""A tool and its input."""


def _read(ask: Ask, task: Task) -> Step:
    reader = _first(ask, _reads)
    if reader is not None:
        command = {"command": "view"} if _EDITOR.fullmatch(reader.name) else {}
        return reader, _filled(reader, {**command, _named(reader, _PATHS): task.path})
    return _shell(ask, f"cat -- {shlex.quote(task.file)}", f"Read {task.file}")


def _edit(ask: Ask, task: Task, read: str) -> Step:
    editor = _first(ask, _edits)
    if editor is not None:
        return editor, _filled(editor, _edit_arguments(editor, task))
    patcher = _first(ask, lambda tool: tool.name == "apply_patch")
    if patcher is not None:
        patch = _patch(task, read)
        return patcher, patch if patcher.custom else _filled(patcher, {_named(patcher, _PATCH): patch})
    return _edit_in_shell(ask, task)


def _edit_arguments(editor: Tool, task: Task) -> dict[str, Any]:
    if _EDITOR.fullmatch(editor.name):
        given = {"command": "str_replace", "path": task.path}
        return {**given, "old_str": task.old, "new_str": task.new}
    return {
        _named(editor, _PATHS): task.path,
        _named(editor, _OLD): task.old,
        _named(editor, _NEW): task.new,
    }


def _edit_in_shell(ask: Ask, task: Task) -> Step:
    pattern = _SED_PATTERN.sub(r"\\\1", task.old)
    value = _SED_VALUE.sub(r"\\\1", task.new).replace("\n", "\\n")
    command = f"sed -i {shlex.quote(f's/{pattern}/{value}/g')} {shlex.quote(task.file)}"
    return _shell(ask, command, f"Edit {task.file}")


def _shell(ask: Ask, command: str, purpose: str) -> Step:
    shell = _first(
        ask, lambda tool: not tool.custom and bool(_named(tool, _SHELL)) and not _EDITOR.fullmatch(tool.name)
    )
    if shell is None:
        return None
    name = _named(shell, _SHELL)
    as_list = _properties(shell)[name].get("type") == "array"
    given: dict[str, Any] = {name: ["bash", "-lc", command] if as_list else command}
    return shell, _filled(shell, given, purpose)


def _first(ask: Ask, fits: Callable[[Tool], bool]) -> Tool | None:
    return next((tool for tool in ask.tools if fits(tool)), None)


def _reads(tool: Tool) -> bool:
    if _EDITOR.fullmatch(tool.name):
        return True
    reads = bool(_READS.search(tool.name)) and not _READS_OTHER.search(tool.name)
    return reads and bool(_named(tool, _PATHS)) and not _named(tool, _NEW)


def _edits(tool: Tool) -> bool:
    return bool(_EDITOR.fullmatch(tool.name)) or all(_named(tool, names) for names in (_PATHS, _OLD, _NEW))


def _properties(tool: Tool) -> dict[str, Any]:
    found = tool.schema.get("properties") if type(tool.schema) is dict else None
    listed = found.items() if type(found) is dict else ()
    return {name: inner for name, inner in listed if type(inner) is dict}


def _named(tool: Tool, names: tuple[str, ...]) -> str:
    """Which of `names` the tool has a property of; empty if it has none."""
    properties = _properties(tool)
    return next((name for name in names if name in properties), "")


def _filled(tool: Tool, given: dict[str, Any], purpose: str = "") -> str:
    """Arguments as JSON, with something valid for whatever else is required."""
    required = tool.schema.get("required") if type(tool.schema) is dict else None
    properties = _properties(tool)
    for name in required if type(required) is list else ():
        if name in given or type(name) is not str:
            continue
        told = purpose and name in _EXPLAINED
        given[name] = purpose if told else schema.generate(properties.get(name, {}))
    return encode(given).decode()


def _patch(task: Task, read: str) -> str:
    """A patch of the lines the text is in, as they were read."""
    lines = _output(read).splitlines()
    before = next((line for line in lines if task.old in line), task.old).split("\n")
    after = "\n".join(before).replace(task.old, task.new).split("\n")
    body = [*(f"-{line}" for line in before), *(f"+{line}" for line in after)]
    return "\n".join(["*** Begin Patch", f"*** Update File: {task.file}", "@@", *body, "*** End Patch", ""])


def _output(read: str) -> str:
    """What a command wrote, where its result is a JSON object about it."""
    try:
        found = decode(read)
    except msgspec.DecodeError:
        return read
    inner = found.get("output") if type(found) is dict else None
    return inner if type(inner) is str else read
