"""The text dialects by name: the one place that knows them all."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.anthropic import answer as anthropic_answer
from tollway.core.dialects.anthropic import errors as anthropic_errors
from tollway.core.dialects.anthropic import read as anthropic_read
from tollway.core.dialects.anthropic import stream as anthropic_stream
from tollway.core.dialects.anthropic import write as anthropic_write
from tollway.core.dialects.base import Counting, Dialect
from tollway.core.dialects.gemini import answer as gemini_answer
from tollway.core.dialects.gemini import errors as gemini_errors
from tollway.core.dialects.gemini import read as gemini_read
from tollway.core.dialects.gemini import stream as gemini_stream
from tollway.core.dialects.gemini import write as gemini_write
from tollway.core.dialects.openai_chat import answer as chat_answer
from tollway.core.dialects.openai_chat import errors as chat_errors
from tollway.core.dialects.openai_chat import read as chat_read
from tollway.core.dialects.openai_chat import stream as chat_stream
from tollway.core.dialects.openai_chat import write as chat_write
from tollway.core.dialects.openai_responses import answer as responses_answer
from tollway.core.dialects.openai_responses import errors as responses_errors
from tollway.core.dialects.openai_responses import read as responses_read
from tollway.core.dialects.openai_responses import stream as responses_stream
from tollway.core.dialects.openai_responses import stream_write as responses_stream_write
from tollway.core.dialects.openai_responses import write as responses_write
from tollway.core.exchange import DialectName, Request
from tollway.core.json import encode
from tollway.core.relay import BadAnswer

COMMENT: Final = b": keep-alive\n\n"
"""Ignored by the clients of every dialect but Gemini's."""
BLANK: Final = b"\r\n\r\n"
"""All that Gemini's clients tolerate between two chunks."""


def _data(obj: Any) -> bytes:
    return b"data: " + (obj.encode() if type(obj) is str else encode(obj)) + b"\n\n"


def _named(obj: Any) -> bytes:
    kind: str = obj["type"]
    return b"event: " + kind.encode() + b"\ndata: " + encode(obj) + b"\n\n"


def _crlf(obj: Any) -> bytes:
    return b"data: " + encode(obj) + b"\r\n\r\n"


def _counted(name: str) -> Any:
    def read(body: dict[str, Any]) -> int:
        """The input tokens an upstream counted. Raises BadAnswer."""
        value = body.get(name)
        if type(value) is not int or value < 0:
            raise BadAnswer(f"the count has no {name}")
        return value

    return read


DIALECTS: Final[dict[DialectName, Dialect]] = {
    "openai_chat": Dialect(
        name="openai_chat",
        read_request=chat_read.read_request,
        write_request=chat_write.write_request,
        read_response=chat_answer.read_response,
        write_response=chat_answer.write_response,
        reader=chat_stream.Reader,
        writer=chat_stream.Writer,
        read_error=chat_errors.read_error,
        write_error=chat_errors.write_error,
        frame=_data,
        keep_alive=COMMENT,
        counting=None,
    ),
    "openai_responses": Dialect(
        name="openai_responses",
        read_request=responses_read.read_request,
        write_request=responses_write.write_request,
        read_response=responses_answer.read_response,
        write_response=responses_answer.write_response,
        reader=responses_stream.Reader,
        writer=responses_stream_write.Writer,
        read_error=responses_errors.read_error,
        write_error=responses_errors.write_error,
        frame=_named,
        keep_alive=COMMENT,
        counting=Counting(
            responses_read.read_request,
            responses_write.write_count,
            _counted("input_tokens"),
            lambda count: {"object": "response.input_tokens", "input_tokens": count},
        ),
    ),
    "anthropic": Dialect(
        name="anthropic",
        read_request=anthropic_read.read_request,
        write_request=anthropic_write.write_request,
        read_response=anthropic_answer.read_response,
        write_response=anthropic_answer.write_response,
        reader=anthropic_stream.Reader,
        writer=anthropic_stream.Writer,
        read_error=anthropic_errors.read_error,
        write_error=anthropic_errors.write_error,
        frame=_named,
        keep_alive=COMMENT,
        counting=Counting(
            anthropic_read.read_count,
            anthropic_write.write_count,
            _counted("input_tokens"),
            lambda count: {"input_tokens": count},
        ),
    ),
    "gemini": Dialect(
        name="gemini",
        read_request=gemini_read.read_request,
        write_request=gemini_write.write_request,
        read_response=gemini_answer.read_response,
        write_response=gemini_answer.write_response,
        reader=gemini_stream.Reader,
        writer=gemini_answer.Writer,
        read_error=gemini_errors.read_error,
        write_error=gemini_errors.write_error,
        frame=_crlf,
        keep_alive=BLANK,
        counting=Counting(
            gemini_read.read_count,
            gemini_write.write_count,
            _counted("totalTokens"),
            lambda count: {"totalTokens": count},
        ),
    ),
}


def read_request(name: DialectName, body: dict[str, Any]) -> Request:
    """A request of a client of dialect `name`. Raises GatewayError.

    Cursor sends Responses bodies to the Chat Completions route and expects Chat's answers: such a body
    is read for what it is.
    """
    if name == "openai_chat" and "messages" not in body and "input" in body:
        return DIALECTS["openai_responses"].read_request(body)
    return DIALECTS[name].read_request(body)
