"""Texts generated for a regular expression match it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.upstream.sandbox.patterns import Unsupported, example


@pytest.mark.parametrize(
    "pattern",
    [
        r"",
        r"^$",
        r"^abc$",
        r"^a|b$",
        r"^(foo|bar)-\d{3}$",
        r"^[a-z0-9_-]{8,16}$",
        r"^[^a-z]+$",
        r"^[^\d\s]$",
        r"^[]x]$",
        r"^[\w.]+@[\w.]+\.\w{2,}$",
        r"^\+?[1-9]\d{1,14}$",
        r"^(?:a{2}){3}b*?c+?$",
        r"^(?P<year>\d{4})-(?<month>\d\d)$".replace("?<", "?P<"),
        r"^\x41\u00e9\t\.$",
        r"^#([A-Fa-f0-9]{6}|[A-Fa-f0-9]{3})$",
        r"^\S+ \W\D$",
        r"^a{0}b{2,}$",
        r"^\bword\b$",
    ],
)
def test_examples_match(pattern):
    assert re.search(pattern, example(pattern)), example(pattern)


@pytest.mark.parametrize("pattern", [r"(?=a)", r"(?!a)", r"(?<=a)b", r"(a)\1", r"\p{L}", r"(a", r"a)", r"*a", r"a{x}", "[a", "a{9999}{9999}"])  # fmt: skip
def test_what_is_not_understood_is_said(pattern):
    with pytest.raises(Unsupported):
        example(pattern)


def test_open_quantifiers_reach_a_length():
    assert len(example("^[a-z]+$", 100)) >= 100
    assert len(example("^[a-z]{1,30}$", 25)) >= 25


ATOMS = st.sampled_from(["a", "Z", "5", r"\d", r"\w", r"\s", ".", "[a-f]", "[^0-9]", r"\.", "-"])
QUANTIFIED = st.tuples(ATOMS, st.sampled_from(["", "*", "+", "?", "{3}", "{1,4}", "{2,}"])).map("".join)
GROUPS = st.lists(QUANTIFIED, min_size=1, max_size=4).map(lambda parts: "(" + "|".join(parts) + ")")


@settings(deadline=None)
@given(st.lists(st.one_of(QUANTIFIED, GROUPS), max_size=6).map(lambda parts: "^" + "".join(parts) + "$"))
def test_composed_patterns_match(pattern):
    assert re.search(pattern, example(pattern))
