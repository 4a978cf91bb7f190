"""`tollway job`: what is done in the background, doing it now, and what was done."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common, noun
from tollway.cli.faults import FAILURE, OK
from tollway.cli.output import Column, field, one, rows, say, when
from tollway.cli.session import perform

app = noun(
    "job",
    "See what is done in the background, and do it now.",
    """
tollway job list
tollway job run verify-ledger
tollway job history scheduled-maintenance
""",
)

Name = Annotated[str, Parameter(help="The name of the job.")]

JOBS: Final = (
    field("name"),
    Column("STATE", lambda row: "running" if row["running"] else row["last_status"] or "never run"),
    Column("LAST", lambda row: when(row["last_finished_at"])),
    Column("NEXT", lambda row: "now" if row["running"] else when(row["next_at"] or None)),
    field("title", "WHAT IT DOES"),
)
RUNS: Final = (
    Column("STARTED", lambda row: when(row["started_at"])),
    field("job"),
    field("status"),
    Column(
        "MS", lambda row: None if row["finished_at"] is None else row["finished_at"] - row["started_at"], True
    ),
    field("result"),
)


@app.command(name="list")
def listed(*, common: Common = DEFAULT) -> None:
    """List the jobs with their last and next run."""
    rows(common, perform(common, "job.list"), JOBS, empty="No jobs.")


@app.command
def run(name: Name, /, *, common: Common = DEFAULT) -> int:
    """Run a job now and say what it did; exits 1 if it failed or found something wrong."""
    found = perform(common, "job.run", job=name)
    facts = [("job", found["job"]), ("status", found["status"]), ("run", found["run_id"])]
    facts += [(what, found[what]) for what in ("processed", "succeeded", "failed")]
    facts += [(what.replace("_", " "), value) for what, value in found["details"].items()]
    one(common, found, facts)
    say(common, found["reason"])
    return FAILURE if found["status"] == "failed" else OK


@app.command
def history(
    name: Annotated[str | None, Parameter(help="Only runs of this job.")] = None,
    /,
    *,
    limit: Annotated[int | None, Parameter(help="Runs a page (default: 20).")] = None,
    common: Common = DEFAULT,
) -> None:
    """List what the last runs did, newest first."""
    rows(common, perform(common, "job.history", job=name, limit=limit), RUNS, empty="Nothing has run yet.")
