"""Job endpoints for schedulers outside the gateway, behind a secret of their own.

    POST /api/internal/jobs/NAME                  run a job now; skipped if it runs already
    GET  /api/internal/jobs/scheduled-maintenance the last runs of it

The embedded scheduler runs the same jobs by the same leases, so that calling these as well, or
many times at once, does no harm. Without the setting `jobs_secret` there are no such endpoints.
"""

from __future__ import annotations

import hmac
from functools import partial
from typing import Any, Final

import msgspec

from tollway.core.errors import GatewayError
from tollway.flows.jobs.registry import ABSENT, JOBS
from tollway.flows.jobs.runner import Runner, RunReport
from tollway.store import jobs
from tollway.store.jobs import JobRun
from tollway.web.registry import Handler, Route
from tollway.web.request import Request

ROOT: Final = "/api/internal/jobs"
SHOWN: Final = 50
_SECRET: Final = b"x-tollway-job-secret"
_BEARER: Final = b"bearer "


def routes(runner: Runner) -> tuple[Route, ...]:
    """The endpoints over a runner of jobs."""
    post = [(name, f"Run the job {name}", _runs(runner, name)) for name in (*JOBS, *ABSENT)]
    get = (
        "scheduled-maintenance",
        "The last runs of scheduled-maintenance",
        _shows(runner, "scheduled-maintenance"),
    )
    return (*(_route("POST", *one) for one in post), _route("GET", *get))


def _route(method: str, name: str, summary: str, handler: Handler) -> Route:
    return Route(
        method=method,
        path=f"{ROOT}/{name}",
        handler=handler,
        summary=summary,
        family="operations",
        envelope="gateway",
        public=False,
    )


def _runs(runner: Runner, name: str) -> Handler:
    async def run(request: Request) -> None:
        _check(request)
        if name in ABSENT:
            request.json(_shown(RunReport(job=name, run_id=None, status="skipped", reason=ABSENT[name])))
            return
        report = await runner.run(name)
        if report.status == "failed":
            raise GatewayError("job_failed", f"The job {name} failed: {report.reason}", scope="gateway")
        request.json(_shown(report))

    return run


def _shows(runner: Runner, name: str) -> Handler:
    async def show(request: Request) -> None:
        _check(request)
        runs = await runner.tools.store.read(partial(jobs.history, name=name, limit=SHOWN))
        request.json({"job": name, "runs": [_run(one) for one in runs]})

    return show


def _shown(report: RunReport) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(report)
    return {name: value for name, value in found.items() if value not in ("", {})}


def _run(one: JobRun) -> dict[str, Any]:
    ended = one.finished_at
    return {
        "run_id": one.id,
        "status": one.status,
        "started_at": one.started_at,
        "finished_at": ended,
        "duration_ms": None if ended is None else ended - one.started_at,
        **one.result,
    }


def _check(request: Request) -> None:
    """Let in whoever knows the secret. Raises GatewayError (unknown_route, invalid_job_secret)."""
    wanted = request.settings.jobs_secret.encode()
    if not wanted:
        raise GatewayError("unknown_route", f"There is no {request.path}: the setting jobs_secret is empty.")
    bearer = request.header(b"authorization") or b""
    given = request.header(_SECRET) or (bearer[7:] if bearer[:7].lower() == _BEARER else b"")
    # Digests have one length, so that the time of the comparison says nothing of the secret's.
    if not hmac.compare_digest(*(hmac.digest(b"job", one.strip(), "sha256") for one in (given, wanted))):
        raise GatewayError(
            "invalid_job_secret",
            "Job endpoints need the setting jobs_secret, as 'Authorization: Bearer <secret>' or 'x-tollway-job-secret'.",
        )
