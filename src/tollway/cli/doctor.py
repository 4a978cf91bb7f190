"""`tollway doctor`: check everything and say how to fix what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli import machine
from tollway.cli.common import DEFAULT, Common, settings
from tollway.cli.faults import FAILURE, OK, CommandFailed
from tollway.cli.machine import Finding, finding
from tollway.cli.output import field, one, rows, say
from tollway.cli.session import perform_with
from tollway.cli.status import alive

if TYPE_CHECKING:
    from tollway.config import Settings

COLUMNS: Final = (field("check"), field("verdict"), field("detail"))

_LOCAL: Final[tuple[Callable[[Settings], Finding], ...]] = (
    machine.python,
    machine.sqlite,
    machine.folder,
    machine.permissions,
    machine.key_file,
    machine.disk,
    machine.open_files,
    machine.system_clock,
    machine.address,
)


def doctor(
    *,
    channels: Annotated[bool, Parameter(help="Also send a tiny call through every enabled channel.")] = False,
    full: Annotated[
        bool, Parameter(help="Prove the whole ledger, which takes minutes where there are millions of calls.")
    ] = False,
    common: Common = DEFAULT,
) -> int:
    """Check the machine, the data folder, the database, the ledger and the channels; exits 1 if one fails."""
    try:
        found = settings(common)
    except CommandFailed as error:
        findings = [finding("settings", "failed", error.what, error.fix)]
    else:
        findings = asyncio.run(_findings(found, channels=channels, full=full))
    if common.format == "json":
        one(common, {"ok": not _failed(findings), "checks": findings}, ())
    else:
        rows(common, findings, COLUMNS, empty="")
    for wrong in findings:
        if wrong["fix"] and wrong["verdict"] in ("failed", "warning"):
            say(common, f"{wrong['check']}: {wrong['detail']}", f"  Try: {wrong['fix']}")
    failed = _failed(findings)
    say(
        common,
        f"{len(findings)} checks, {len(failed)} failed." if failed else f"{len(findings)} checks, all well.",
    )
    return FAILURE if failed else OK


def _failed(findings: list[Finding]) -> list[Finding]:
    return [one_finding for one_finding in findings if one_finding["verdict"] == "failed"]


async def _findings(found: Settings, *, channels: bool, full: bool) -> list[Finding]:
    running = await _running(found)
    findings = [finding("settings", "ok", "all known, all possible")]
    findings += [check(found) for check in _LOCAL]
    findings.append(running)
    findings.append(await _port(found, running=running["verdict"] == "ok"))
    inside = await _inside(found, full=full)
    findings += inside
    if channels and all(
        one_finding["check"] != "database" or one_finding["verdict"] == "ok" for one_finding in inside
    ):
        findings += await _channels(found)
    return findings


async def _running(found: Settings) -> Finding:
    from tollway.flows.admin.control_client import ControlClient, ControlUnavailable
    from tollway.flows.admin.refusals import Refused

    with contextlib.suppress(ControlUnavailable, Refused):
        await ControlClient(Path(found.data)).perform("health.status", {})
        return finding("gateway", "ok", "running, and it answers on its control socket")
    if await alive(found.host, found.port, tls=bool(found.tls_cert)):
        return finding("gateway", "ok", f"running, and it answers on {found.host}:{found.port}")
    return finding("gateway", "skipped", "not running", "tollway serve")


async def _port(found: Settings, *, running: bool) -> Finding:
    if running:
        return finding("port", "ok", f"{found.port} is configured; the gateway may have been given another")
    problem = machine.port_problem(found.host, found.port)
    if problem:
        return finding(
            "port",
            "failed",
            f"{found.host}:{found.port}: {problem}",
            f"tollway serve --port {found.port + 1}",
        )
    return finding("port", "ok", f"{found.host}:{found.port} is free")


async def _inside(found: Settings, *, full: bool) -> list[Finding]:
    """What the database can tell, or why it cannot be asked. Never makes a database."""
    from tollway.flows.admin.refusals import Refused

    if not found.database_url and not (Path(found.data) / "tollway.db").exists():
        return [finding("database", "skipped", f"none in {found.data} yet", "tollway serve")]
    try:
        inside: list[Finding] = await perform_with(found, "health.check", {"full": full})
        return inside
    except Refused as refused:
        what = refused.refusal
        return [finding("database", "failed", f"{what.what}: {what.why}", what.fix or "tollway serve")]
    except CommandFailed as failed:
        fix = "Restore a backup, or use the version of Tollway that wrote it"
        if found.database_url:
            fix = "Start PostgreSQL, or correct TOLLWAY_DATABASE_URL"
        if failed.fix != "tollway doctor":
            fix = failed.fix
        return [finding("database", "failed", f"{failed.what}: {failed.why}", fix)]


async def _channels(found: Settings) -> list[Finding]:
    from tollway.flows.admin.refusals import Refused

    findings = []
    known: list[dict[str, Any]] = await perform_with(found, "channel.list", {})
    for channel in known:
        if channel["status"] != "enabled" or not channel["models"]:
            continue
        name = f"channel {channel['name']}"
        try:
            tested = await perform_with(found, "channel.test", {"channel": channel["id"]})
        except Refused as refused:
            findings.append(finding(name, "failed", refused.refusal.what, refused.refusal.fix))
            continue
        wrong = [check for check in tested["checks"] if check["finding"] != "ok"]
        if tested["ok"]:
            findings.append(finding(name, "ok", "it answers"))
        else:
            findings.append(
                finding(name, "failed", wrong[0]["meaning"], f"tollway channel test {channel['name']}")
            )
    return findings
