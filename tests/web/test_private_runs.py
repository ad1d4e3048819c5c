"""Private runs: their organisation reads them, to everybody else they are not there, whatever is asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.sessions import begin_session
from portal.catalog.visibility import set_visibility
from portal.settings import Settings
from portal.web import kept
from portal.web.permissions import OF_A_JOB, OF_A_RUN, OF_MANY, PERMISSIONS, subject_of
from tests.web.private import (
    ABOUT_ONE,
    CHILD,
    MISSING,
    OPEN,
    PRIVATE,
    PRIVATE_CHILD,
    SECRET,
    WEIGHTS,
    PrivateLab,
    address_of,
    plant,
    routes_about,
)

ENDLESS = {"/api/v1/jobs/{job}/events"}
"""As long as the job runs."""
STRANGERS = [None, "publisher of open"]
"""One of each sight: `test_every_role_has_its_sight` says who shares one."""
READERS = ["reader of lab", "admin"]


@pytest.fixture(autouse=True)
def _no_memory_of_the_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SERVER_MEMORY_SECONDS", -1.0)


@pytest.fixture
def settings(sqlite_settings: Settings) -> Settings:
    """What differs between the databases is in `tests/catalog/test_sight.py`."""
    return sqlite_settings


@pytest.fixture
def lab(app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path) -> PrivateLab:
    http = TestClient(app, raise_server_exceptions=False)
    return plant(http, engine, settings, app.state.jobs.rules, tmp_path)


def test_every_route_says_whose_runs_it_speaks_of() -> None:
    assert [key for key in PERMISSIONS if subject_of(*key) is None] == []


_OF_THE_REQUEST = {"x-request-id", "ratelimit", "ratelimit-policy", "server-timing", "content-length"}
"""Its length too: the number of the request stands in it."""


def as_missing(lab: PrivateLab, answer: Response) -> tuple[Any, ...]:
    """An answer about the private thing with the names of the missing one in its place."""

    def swap(text: str) -> str:
        names = (PRIVATE, MISSING), (lab.private.sha256, lab.missing.sha256)
        for mine, other in names:
            text = text.replace(mine, other).replace(mine.replace("/", "%2F"), other.replace("/", "%2F"))
        text = text.replace(PRIVATE.split("/")[1], MISSING.split("/")[1])
        return re.sub(rf"\b(jobs?/|[Jj]ob ){lab.private.job}\b", rf"\g<1>{lab.missing.job}", text)

    headers = [(n, swap(v)) for n, v in answer.headers.multi_items()]
    # Two requests never have the same number.
    text = re.sub(r'"request_id":"[^"]*"', "", answer.text)
    return answer.status_code, swap(text), [(n, v) for n, v in headers if n not in _OF_THE_REQUEST]


def test_strangers_are_answered_as_if_it_did_not_exist(lab: PrivateLab) -> None:
    faults = []
    for path in ABOUT_ONE:
        # Somebody who may read it was here before, so that whatever can be kept is kept.
        seen = [] if path in ENDLESS else [lab.get(address_of(path, lab.private), "reader of lab") for _ in range(2)]
        tag = seen[1].headers.get("etag") if seen else None
        for who in STRANGERS:
            mine, other = (lab.get(address_of(path, things), who) for things in (lab.private, lab.missing))
            told = as_missing(lab, mine), as_missing(lab, other)
            if mine.status_code != 404 or told[0] != told[1] or SECRET in mine.text or "etag" in mine.headers:
                faults.append((path, who, *told))
        for condition in ("*", tag) if tag else ():
            if lab.get(address_of(path, lab.private), **{"If-None-Match": condition}).status_code != 404:
                faults.append((path, condition))
    assert not faults, "\n".join(map(str, faults[:20]))


def test_its_organisation_reads_it_like_any_run(lab: PrivateLab) -> None:
    faults = []
    for path in set(ABOUT_ONE) - ENDLESS:
        for who in READERS:
            mine, other = (lab.get(address_of(path, things), who) for things in (lab.private, lab.open))
            unkept = mine.headers.get("cache-control") in ("private, no-cache", "no-store")
            varies = {"Authorization", "Cookie"} <= {v.strip() for v in mine.headers.get("vary", "").split(",")}
            if mine.status_code != other.status_code or "run-not-found" in mine.text or not unkept or not varies:
                faults.append((path, who, mine.status_code, other.status_code, mine.headers, mine.text[:200]))
    assert not faults, "\n".join(map(str, faults[:20]))


def test_what_changes_something_tells_strangers_as_little(lab: PrivateLab) -> None:
    bodies = {"visibility": "private", "reason": "x", "note": "x", "state": "explained", "paths": ["x"]}
    asked, faults = 0, []
    for method, path in PERMISSIONS:
        if method in ("GET", "HEAD") or subject_of(method, path) not in (OF_A_RUN, OF_A_JOB):
            continue
        for who in ("publisher of open", "reviewer of open", "worker"):
            mine, other = (
                lab.http.request(method, address_of(path, things), json=bodies, headers=lab.bearer(who))
                for things in (lab.private, lab.missing)
            )
            asked += 1
            of_workers = "/attempts/" in path and who == "worker"
            if not of_workers and (mine.is_success or as_missing(lab, mine)[:2] != as_missing(lab, other)[:2]):
                faults.append((method, path, who, as_missing(lab, mine)[:2], as_missing(lab, other)[:2]))
    assert asked > 20
    assert not faults, "\n".join(map(str, faults[:20]))


LISTS = routes_about("GET", OF_MANY)
QUESTIONS = [
    *LISTS,
    f"/?q={PRIVATE.split('/')[1][:4]}",
    "/search?q=loss",
    "/api/v1/search?q=loss",
    f"/api/v1/search?q={'f' * 8}",
    "/api/models?author=lab",
    "/api/models?search=q",
    "/api/v1/jobs?state=live",
    f"/api/v1/compare?run={OPEN}&run={CHILD}",
    f"/compare?run={OPEN}&run={CHILD}",
    f"/api/v1/runs/{OPEN}/lineage",
    f"/api/v1/runs/{CHILD}/lineage",
    f"/api/v1/runs/{CHILD}",
    f"/api/v1/runs/{CHILD}/checkpoints/soup",
    f"/runs/{CHILD}",
    f"/runs/{CHILD}/lineage",
    f"/runs/{CHILD}/checkpoints/soup",
    f"/runs/{OPEN}/lineage",
    f"/runs/{OPEN}/checkpoints/10",
    f"/runs/{OPEN}/jobs",
    f"/api/models/{CHILD}",
    f"/{CHILD}/resolve/main/README.md",
    "/api/v1/runs/lab/qqqq",
    f"/r/{CHILD}",
]


def test_strangers_find_no_trace_of_it(lab: PrivateLab) -> None:
    faults = []
    for address in QUESTIONS:
        lab.get(address, "reader of lab")
        for who in STRANGERS:
            told = lab.get(address, who)
            found = told.text + repr(told.headers.multi_items())
            if told.status_code >= 500 or any(word in found for word in (SECRET, PRIVATE, PRIVATE_CHILD)):
                faults.append((address, who, told.status_code, told.text[:300]))
    assert not faults, "\n".join(map(str, faults[:20]))


def test_counts_leave_it_out(lab: PrivateLab) -> None:
    def totals(who: str | None) -> list[int]:
        runs, jobs = (lab.get(f"/api/v1/{noun}", who).json()["total"] for noun in ("runs", "jobs"))
        at_work = sum(len(w["jobs"]) for w in lab.get("/api/v1/workers", who).json()["items"])
        return [runs, jobs, at_work, len(lab.get("/api/models", who).json())]

    assert totals(None) == totals("reader of open") == totals("worker") == [2, 1, 0, 2]
    assert totals("reader of lab") == totals("admin") == [4, 2, 1, 4]


def test_search_finds_it_for_those_who_may_read_it(lab: PrivateLab) -> None:
    for query in (SECRET, PRIVATE, lab.private.sha256, f"{PRIVATE} 10"):
        groups = [lab.get(f"/api/v1/search?q={query}", who).json()["groups"] for who in (None, "reader of lab")]
        assert groups[0] == []
        assert groups[1] != []


def test_the_name_of_a_private_parent_is_seen_by_its_organisation(lab: PrivateLab) -> None:
    assert lab.get(f"/api/v1/runs/{CHILD}").json()["parent_run"] is None
    assert lab.get(f"/api/v1/runs/{CHILD}/lineage").json()["parents"] == []
    assert lab.get(f"/api/v1/runs/{CHILD}/checkpoints/soup").json()["parents"] == [{"step": 5}]
    assert lab.get(f"/api/v1/runs/{CHILD}", "reader of lab").json()["parent_run"] == PRIVATE
    assert lab.get(f"/api/v1/runs/{CHILD}/lineage", "reader of lab").json()["parents"][0]["known"]
    assert len(lab.get(f"/api/v1/runs/{CHILD}/checkpoints/soup", "reader of lab").json()["parents"]) == 2


def test_a_file_that_is_in_a_public_run_too_is_readable(lab: PrivateLab) -> None:
    assert lab.get(f"/files/{lab.open.sha256}/model.safetensors").status_code == 200
    assert lab.get(f"/files/{lab.private.sha256}/model.safetensors").status_code == 404
    read = lab.get(f"/files/{lab.private.sha256}/model.safetensors", "reader of lab")
    assert (read.status_code, read.content) == (200, WEIGHTS)
    assert read.headers["cache-control"] == "private, no-cache"
    assert lab.get(f"/files/{lab.open.sha256}/x").headers["cache-control"].startswith("public")
    shared = next(f for f in lab.get(f"/api/v1/runs/{PRIVATE}/files", "admin").json()["items"] if "step5" in f["path"])
    assert lab.get(f"/files/{shared['sha256']}/x").status_code == 200


def test_an_attempt_reads_what_it_trains_from_and_no_more(lab: PrivateLab) -> None:
    assert lab.get(f"/api/v1/runs/{PRIVATE}", "attempt").status_code == 200
    assert lab.get(f"/files/{lab.private.sha256}/x", "attempt").content == WEIGHTS
    assert lab.get(f"/api/v1/jobs/{lab.private.job}", "attempt").status_code == 200
    assert lab.get(f"/api/v1/runs/{PRIVATE_CHILD}", "attempt").status_code == 404
    assert lab.get("/api/v1/runs", "attempt").json()["total"] == 3
    told = lab.http.post(
        f"/api/v1/jobs/{lab.private.job}/attempts/1/heartbeat",
        json={"fence": 1, "phase": "running"},
        headers=lab.bearer("attempt"),
    )
    assert told.status_code == 200


def test_it_is_private_and_public_again_at_once(lab: PrivateLab, engine: Engine) -> None:
    page, figure = f"/runs/{PRIVATE}", f"/runs/{PRIVATE}/figure?series=train/loss"
    private = lab.get(page, "reader of lab")
    assert "badge warn" in private.text
    assert 'title="Read by its own organisation' in private.text
    for visibility, status in (("public", 200), ("private", 404), ("public", 200), ("private", 404)):
        changed = lab.http.put(
            f"/api/v1/runs/{PRIVATE}/visibility",
            json={"visibility": visibility},
            headers=lab.bearer("publisher of lab"),
        )
        assert changed.json()["visibility"] == visibility
        for address in (page, figure, f"/api/v1/runs/{PRIVATE}", f"/api/v1/runs/{PRIVATE}/steps/3"):
            for _ in range(2):
                assert lab.get(address).status_code == status, (visibility, address)
                assert lab.get(address, "reader of lab").status_code == 200
        assert lab.get(f"/api/v1/runs/{PRIVATE}", "admin").json()["summary"]["visibility"] == visibility
        assert lab.get("/api/v1/runs").json()["total"] == (3 if visibility == "public" else 2)


def test_who_may_change_who_reads_a_run(lab: PrivateLab) -> None:
    def change(run: str, who: str | None) -> int:
        headers = lab.bearer(who) if who else {}
        asked = lab.http.put(f"/api/v1/runs/{run}/visibility", json={"visibility": "private"}, headers=headers)
        return asked.status_code

    assert [change(PRIVATE, who) for who in ("publisher of lab", "admin")] == [200, 200]
    assert change(PRIVATE, None) == change(OPEN, None) == 401
    assert change(PRIVATE, "reader of lab") == 403
    assert change(PRIVATE, "publisher of open") == change(MISSING, "publisher of open") == 404
    assert change(OPEN, "publisher of lab") == 403
    assert change(OPEN, "publisher of open") == 200
    assert lab.get(f"/api/v1/runs/{OPEN}").status_code == 404


def test_what_jobs_made_of_it_is_as_private(lab: PrivateLab, engine: Engine, settings: Settings) -> None:
    from portal.errors import Conflict
    from tests.builders import record

    record(engine, settings, {"run": "derived/x-1", "parent": {"run": OPEN, "step": 10}})
    record(engine, settings, {"run": "derived/x-2", "parent": {"run": "derived/x-1", "step": 10}})
    told = set_visibility(engine, OPEN, "private")
    assert told.closed == ["derived/x-1", "derived/x-2"]
    assert lab.get("/api/v1/runs/derived/x-2").status_code == 404
    assert lab.get("/api/v1/runs/derived/x-2", "reader of open").status_code == 200
    with pytest.raises(Conflict):
        set_visibility(engine, "derived/x-1", "public")
    assert set_visibility(engine, OPEN, "public").closed == []
    assert lab.get("/api/v1/runs/derived/x-2").status_code == 404
    opened = lab.http.put(
        "/api/v1/runs/derived/x-1/visibility", json={"visibility": "public"}, headers=lab.bearer("publisher of open")
    )
    assert opened.status_code == 200
    assert lab.get("/api/v1/runs/derived/x-1").status_code == 200


def test_a_cookie_reads_pages_and_what_they_fetch(lab: PrivateLab, app: FastAPI, engine: Engine) -> None:
    cookie, _ = begin_session(engine, lab.tokens["reader of lab"])
    browser = TestClient(app, raise_server_exceptions=False, cookies={"portal-session": cookie})

    def asked(address: str, **headers: str) -> Response:
        return browser.get(address, headers=headers, follow_redirects=False)

    own, other = {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site"}
    for address in (f"/runs/{PRIVATE}", f"/runs/{PRIVATE}/figure?series=train/loss", f"/runs/{PRIVATE}/steps/3"):
        assert asked(address).status_code == asked(address, **other).status_code == 200
        assert asked(address).headers["cache-control"].startswith("private")
    for address in (
        f"/api/v1/runs/{PRIVATE}/steps/3/tokens",
        f"/files/{lab.private.sha256}/x",
        f"/{PRIVATE}/resolve/main/README.md",
    ):
        assert asked(address, **own).status_code == 200
        assert asked(address, **other).status_code == 404
        assert asked(address, Origin="https://evil.example").status_code == 404
    assert asked("/api/v1/whoami", **own).status_code == 401
    assert browser.put(f"/api/v1/runs/{PRIVATE}/visibility", json={"visibility": "public"}).status_code == 401
    assert SECRET in asked("/").text
    assert SECRET not in lab.get("/").text


def test_clients_of_the_hub_hear_what_they_know(lab: PrivateLab) -> None:
    for address in (f"/api/models/{PRIVATE}", f"/{PRIVATE}/resolve/main/config.json", f"/api/datasets/{PRIVATE}"):
        told = lab.get(address)
        assert (told.status_code, told.headers["x-error-code"]) == (404, "RepoNotFound")
        sent = lab.get(address, Authorization="Bearer hf_of_another_place")
        assert (sent.status_code, sent.headers["x-error-code"]) == (404, "RepoNotFound")
    assert lab.get(f"/api/models/{PRIVATE}", "reader of lab").json()["private"] is True
    assert lab.get(f"/api/models/{OPEN}", "reader of lab").json()["private"] is False
    asked = {"paths": ["README.md"]}
    for who, status in ((None, 404), ("reader of lab", 200)):
        headers = lab.bearer(who) if who else {}
        assert (
            lab.http.post(f"/api/models/{PRIVATE}/paths-info/main", json=asked, headers=headers).status_code == status
        )


def test_jobs_on_it_are_for_those_who_read_it(lab: PrivateLab) -> None:
    body = {"kind": "resume", "run": PRIVATE, "step": 10}
    for path in ("/api/v1/jobs", "/api/v1/jobs/preview"):
        mine, missing = (
            lab.http.post(path, json=body | {"run": run}, headers=lab.bearer("publisher of open"))
            for run in (PRIVATE, MISSING)
        )
        assert mine.status_code == 404
        assert as_missing(lab, mine)[:2] == as_missing(lab, missing)[:2]
    for what in ("cancel", "retry"):
        address = f"/api/v1/jobs/{lab.private.job}/{what}"
        assert lab.http.post(address, headers=lab.bearer("publisher of open")).status_code == 404


def test_a_thread_that_works_for_a_request_sees_no_more(engine: Engine) -> None:
    """Threads and tasks begin with sight of everything, so whoever starts one for a request hands its sight on."""
    rooms = ("web", "catalog", "jobs")
    sources = [p for room in rooms for p in (Path(kept.__file__).parent.parent / room).rglob("*.py")]
    starts = re.compile(r"\.submit\(|create_task\(|Thread\(|run_in_executor\(")
    begun = {
        f"{path.parent.name}/{path.name}": line.strip()
        for path in sources
        for line in path.read_text().splitlines()
        if starts.search(line) and "context" not in line
    }
    assert set(begun) <= {"web/ready.py"}
