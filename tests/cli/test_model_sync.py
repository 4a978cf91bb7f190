"""`tollway model sync` and discounts from the command line: what is shown, asked and changed."""

import io
import json
import sys

import pytest
from tests.support.admin import ready

from tollway.cli.app import run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def cli(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TOLLWAY_DATA", str(ready(tmp_path / "data")))

    def call(*words: str, code: int = 0):
        capsys.readouterr()
        found = run(words, lambda settings: 0)
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    return call


WANTED = ("model", "sync", "--provider", "anthropic", "--models", "claude-haiku-*")


def models(cli) -> set[str]:
    return {row["name"] for row in json.loads(cli("model", "list", "--json")[0]) if "haiku" in row["name"]}


def test_a_plan_is_shown_and_nothing_is_changed_where_nobody_can_be_asked(cli, monkeypatch):
    out, err = cli(*WANTED, "--plan")
    assert "add  claude-haiku-4-5" in out
    assert "input@100000 500" in out
    assert "Plan: 2 added, 0 changed, 0 kept, 0 unchanged" in err
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert "with --apply" in cli(*WANTED)[1]
    assert models(cli) == set()


def test_a_terminal_is_asked(cli, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert "Nothing was changed" in cli(*WANTED, code=1)[1]
    assert models(cli) == set()
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert "Done: 2 added" in cli(*WANTED)[1]
    assert models(cli) == {"claude-haiku-4-5", "claude-haiku-5-5"}


def test_it_is_applied_once_and_shows_each_rate_before_and_after(cli):
    assert "Done: 2 added" in cli(*WANTED, "--apply")[1]
    out, err = cli(*WANTED, "--apply")
    assert out == "" and "0 added, 0 changed, 0 kept, 2 unchanged" in err
    out, _ = cli(*WANTED, "--markup", "20", "--plan")
    assert "input 1000 -> 1200 (+20.0%)" in out
    data = json.loads(cli(*WANTED, "--markup", "20", "--plan", "--json")[0])
    assert data["applied"] is False and data["unchanged"] == 0
    assert data["changed"][0]["rates"][0] == {"rate": "input", "old": 1000, "new": 1200, "percent": 20.0}
    lines = cli(*WANTED, "--markup", "20", "--plan", "-o", "jsonl")[0].splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["claude-haiku-4-5", "claude-haiku-5-5"]


def test_a_price_by_hand_is_kept_and_says_so(cli):
    cli("model", "add", "gpt-5", "--input-price", "1", "--output-price", "2", "--rate", "input@200k=3")
    out, _ = cli("model", "sync", "--apply")
    assert "its price was set by hand; the catalogue says: input 1 -> 1250" in out
    shown, _ = cli("model", "show", "gpt-5")
    assert "input=1, output=2, input@200000=3" in shown and "(operator)" in shown


def test_plan_and_apply_exclude_each_other(cli):
    assert "exclude each other" in cli(*WANTED, "--plan", "--apply", code=2)[1]


def test_discounts_are_set_listed_and_undone(cli):
    _, err = cli("model", "discount", "12.5", "--group", "gold")
    assert "paid 0% less, and pays 12.5% less" in err
    assert "Undo: tollway model discount 0 --group 'gold'" in err
    assert json.loads(cli("model", "discounts", "--json")[0]) == [
        {"scope": "group", "name": "gold", "percent": 12.5}
    ]
    cli("model", "discount", "0", "--group", "gold")
    assert "Nobody pays less" in cli("model", "discounts")[1]
    assert "A discount of 101 percent" in cli("model", "discount", "101", "--group", "gold", code=2)[1]
