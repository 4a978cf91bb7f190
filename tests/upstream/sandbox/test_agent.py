"""The scripted agent edits a real file with the tools of different clients, in every dialect."""

import json
import subprocess

import pytest
from tests.upstream.sandbox.raw import post

OLD, NEW = 'greet("wörld") / *x*', "farewell(& 'all')"
BEFORE = f"# first\nprint({OLD})\n# last\n"
STRING = {"type": "string"}


def schema(*names, **others):
    properties = {**dict.fromkeys(names, STRING), **others}
    return {"type": "object", "properties": properties, "required": list(properties)}


def listed(*names):
    return {"type": "array", "items": schema(*names)}


def _read(path):
    return "".join(f"{number}\t{line}" for number, line in enumerate(path.read_text().splitlines(True), 1))


def _replace(folder, path, old, new):
    target = folder / path
    text = target.read_text()
    assert text.count(old) == 1
    target.write_text(text.replace(old, new))
    return "The file has been updated."


def _run(folder, command):
    done = subprocess.run(
        command, cwd=folder, shell=isinstance(command, str), capture_output=True, text=True, check=False
    )
    return f"exit {done.returncode}\nOutput:\n{done.stdout}{done.stderr}"


def _patch(folder, patch):
    """Just enough of the patch format to know a good patch from a bad one."""
    begin, file, mark, *lines, end = patch.rstrip("\n").split("\n")
    assert (begin, mark, end) == ("*** Begin Patch", "@@", "*** End Patch")
    old = "\n".join(line[1:] for line in lines if line[0] == "-")
    new = "\n".join(line[1:] for line in lines if line[0] == "+")
    return _replace(folder, file.removeprefix("*** Update File: "), old, new)


# Per client: its tools with their schemas (None: free text), and what carries them out.
CLIENTS = {
    "Claude Code": {
        "Bash": (schema("command", "description"), lambda folder, **given: _run(folder, given["command"])),
        "Read": (schema("file_path"), lambda folder, file_path: _read(folder / file_path)),
        "ReadMcpResource": (schema("path"), None),
        "Edit": (schema("file_path", "old_string", "new_string"), lambda folder, **given: _replace(folder, given["file_path"], given["old_string"], given["new_string"])),
        "Write": (schema("file_path", "content"), None),
    },
    "Codex": {
        "exec_command": (schema("cmd"), lambda folder, **given: _run(folder, given["cmd"])),
        "write_stdin": (schema("session", "chars"), None),
        "view_image": (schema("path"), None),
        "apply_patch": (None, _patch),
    },
    "an older Codex": {
        "shell": (schema(command={"type": "array", "items": STRING}), lambda folder, command: json.dumps({"output": _run(folder, command), "metadata": {}})),
        "apply_patch": (schema("input"), lambda folder, **given: _patch(folder, given["input"])),
    },
    "Gemini CLI": {
        "list_directory": (schema("path"), None),
        "read_file": (schema("absolute_path"), lambda folder, absolute_path: _read(folder / absolute_path)),
        "read_many_files": (schema("path"), None),
        "replace": (schema("file_path", "instruction", "old_string", "new_string"), lambda folder, file_path, instruction, old_string, new_string: _replace(folder, file_path, old_string, new_string)),
    },
    "an editor": {
        "str_replace_based_edit_tool": (schema("command", "path", "old_str", "new_str"), lambda folder, command, path, **given: _read(folder / path) if command == "view" else _replace(folder, path, given["old_str"], given["new_str"])),
    },
    "lists of files and commands": {
        "read_files": (schema(files=listed("path", "start_line")), lambda folder, files: _read(folder / files[0]["path"])),
        "run_commands": (schema(commands={"type": "array", "items": STRING}), None),
        "editor": (schema("path", old_text={"anyOf": [STRING, {"type": "null"}]}, new_text=STRING, replace={"type": "boolean"}), lambda folder, path, old_text, new_text, replace: _replace(folder, path, old_text, new_text)),
    },
    "lists of edits": {
        "Read": (schema("filepath"), lambda folder, filepath: _read(folder / filepath)),
        "MultiEdit": (schema("filePath", edits=listed("oldText", "newText")), lambda folder, filePath, edits: _replace(folder, filePath, edits[0]["oldText"], edits[0]["newText"])),
    },
    "a list of commands": {
        "task": (schema("prompt", "command"), None),
        "run_terminal": (schema(commands={"type": "array", "items": STRING}), lambda folder, commands: _run(folder, commands[0])),
    },
    "a shell alone": {"bash": (schema("command"), _run)},
    "an editor that fails": {
        "Read": (schema("file_path"), lambda folder, file_path: _read(folder / file_path)),
        "Edit": (schema("file_path", "old_string", "new_string"), lambda folder, **given: "Error: file has not been read"),
        "Bash": (schema("command"), _run),
    },
}  # fmt: skip


class Chat:
    path, headers = "/v1/chat/completions", {}

    def __init__(self, task, tools):
        self.items = [
            {"role": "system", "content": "Working directory: WHERE"},
            {"role": "user", "content": task},
        ]
        self.body = {
            "model": "sandbox-agent",
            "messages": self.items,
            "tools": [self.tool(name, one) for name, one in tools.items()],
        }

    def tool(self, name, given):
        if given is None:
            return {"type": "custom", "custom": {"name": name}}
        return {"type": "function", "function": {"name": name, "parameters": given}}

    def take(self, body):
        message = body["choices"][0]["message"]
        self.items.append(message)
        calls = [
            (
                call["id"],
                call[call["type"]]["name"],
                call["custom"]["input"]
                if call["type"] == "custom"
                else json.loads(call["function"]["arguments"]),
            )
            for call in message.get("tool_calls", ())
        ]
        return message["content"], calls

    def give(self, call_id, name, result):
        self.items.append({"role": "tool", "tool_call_id": call_id, "content": result})


class Responses(Chat):
    path = "/v1/responses"

    def __init__(self, task, tools):
        self.items = [{"role": "developer", "content": "<cwd>WHERE</cwd>"}, {"role": "user", "content": task}]
        self.body = {
            "model": "sandbox-agent",
            "input": self.items,
            "tools": [self.tool(name, one) for name, one in tools.items()],
        }

    def tool(self, name, given):
        return (
            {"type": "custom", "name": name}
            if given is None
            else {"type": "function", "name": name, "parameters": given, "strict": False}
        )

    def take(self, body):
        self.items += body["output"]
        calls = [
            (
                item["call_id"],
                item["name"],
                item["input"] if "input" in item else json.loads(item["arguments"]),
            )
            for item in body["output"]
            if item["type"].endswith("_call")
        ]
        return "".join(
            part["text"] for item in body["output"] if item["type"] == "message" for part in item["content"]
        ), calls

    def give(self, call_id, name, result):
        kind = next(item["type"] for item in self.items if item.get("call_id") == call_id)
        self.items.append({"type": f"{kind}_output", "call_id": call_id, "output": result})


class Anthropic(Chat):
    path, headers = "/v1/messages", {"anthropic-version": "2023-06-01"}

    def __init__(self, task, tools):
        self.items = [{"role": "user", "content": [{"type": "text", "text": task}]}]
        self.body = {
            "model": "sandbox-agent",
            "max_tokens": 32000,
            "system": "Working directory: WHERE",
            "messages": self.items,
            "tools": [self.tool(name, one) for name, one in tools.items()],
        }

    def tool(self, name, given):
        return {"name": name, "input_schema": given or schema("input")}

    def take(self, body):
        self.items.append({"role": "assistant", "content": body["content"]})
        calls = [
            (block["id"], block["name"], block["input"])
            for block in body["content"]
            if block["type"] == "tool_use"
        ]
        return "".join(block["text"] for block in body["content"] if block["type"] == "text"), calls

    def give(self, call_id, name, result):
        block = {"type": "tool_result", "tool_use_id": call_id, "content": result}
        self.items.append(
            {
                "role": "user",
                "content": [block, {"type": "text", "text": "<system-reminder>Be brief.</system-reminder>"}],
            }
        )


class Gemini(Chat):
    path = "/v1beta/models/sandbox-agent:generateContent"

    def __init__(self, task, tools):
        self.items = [{"role": "user", "parts": [{"text": task}]}]
        declared = [
            {"name": name, "parametersJsonSchema": one or schema("input")} for name, one in tools.items()
        ]
        self.body = {
            "contents": self.items,
            "systemInstruction": {"parts": [{"text": "Working directory: WHERE"}]},
            "tools": [{"functionDeclarations": declared}],
        }

    def take(self, body):
        content = body["candidates"][0]["content"]
        self.items.append(content)
        calls = [
            ("", part["functionCall"]["name"], part["functionCall"]["args"])
            for part in content["parts"]
            if "functionCall" in part
        ]
        return "".join(part.get("text", "") for part in content["parts"]), calls

    def give(self, call_id, name, result):
        part = {"functionResponse": {"name": name, "response": {"output": result}}}
        self.items.append({"role": "user", "parts": [part]})


TASK = f'Please do this. In src/main.py replace "{OLD}" with "{NEW}" and tell me.'.replace(
    OLD, OLD.replace('"', '\\"')
)


def work(sandbox, conversation, tools, folder):
    """Carry out what the agent asks for, until it asks no more. The tools used, and its last words."""
    used = []
    while len(used) < 5:
        body = json.dumps(conversation.body).replace("WHERE", str(folder)).encode()
        answer = sandbox.fetch(post(body, conversation.path, conversation.headers))
        assert answer.status == 200, answer.body
        text, calls = conversation.take(answer.json())
        if not calls:
            return used, text
        for call_id, name, given in calls:
            used.append(name)
            carry_out = tools[name][1]
            if isinstance(given, dict) and tools[name][0] is None:
                given = given["input"]
            result = carry_out(folder, **given) if isinstance(given, dict) else carry_out(folder, given)
            conversation.give(call_id, name, result)
    raise AssertionError(used)


@pytest.mark.parametrize("dialect", [Chat, Responses, Anthropic, Gemini])
@pytest.mark.parametrize("client", CLIENTS)
def test_the_agent_does_its_task(sandbox, tmp_path, dialect, client):
    file = tmp_path / "src" / "main.py"
    file.parent.mkdir()
    file.write_text(BEFORE)
    tools = CLIENTS[client]
    conversation = dialect(TASK, {name: given for name, (given, _) in tools.items()})
    used, said = work(sandbox, conversation, tools, tmp_path)
    assert file.read_text() == BEFORE.replace(OLD, NEW)
    assert len(used) == (3 if client == "an editor that fails" else 2)
    assert said.startswith("Done: I replaced")


@pytest.mark.parametrize(
    ("text", "tools", "said"),
    [
        ("Hello", {}, "Tell me what to do"),
        (TASK, {}, "I have no tool to read"),
        (TASK, {"Write": schema("file_path", "content")}, "I have no tool to read"),
    ],
)
def test_an_agent_that_can_do_nothing_says_so(sandbox, text, tools, said):
    conversation = Chat(text, tools)
    answer = sandbox.fetch(post({**conversation.body, "tools": conversation.body["tools"] or None})).json()
    assert answer["choices"][0]["message"]["content"].startswith(said)


QUOTED = '"' + TASK.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize("text", [TASK, QUOTED], ids=["as it is", "in quotes"])
@pytest.mark.parametrize(
    "told",
    [
        "<cwd>/a/b</cwd>",
        "Working directory: /a/b",
        "4. Working Directory: /a/b",
        "I'm currently working in the directory: `/a/b`",
        'The current working directory is unknown.\nWorkspace directory "/a/b"',
    ],
)
def test_a_task_is_found_in_quotes_and_its_folder_in_other_words(sandbox, text, told):
    body = {**Chat(text, {"Read": schema("file_path")}).body}
    body["messages"] = [{"role": "system", "content": told}, {"role": "user", "content": text}]
    (call,) = sandbox.fetch(post(body)).json()["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"file_path": "/a/b/src/main.py"}


SHOWN = "These files are in the chat:\n\nnotes.txt\n```\none apple\ntwo\n```\n"


@pytest.mark.parametrize(
    ("shown", "tools", "said"),
    [
        (SHOWN, {}, "notes.txt\n```\none pear\ntwo\n```\n"),
        (SHOWN.replace("```", "````"), {}, "notes.txt\n````\none pear\ntwo\n````\n"),
        (SHOWN, {"tools": [{"type": "function", "function": {"name": "play"}}]}, "no tool to read"),
        (SHOWN.replace("apple", "plum"), {}, "no tool to read"),
        (SHOWN.replace("notes.txt", "other.txt"), {}, "no tool to read"),
    ],
    ids=["listed", "a longer fence", "tools", "other text", "another file"],
)
def test_a_file_in_the_conversation_is_written_back_whole(sandbox, shown, tools, said):
    """As aider asks for it, which has no tools."""
    told = ["Edit what I show you.", shown, 'In notes.txt replace "apple" with "pear"']
    messages = [{"role": "user", "content": text} for text in told]
    answer = sandbox.fetch(post({"model": "sandbox-agent", "messages": messages, **tools})).json()
    assert said in answer["choices"][0]["message"]["content"]


def test_a_file_that_cannot_be_edited(sandbox, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text(BEFORE)
    tools = {
        "Read": (schema("file_path"), lambda folder, file_path: _read(folder / file_path)),
        "Edit": (schema("file_path", "old_string", "new_string"), lambda folder, **given: "Error: denied"),
    }
    used, said = work(sandbox, Chat(TASK, {name: one for name, (one, _) in tools.items()}), tools, tmp_path)
    assert used == ["Read", "Edit"] and said == "I could not edit src/main.py."
