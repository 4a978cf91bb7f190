"""What a call may cost is read from every kind of body, and sent to no upstream."""

import pytest

from tollway.core.dialects.checked import ask, read_chat, read_completion
from tollway.core.errors import GatewayError
from tollway.core.json import decode, encode
from tollway.core.media.embeddings import read_gemini, read_openai

HELLO = [{"role": "user", "content": "Hello"}]
READERS = {
    "chat": lambda more: read_chat(encode({"model": "m", "messages": HELLO, **more})),
    "responses on chat": lambda more: read_chat(encode({"model": "m", "input": "Hello", **more})),
    "completions": lambda more: read_completion(encode({"model": "m", "prompt": "Hello", **more})),
    "responses": lambda more: ask("openai_responses", {"model": "m", "input": "Hello", **more}),
    "messages": lambda more: ask("anthropic", {"model": "m", "max_tokens": 5, "messages": HELLO, **more}),
    "gemini": lambda more: ask(
        "gemini", {"model": "m", "stream": False, "contents": [{"parts": [{"text": "Hello"}]}], **more}
    ),
    "embeddings": lambda more: read_openai({"model": "m", "input": "Hello", **more}),
    "gemini embeddings": lambda more: read_gemini(
        {"model": "m", "content": {"parts": [{"text": "Hello"}]}, **more}, batch=False
    ),
}


@pytest.mark.parametrize("kind", READERS)
def test_it_is_read_and_taken_out(kind):
    plain, capped = READERS[kind]({}), READERS[kind]({"max_credits": 2.5})
    assert (plain.max_credits, capped.max_credits) == (None, 2.5)
    assert decode(capped.body("up", None)) == decode(plain.body("up", None))
    assert capped.input_bound == plain.input_bound


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("value", ["1", True, -1, [], 1e12])
def test_what_is_no_amount_is_refused(kind, value):
    with pytest.raises(GatewayError) as error:
        READERS[kind]({"max_credits": value})
    assert (error.value.code, error.value.param) == ("invalid_value", "max_credits")
