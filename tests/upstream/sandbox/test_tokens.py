"""The tokenisation rule, which every usage figure of the sandbox can be recomputed with."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.upstream.sandbox import tokens


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("Hi", ["Hi"]),
        ("Hello there", ["Hell", "o", " the", "re"]),
        ("a  b", ["a", " ", " b"]),
        ("\n\nok\n", ["\n", "\nok", "\n"]),
        ("日本語です。", ["日本語で", "す。"]),
    ],
)
def test_examples(text, pieces):
    assert list(tokens.split(text)) == pieces


@settings(deadline=None)
@given(st.text())
def test_tokens_are_the_text_and_bytes_bound_them(text):
    pieces = list(tokens.split(text))
    assert "".join(pieces) == text
    assert all(1 <= len(piece) <= 4 for piece in pieces)
    assert tokens.count(text) == len(pieces) <= len(text.encode("utf-8", "surrogatepass"))


def test_a_large_text_is_counted_by_the_same_rule():
    text = "some words, and more\n" * 10_000
    assert tokens.count(text) == len(list(tokens.split(text)))
