"""Chat Completions bodies, piece by piece, and the losses of a translation."""

from __future__ import annotations


def chat(*messages, **more):
    return {"model": "m", "messages": list(messages), **more}


def user(content):
    return {"role": "user", "content": content}


def calling(*calls, content=None):
    listed = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": listed}


def result(call_id, content):
    return {"role": "tool", "tool_call_id": call_id, "content": content}


TWO = [user("go"), calling(("a", "one", "{}"), ("b", "two", "{}"))]


def losses(written, severity="note"):
    return {loss.path for loss in written.losses if loss.severity == severity}
