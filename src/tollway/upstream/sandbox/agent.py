"""The scripted agent: it edits one file with whatever tools its caller has, in three steps.

The task is a phrase anywhere in what the user said: In FILE replace "OLD" with "NEW". The first answer
reads the file, the second edits it, the third says what was done. How far the work has got is counted
in tool results since the task was given. Which tools it has, `hands` knows. Without any tools, a file
that was written into the conversation is written back whole.
"""

from __future__ import annotations

import re
import shlex
from typing import Final

import msgspec
from msgspec import Struct

from tollway.core.json import decode
from tollway.upstream.sandbox import hands, models, tools
from tollway.upstream.sandbox.ask import Ask
from tollway.upstream.sandbox.thought import Thought

_TEXT: Final = r'"((?:[^"\\]|\\.)*)"'
_TASK: Final = re.compile(rf'\bIn (?:"([^"\n]+)"|(\S+)),? replace {_TEXT} with {_TEXT}', re.IGNORECASE)
_ESCAPED: Final = re.compile(r'\\(["\\])')
_FOLDER: Final = re.compile(
    r"(?:<cwd>|\b(?:working|current|workspace)(?: \w+){0,2} director(?:y|ies):?[ `\"]*)(/[^\s<`\"]+)",
    re.IGNORECASE,
)
_FAILED: Final = re.compile(
    r"\b(error|failed|failure|not found|no such file|denied|invalid|must be)\b", re.IGNORECASE
)
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
    listing = None if ask.tools else _listing(ask, task)
    if listing is not None:
        return Thought(text=listing)
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


def _listing(ask: Ask, task: Task) -> str | None:
    """The whole edited file, for callers that have no tools but wrote the file into the conversation.

    Both are the file's name on a line of its own, and its text in a fence below.
    """
    shown = re.compile(rf"^{re.escape(task.file)}\n(```+)\w*\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
    texts = (turn.text for turn in reversed(ask.turns) if turn.role == "user")
    found = next((one for text in texts if (one := shown.search(text))), None)
    if found is None or task.old not in found[2]:
        return None
    return f"{task.file}\n{found[1]}\n{found[2].replace(task.old, task.new)}{found[1]}\n"


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
        found = _told(turn.text) if turn.role == "user" else None
        if found is not None:
            quoted, plain, old, new = found.groups()
            return at, Task(quoted or plain, _unescaped(old), _unescaped(new), _folder(ask))
    return 0, None


def _told(text: str) -> re.Match[str] | None:
    """The last task in a text. Some callers put what they were told in quotes, and escape what it had."""
    for form in (text, _ESCAPED.sub(r"\1", text)):
        found = list(_TASK.finditer(form))
        if found:
            return found[-1]
    return None


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)


def _folder(ask: Ask) -> str:
    for turn in ask.turns:
        found = _FOLDER.search(turn.text) if turn.role != "tool" else None
        if found:
            return found[1]
    return ""


def _read(ask: Ask, task: Task) -> hands.Step:
    command = f"cat -- {shlex.quote(task.file)}"
    return hands.reader(ask, task.path) or hands.shell(ask, command, f"Read {task.file}")


def _edit(ask: Ask, task: Task, read: str) -> hands.Step:
    edit = hands.editor(ask, task.path, task.old, task.new) or hands.patcher(ask, _patch(task, read))
    return edit or _edit_in_shell(ask, task)


def _edit_in_shell(ask: Ask, task: Task) -> hands.Step:
    pattern = _SED_PATTERN.sub(r"\\\1", task.old)
    value = _SED_VALUE.sub(r"\\\1", task.new).replace("\n", "\\n")
    command = f"sed -i {shlex.quote(f's/{pattern}/{value}/g')} {shlex.quote(task.file)}"
    return hands.shell(ask, command, f"Edit {task.file}")


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
