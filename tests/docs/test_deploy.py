"""What docs/deploy.md and deploy/ tell an operator to type exists."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import msgspec
import pytest
from tests.support.gateway import tollway

from tollway.config import Settings
from tollway.core.errors import CODES

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy").iterdir())
PAGE = ROOT / "docs" / "deploy.md"
NAMES = {field.name for field in msgspec.structs.fields(Settings)}


@pytest.mark.parametrize("file", [*FILES, PAGE], ids=lambda file: file.name)
def test_every_setting_named_is_one(file):
    named = {name.lower() for name in re.findall(r"TOLLWAY_([A-Z_]+)", file.read_text())}
    assert named <= NAMES


def test_settings_and_flags_of_the_page_exist():
    text = PAGE.read_text()
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", text)) - set(CODES) - {"max_connections"}
    assert {"tls_cert", "memory_max", "drain_timeout"} <= named <= NAMES
    known = tollway("serve", "--help").stdout
    lines = [line for line in text.splitlines() if line.startswith("    tollway serve")]
    flags = {flag for line in lines for flag in re.findall(r" (--[a-z-]+)", line)}
    assert flags
    assert {flag for flag in flags if flag not in known} == set()


def test_every_file_is_linked():
    for file in FILES:
        assert f"(../deploy/{file.name})" in PAGE.read_text()


def test_the_service_waits_longer_than_a_drain():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string((ROOT / "deploy" / "tollway.service").read_text())
    service, defaults = unit["Service"], Settings()
    assert int(service["TimeoutStopSec"]) > defaults.accept_grace + defaults.drain_timeout + 30
    assert service["KillMode"] == "mixed"
    assert service["ExecStart"].endswith("tollway serve")


def test_nginx_waits_longer_and_takes_as_much_as_the_gateway():
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    defaults = Settings()
    assert int(re.search(r"proxy_read_timeout (\d+)s", text)[1]) > defaults.stream_timeout
    assert int(re.search(r"client_max_body_size (\d+)m", text)[1]) << 20 >= defaults.body_max
