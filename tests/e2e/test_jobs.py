"""Jobs of a running gateway: the endpoints and their secret, the command, the scheduler, readiness."""

import json
import sqlite3
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.gateway import fetch, running, wait_for

from tollway.config import BadSettings, load

SECRET = "a-secret-of-jobs-0123456789"
ROOT = "/api/internal/jobs/"
ABSENT = ("process-pending-callbacks", "check-stale-media-tasks", "process-pending-tasks")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs") / "data"
    with running(folder, TOLLWAY_JOBS_SECRET=SECRET, TOLLWAY_SCHEDULER="false") as found:
        yield found


def ask(gateway, name, *, method="POST", headers=None, data=None):
    found = {"Authorization": f"Bearer {SECRET}"} if headers is None else headers
    return fetch(urllib.request.Request(gateway.url + ROOT + name, method=method, headers=found, data=data))


@pytest.mark.parametrize("name", ["scheduled-maintenance", "verify-ledger", "check-api-channels"])
def test_a_job_runs_when_it_is_asked_for_and_says_what_it_did(gateway, name):
    assert gateway.chat("sandbox-echo")[0] == 200
    status, headers, body = ask(gateway, name)
    assert status == 200
    assert headers["cache-control"] == "private, no-store"
    assert (body["job"], body["status"]) == (name, "ok")
    assert body["run_id"].startswith("run_")
    assert {type(body[field]) for field in ("processed", "succeeded", "failed", "duration_ms")} == {int}
    assert body["failed"] == 0
    [last] = gateway.cli("job", "history", name, "--limit", "1")
    assert (last["id"], last["status"]) == (body["run_id"], "ok")


def test_maintenance_shows_its_runs(gateway):
    run = ask(gateway, "scheduled-maintenance")[2]["run_id"]
    status, _, body = ask(gateway, "scheduled-maintenance", method="GET")
    assert status == 200
    assert body["job"] == "scheduled-maintenance"
    assert body["runs"][0]["run_id"] == run
    assert body["runs"][0]["status"] == "ok"
    assert body["runs"][0]["duration_ms"] >= 0


@pytest.mark.parametrize("name", ABSENT)
def test_a_job_without_a_subject_says_so(gateway, name):
    status, _, body = ask(gateway, name)
    assert status == 200
    assert (body["job"], body["status"], body["run_id"], body["processed"]) == (name, "skipped", None, 0)
    assert "This version" in body["reason"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": SECRET},
        {"Authorization": f"Basic {SECRET}"},
        {"x-api-key": SECRET},
        {"x-tollway-job-secret": ""},
        {"x-tollway-job-secret": "nö"},
    ],
    ids=str,
)
def test_without_the_secret_nothing_runs(gateway, headers):
    before = len(gateway.cli("job", "history", "--limit", "1000"))
    for method, name in (("POST", "verify-ledger"), ("GET", "scheduled-maintenance"), ("POST", ABSENT[0])):
        headers = {field: value.encode().decode("latin-1") for field, value in headers.items()}
        status, found, body = ask(gateway, name, method=method, headers=headers)
        assert (status, body["error"]["code"]) == (401, "invalid_job_secret")
        assert body["error"]["type"] == "gateway_error"
        assert SECRET not in json.dumps(body)
        assert "json" in found["content-type"]
    assert len(gateway.cli("job", "history", "--limit", "1000")) == before


def test_an_api_key_is_no_secret_of_jobs(gateway):
    assert ask(gateway, "verify-ledger", headers={"Authorization": f"Bearer {gateway.key}"})[0] == 401


def test_the_secret_is_taken_from_its_own_header_too(gateway):
    assert ask(gateway, "verify-ledger", headers={"X-Tollway-Job-Secret": SECRET})[0] == 200


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", b"x" * 100_000])
def test_a_body_is_not_needed_and_does_no_harm(gateway, data):
    assert ask(gateway, "check-api-channels", data=data)[0] == 200


def test_what_is_no_job_is_no_route(gateway):
    assert ask(gateway, "drop-database")[0] == 404
    assert ask(gateway, "verify-ledger", method="GET")[0] == 405
    assert ask(gateway, "verify-ledger/../scheduled-maintenance")[0] == 404


def test_fifty_at_once_are_one_run_and_no_error(gateway):
    before = len(gateway.cli("job", "history", "scheduled-maintenance", "--limit", "1000"))
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda _: ask(gateway, "scheduled-maintenance"), range(50)))
    assert {status for status, _, _ in found} == {200}
    ran = [body for _, _, body in found if body["status"] == "ok"]
    skipped = [body for _, _, body in found if body["status"] == "skipped"]
    assert len(ran) >= 1
    assert len(ran) + len(skipped) == 50
    assert {body["reason"] for body in skipped} <= {"It is running already."}
    after = len(gateway.cli("job", "history", "scheduled-maintenance", "--limit", "1000"))
    assert after - before == len(ran)


def test_the_command_lists_and_runs_jobs(gateway):
    assert gateway.cli("job", "run", "verify-ledger")["status"] == "ok"
    jobs = {job["name"]: job for job in gateway.cli("job", "list")}
    assert set(jobs) == {"scheduled-maintenance", "verify-ledger", "keep-credits", "check-api-channels"}
    assert jobs["verify-ledger"]["last_status"] == "ok"
    assert gateway.cli("job", "run", "verify-everything", ok=False) == 3


def test_without_a_secret_there_are_no_endpoints(tmp_path):
    with running(tmp_path / "data", TOLLWAY_SCHEDULER="false") as gateway:
        for headers in ({}, {"Authorization": "Bearer "}, {"x-tollway-job-secret": ""}):
            status, _, body = ask(gateway, "verify-ledger", headers=headers)
            assert (status, body["error"]["code"]) == (404, "unknown_route")


@pytest.mark.parametrize(
    ("name", "value"), [("JOBS_SECRET", "too-short"), ("CALL_DAYS", "-1"), ("JOB_RUN_DAYS", "99999")]
)
def test_settings_that_are_no_use_are_refused(name, value):
    with pytest.raises(BadSettings, match=name.lower()):
        load({}, {f"TOLLWAY_{name}": value})


def test_the_scheduler_runs_jobs_and_a_broken_ledger_fails_readiness(tmp_path):
    with running(tmp_path / "data", TOLLWAY_JOBS_SECRET=SECRET) as gateway:
        wait_for(lambda: all(job["last_status"] == "ok" for job in gateway.cli("job", "list")), 30)
        assert gateway.get("/readyz")[0] == 200
        with sqlite3.connect(gateway.data / "tollway.db") as raw:
            raw.execute("UPDATE ledger_account SET held = held + 1 WHERE kind = 'wallet'")
        raw.close()
        status, _, body = ask(gateway, "verify-ledger")
        assert (status, body["error"]["code"]) == (500, "job_failed")
        assert "I3" in body["error"]["message"]
        status, _, body = gateway.get("/readyz")
        assert status == 503
        assert "does not balance" in body["error"]["message"]
        assert gateway.chat("sandbox-echo")[0] == 200, "calls go on; it is the operator who must look"
        with sqlite3.connect(gateway.data / "tollway.db") as raw:
            raw.execute("UPDATE ledger_account SET held = held - 1 WHERE kind = 'wallet'")
        raw.close()
        assert ask(gateway, "verify-ledger")[0] == 200
        assert gateway.get("/readyz")[0] == 200
