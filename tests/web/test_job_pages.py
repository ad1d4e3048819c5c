"""Pages of jobs over HTTP: signing in, the form that makes a job, lists, logs, workers; and what is kept of them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, insert, update
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token, revoke_token
from portal.catalog.jobs.attempts import AttemptKey, Completion, end
from portal.catalog.jobs.finishing import Result, succeed
from portal.catalog.jobs.rules import JobRules
from portal.catalog.jobs.told import Point, append_log, keep_points
from portal.catalog.jobs.workers import Attached, attach, see
from portal.catalog.sessions import begin_session
from portal.jobs.hyperparameters import FIXED, KEYS
from portal.models import Job
from portal.settings import Settings
from portal.web import kept
from portal.web.app import create_app
from portal.web.job_desk import JobDesk
from portal.web.job_forms import CHOICES, GROUPS, NAMES
from portal.web.job_lists import FILTERS
from tests.catalog.queries import counted
from tests.jobs.enqueued import Clock, made_spec, put, taken, worker
from tests.jobs.tiny_run import tiny_run

FORM = "/runs/lab/tiny/steps/10/submit"
OWN = {"Origin": "http://testserver"}


@pytest.fixture
def rules(app: FastAPI) -> JobRules:
    found: JobRules = app.state.jobs.rules
    return found


@pytest.fixture
def tiny(app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path) -> str:
    return tiny_run(engine, settings, tmp_path / "tiny").run


@pytest.fixture
def ada(http: TestClient, engine: Engine) -> TestClient:
    """A browser whose owner has signed in as a publisher."""
    secret, _ = create_token(engine, "publisher", "ada")
    assert http.post("/sign-in", data={"token": secret}, headers=OWN).status_code == 303
    return http


@pytest.fixture
def anybody(settings: Settings, tiny: str) -> Iterator[TestClient]:
    opened = create_app(settings.model_copy(update={"anonymous_jobs": True}))
    yield TestClient(opened, raise_server_exceptions=False, follow_redirects=False)
    opened.state.desk.close()


def key_of(page: str) -> str:
    found = re.search(r'name="key"\s+value="([^"]+)"', page)
    assert found
    return found[1]


def jobs_of(http: TestClient) -> Any:
    return http.get("/api/v1/jobs").json()


def test_a_token_becomes_a_cookie_that_pages_alone_take(http: TestClient, engine: Engine) -> None:
    secret, view = create_token(engine, "publisher", "ada")
    wrong = http.post("/sign-in", data={"token": "llm360_x"}, headers=OWN)
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    assert "unknown, expired or revoked" in wrong.text
    answer = http.post("/sign-in", data={"token": f" {secret}\n", "to": "/jobs?mine=1"}, headers=OWN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?mine=1")
    session, name = answer.headers.get_list("set-cookie")
    assert session.startswith("portal-session=")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= {part.strip() for part in session.split(";")}
    assert secret not in session + name
    assert "signed in as <strong>ada</strong>" in http.get("/sign-in").text
    assert http.get("/api/v1/whoami").status_code == 401
    assert http.post("/api/v1/jobs", json={"run": "lab/x", "step": 1}, headers=OWN).status_code == 401
    revoke_token(engine, view.name)
    ended = http.get("/sign-in")
    assert "signed in as" not in ended.text
    assert all("Max-Age=0" in cookie for cookie in ended.headers.get_list("set-cookie"))


def test_signing_out_ends_the_session_for_good(ada: TestClient) -> None:
    cookie = ada.cookies["portal-session"]
    assert ada.post("/sign-out", headers={"Origin": "https://evil.example"}).status_code == 403
    assert "signed in as" in ada.get("/sign-in").text
    assert ada.post("/sign-out", headers=OWN).status_code == 303
    ada.cookies.set("portal-session", cookie)
    assert "signed in as" not in ada.get("/sign-in").text


def test_over_tls_the_cookie_is_this_hosts_alone(settings: Settings, engine: Engine) -> None:
    secured = create_app(settings.model_copy(update={"public_url": "https://portal.example"}))
    http = TestClient(secured, base_url="http://inside:8000", follow_redirects=False)
    secret, _ = create_token(engine, "publisher")
    assert http.post("/sign-in", data={"token": secret}, headers={"Origin": "https://other.example"}).status_code == 403
    answer = http.post("/sign-in", data={"token": secret}, headers={"Origin": "https://portal.example"})
    session = answer.headers.get_list("set-cookie")[0]
    assert session.startswith("__Host-portal-session=")
    assert "Secure" in session
    secured.state.desk.close()


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/a\nb"])
def test_signing_in_leads_nowhere_else(http: TestClient, engine: Engine, to: str) -> None:
    secret, _ = create_token(engine, "publisher")
    answer = http.post("/sign-in", data={"token": secret, "to": to}, headers=OWN)
    assert answer.headers["location"] == "/sign-in"


def test_a_session_ends_by_itself(http: TestClient, engine: Engine) -> None:
    from datetime import timedelta

    secret, _ = create_token(engine, "publisher", "ada")
    cookie, _ = begin_session(engine, secret, timedelta(seconds=-1))
    http.cookies.set("portal-session", cookie)
    assert "signed in as" not in http.get("/sign-in").text


def test_the_form_is_filled_in_from_the_run(anybody: TestClient) -> None:
    page = anybody.get(FORM).text
    for key, value in {"schedule.peak": "0.01", "clip": "1.0", "optimizer.betas": "[0.9, 0.95]"}.items():
        assert re.search(rf'name="set:{key}"\s+value="{re.escape(value)}"', page), key
    for source in ("stories", "code", "facts"):
        assert f'name="weight:{source}"' in page
    looked = anybody.get(f"{FORM}?preview=1&data=mix&weight:code=2&set:schedule.peak=0.02&steps=5").text
    assert "can be submitted" in looked
    assert "order: chosen" in looked
    assert "was 0.01" in looked
    assert re.search(r'value="mix"\s+checked', looked)
    assert "&#34;weights&#34;: {" in looked
    assert "portal submit lab/tiny 10 --steps 5 --data code=2 --set schedule.peak=0.02" in looked


def test_every_setting_has_its_place_in_the_form() -> None:
    assert set(NAMES) == set(KEYS) - set(FIXED)
    assert sorted(key for _, keys in GROUPS for key in keys) == sorted(NAMES)
    for key, words in CHOICES.items():
        for word in words:
            assert KEYS[key].check({"true": True, "false": False}.get(word, word)), (key, word)
    assert {"", "live", "queued", "succeeded", "failed", "cancelled"} == {value for value, _ in FILTERS}


def test_what_is_in_the_way_is_told_beside_the_form(anybody: TestClient) -> None:
    told = {
        "steps=500": "nothing is recorded of steps",
        "data=chunks": "No chunk is named",
        "data=chunks&chunks=nope": "no chunk",
        "data=mix&weight:code=often": "The weight of code",
        "set:schedule.peak=fast": "has to be the highest learning rate",
        "kind=replay&set:schedule.peak=0.5": "A replay cannot change",
        "steps=x": "Write a whole number",
        "labels=x": "is no label",
        "set:command=x": "is no setting of the trainer",
    }
    for query, words in told.items():
        page = anybody.get(f"{FORM}?preview=1&{query}")
        assert page.status_code == 200, query
        assert words in page.text, query
        assert "cannot be submitted" in page.text, query
        assert re.search(r"<button[^>]+disabled[^>]*>\s*Submit this job", page.text), query


def test_a_form_pressed_twice_is_one_job(anybody: TestClient) -> None:
    key = key_of(anybody.get(FORM).text)
    filled = {"key": key, "kind": "resume", "data": "original", "steps": "5", "set:schedule.peak": "0.01"}
    first = anybody.post(FORM, data=filled, headers=OWN)
    again = anybody.post(FORM, data=filled, headers=OWN)
    assert (first.status_code, first.headers["location"]) == (303, "/jobs/1")
    assert again.headers["location"] == "/jobs/1?again=1"
    assert "had been submitted before" in anybody.get("/jobs/1?again=1").text
    changed = anybody.post(FORM, data=filled | {"steps": "6"}, headers=OWN)
    assert changed.status_code == 409
    assert "This form became job 1" in changed.text
    assert key_of(changed.text) != key
    fresh = anybody.post(FORM, data=filled | {"steps": "6", "key": key_of(changed.text)}, headers=OWN)
    assert jobs_of(anybody)["total"] == 2
    assert fresh.headers["location"] == f"/jobs/{jobs_of(anybody)['items'][0]['id']}"
    spec = anybody.get("/api/v1/jobs/1").json()["spec"]
    assert (spec["last_step"], spec["changes"]) == (15, [])


def test_a_form_asks_for_what_the_api_asks_for(anybody: TestClient) -> None:
    filled = {"key": "k", "kind": "resume", "data": "mix", "steps": "8", "seed": "5", "weight:code": "2", "weight:facts": "0",
              "chunk": "a", "set:schedule.peak": "0.02", "labels": "site=a, gpu=h100", "priority": "3", "hours": "2"}  # fmt: skip
    assert anybody.post(FORM, data=filled, headers=OWN).status_code == 303
    body = {"kind": "resume", "run": "lab/tiny", "step": 10, "steps": 8, "labels": {"site": "a", "gpu": "h100"}, "priority": 3,
            "seconds": 7200, "set": {"schedule.peak": 0.02},
            "data": {"kind": "mix", "chunks": ["a"], "weights": {"code": 2, "facts": 0}, "seed": 5}}  # fmt: skip
    made = anybody.post("/api/v1/jobs", json=body).json()
    assert made["spec_digest"] == anybody.get("/api/v1/jobs/1").json()["spec_digest"]


def test_only_those_who_may_submit(http: TestClient, engine: Engine, tiny: str) -> None:
    shown = http.get(f"{FORM}?preview=1").text
    assert "Submitting takes a token" in shown
    assert "Submit this job" not in shown
    assert "could run it now" not in shown
    assert http.post(FORM, data={"key": "k"}, headers=OWN).status_code == 401
    reader, _ = create_token(engine, "reader", "rob")
    http.post("/sign-in", data={"token": reader}, headers=OWN)
    assert http.post(FORM, data={"key": "k"}, headers=OWN).status_code == 403
    publisher, _ = create_token(engine, "publisher", "ada")
    http.post("/sign-in", data={"token": publisher}, headers=OWN)
    assert "can be submitted" in http.get(f"{FORM}?preview=1").text
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}, {}):
        assert http.post(FORM, data={"key": "k"}, headers=headers).status_code == 403, headers
    assert jobs_of(http)["total"] == 0
    assert http.post(FORM, data={"key": "k"}, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
    assert jobs_of(http)["items"][0]["submitted_by"] == "ada"


def test_odd_forms(anybody: TestClient) -> None:
    assert anybody.post(FORM, json={"key": "k"}, headers=OWN).status_code == 400
    assert (
        anybody.post(
            FORM, content=b"a=" + b"x" * (1 << 20), headers=OWN | {"Content-Type": "application/x-www-form-urlencoded"}
        ).status_code
        == 413
    )
    assert anybody.post(FORM, content=b"\xff", headers=OWN).status_code == 400
    assert anybody.get("/runs/lab/tiny/steps/11/submit").status_code == 404


def test_cancelling_and_trying_again_from_the_page(ada: TestClient, engine: Engine, rules: JobRules) -> None:
    mine, others = put(engine, rules, by="ada"), put(engine, rules, by="eve")
    assert "Cancel job" in ada.get(f"/jobs/{mine}").text
    foreign = ada.get(f"/jobs/{others}").text
    assert "Cancel job" not in foreign
    assert "eve or an administrator can" in foreign
    assert ada.post(f"/jobs/{others}/cancel", headers=OWN).status_code == 403
    assert ada.post(f"/jobs/{mine}/cancel", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert ada.post(f"/jobs/{mine}/cancel", headers=OWN).headers["location"] == f"/jobs/{mine}"
    page = ada.get(f"/jobs/{mine}").text
    assert "It was cancelled." in page
    assert f"Queue job {mine} again" in page
    assert ada.post(f"/jobs/{mine}/retry", headers=OWN).status_code == 303
    assert ada.get(f"/api/v1/jobs/{mine}").json()["state"] == "queued"
    assert ada.post(f"/jobs/{mine}/retry", headers=OWN).status_code == 409


def test_a_job_is_readable_without_script(http: TestClient, engine: Engine, rules: JobRules) -> None:
    job = put(engine, rules)
    lease = taken(engine, rules, worker(engine, rules))
    key = AttemptKey(job, lease.attempt, lease.fence)
    keep_points(engine, key, [Point(s, "loss", float("nan") if s == 303 else 3.0) for s in range(301, 311)])
    lines = "".join(f"line {k}\n" for k in range(1000))
    append_log(engine, key, 0, f"{lines}\x1b[31m<script>hit</script>\u202e\rpart".encode(), rules)
    said = Completion("failed", 65, False, "The checkpoint has other bytes.", {}, None, "d")
    end(engine, key, "failed", said, rules)
    page = http.get(f"/jobs/{job}").text
    assert '<div class="l">line 999</div>' in page
    assert "line 10</div>" not in page
    assert '<span class="ctl">ESC</span>[31m&lt;script&gt;hit&lt;/script&gt;<span class="ctl">U+202E</span>' in page
    assert "The checkpoint has other bytes." in page
    assert re.search(r"step 310 of 301–350 · 20\.0\s%", page)
    table = http.get(f"/jobs/{job}?numbers=1").text
    assert table.count(">NaN<") == 1
    figure = http.get(f"/jobs/{job}/figure").json()
    (panel,) = [p for p in figure["panels"] if p["name"] == "loss"]
    assert (panel["curves"][1]["points"], panel["curves"][1]["nan"]) == (10, 1)
    missing = http.get("/jobs/99/figure")
    assert (missing.status_code, missing.json()["code"]) == (404, "job-not-found")


def test_a_wait_is_told_while_it_lies_ahead(http: TestClient, engine: Engine, rules: JobRules) -> None:
    job = put(engine, rules)
    for ahead_ms, said in ((-60_000, False), (60_000, True)):
        with engine.begin() as connection:
            connection.execute(update(Job).values(not_before_ms=int(time.time() * 1000) + ahead_ms))
        page = http.get(f"/jobs/{job}").text
        assert ("Not before" in page, "Waits a moment" in page) == (said, said)


def test_the_log_is_found_through_and_paged(http: TestClient, engine: Engine, rules: JobRules) -> None:
    job = put(engine, rules)
    lease = taken(engine, rules, worker(engine, rules))
    key = AttemptKey(job, lease.attempt, lease.fence)
    text = "".join(f"row {k:06d} ü\n" for k in range(30_000)) + "x" * 3_000_000 + "Needle at last"
    raw, offset = text.encode(), 0
    for first in range(0, len(raw), 300_001):
        offset = append_log(engine, key, offset, raw[first : first + 300_001], rules)
    found = http.get(f"/jobs/{job}/log", params={"q": "ROW 000123 Ü".lower()}).text
    assert "1 line holds" in found
    assert "row 000123 ü" in found
    assert "200 lines hold" in http.get(f"/jobs/{job}/log?q=row").text
    assert "Needle at last" in http.get(f"/jobs/{job}/log?q=needle").text
    assert "No line holds" in http.get(f"/jobs/{job}/log?q=absent").text
    page, seen, at = "", 0, 0
    while True:
        page = http.get(f"/jobs/{job}/log?at={at}").text
        seen += len(re.findall(r'<div class="l">row \d{6} ü</div>', page))
        later = re.search(r"at=(\d+)\">Later", page)
        if later is None:
            break
        assert int(later[1]) > at
        at = int(later[1])
    assert seen == 30_000
    assert http.get(f"/api/v1/jobs/{job}/log").content == raw


def test_lists_send_nothing_while_nothing_changes(http: TestClient, engine: Engine, rules: JobRules) -> None:
    empty = http.get("/jobs").text
    assert "No job has been submitted here yet" in empty
    job = put(engine, rules, by="ada")
    part = {"HX-Request": "true", "HX-Target": "jobs"}
    first = http.get("/jobs", headers=part)
    stamp = re.search(r"seen=([0-9a-f]+)", first.text)
    assert stamp
    assert f'id="job-{job}"' in first.text
    assert http.get(f"/jobs?seen={stamp[1]}", headers=part).status_code == 204
    taken(engine, rules, worker(engine, rules))
    assert "leased" in http.get(f"/jobs?seen={stamp[1]}", headers=part).text
    assert "No job fits" in http.get("/jobs?state=failed").text
    assert http.get("/jobs?state=nope").status_code == 400
    assert f'id="job-{job}"' in http.get("/jobs?state=live&run=demo/tiny").text


def test_workers_that_only_go_on_asking_are_sent_once_a_minute(http: TestClient, app: FastAPI, engine: Engine) -> None:
    clock = Clock()
    rules = JobRules(clock=clock)
    app.state.jobs = JobDesk(app.state.desk.engine, rules)
    there = worker(engine, rules)

    def ask(slots: int, stamp: str) -> str | None:
        """What the page's own question is answered, after the worker asked for work; None for nothing new."""
        see(engine, there.id, there.token_id, (0, slots), False, rules)
        told = http.get(f"/workers?seen={stamp}", headers={"HX-Request": "true", "HX-Target": "workers"})
        found = re.search(r"seen=([0-9a-f]+)", told.text)
        assert (found is None) == (told.status_code == 204)
        return found[1] if found else None

    stamp = ask(1, "")
    assert stamp
    clock.pass_seconds(20)
    assert ask(1, stamp) is None
    busy = ask(0, stamp)
    assert busy
    clock.pass_seconds(45)
    assert ask(0, busy)


def test_mine_are_those_of_whoever_signed_in(ada: TestClient, engine: Engine, rules: JobRules) -> None:
    mine, others = put(engine, rules, by="ada"), put(engine, rules, by="eve")
    page = ada.get("/jobs?mine=1").text
    assert f'id="job-{mine}"' in page
    assert f'id="job-{others}"' not in page


def test_ten_thousand_jobs_and_two_hundred_workers_cost_no_more_queries(
    http: TestClient, app: FastAPI, engine: Engine, rules: JobRules, tiny: str
) -> None:
    put(engine, rules, base={"run": tiny, "version": 1, "step": 10, "files": []})
    worker(engine, rules)
    served = app.state.desk.engine

    def asked(path: str) -> int:
        with counted(served) as queries:
            assert http.get(path).status_code == 200
        return len(queries)

    paths = (
        "/jobs",
        "/jobs?state=queued&run=lab/tiny",
        f"/runs/{tiny}/jobs",
        f"/runs/{tiny}/jobs?step=10",
        "/workers",
        "/jobs/1",
    )
    for path in paths:
        asked(path)
    few = [asked(path) for path in paths]
    with engine.begin() as connection:
        row = connection.exec_driver_sql("SELECT spec FROM job").scalar_one()
        many = {"kind": "resume", "run": tiny, "version": 1, "step": 10, "first_step": 11, "last_step": 20, "spec": row,
                "spec_digest": "x", "submitted_by": "bob", "request_digest": "", "needs": "", "state": "queued", "message": ""}  # fmt: skip
        zeros = dict.fromkeys(
            ("priority", "gpus", "fence", "attempts", "failures", "stalls", "not_before_ms", "told"), 0
        )
        connection.execute(
            insert(Job),
            [{**many, **zeros, "cancel_force": False, "fidelity": {}, "created_ms": k} for k in range(10_000)],
        )
    for k in range(200):
        attach(
            engine,
            None,
            Attached(f"node-{k:03d}", "slurm", 8, {"site": "a"}, "1", {"torch": "2.9", "transformers": "5"}, "host"),
            rules,
        )
    assert [asked(path) for path in paths] == few
    page = http.get("/jobs").text
    assert "100 of 10,001 jobs" in page
    assert len(page) < 200_000
    assert http.get("/workers").text.count("node-") >= 200


def test_administrators_drain_workers(http: TestClient, engine: Engine, rules: JobRules) -> None:
    there = worker(engine, rules)
    assert "No worker has attached itself yet" not in http.get("/workers").text
    assert "Drain" not in http.get("/workers").text
    secret, _ = create_token(engine, "publisher", "ada")
    http.post("/sign-in", data={"token": secret}, headers=OWN)
    assert http.post(f"/workers/{there.id}/drain", data={"on": "1"}, headers=OWN).status_code == 403
    secret, _ = create_token(engine, "admin", "root")
    http.post("/sign-in", data={"token": secret}, headers=OWN)
    assert http.post(f"/workers/{there.id}/drain", data={"on": "1"}, headers=OWN).status_code == 303
    assert "Take jobs again" in http.get("/workers").text
    http.post(f"/workers/{there.id}/drain", data={"on": ""}, headers=OWN)
    assert http.get("/api/v1/workers").json()["items"][0]["state"] != "draining"


def test_without_workers_the_page_says_how_to_attach_one(http: TestClient) -> None:
    page = http.get("/workers").text
    assert "No worker has attached itself yet" in page
    assert "PORTAL_TOKEN=llm360_… portal worker --url http://testserver" in page
    assert "portal token create --role worker" in page


def test_kept_pages_hold_no_live_parts_and_new_verdicts(
    http: TestClient, engine: Engine, rules: JobRules, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "SERVER_MEMORY_SECONDS", -1.0)
    page = f"/runs/{tiny}/checkpoints/10"
    before = http.get(page).text
    assert f'hx-get="/runs/{tiny}/jobs?step=10"' in before
    assert f'href="/runs/{tiny}/steps/10/submit"' in before
    base = {"run": tiny, "version": 1, "step": 10, "files": []}
    job = put(engine, rules, first_step=11, last_step=20, kind="replay", base=base)
    part = http.get(f"/runs/{tiny}/jobs?step=10", headers={"HX-Request": "true", "HX-Target": "jobs-here"}).text
    assert f"Job {job}" in part
    assert "<html" not in part
    assert http.get(page).text == before
    taken(engine, rules, worker(engine, rules))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE job SET state = 'publishing', accepted = 1")
    succeed(
        engine, job, Result("derived/x", 1, "exact", {"verdict": "exact", "sentence": "It came out the same."}), rules
    )
    for path in (page, f"/runs/{tiny}/checkpoints/20", f"/runs/{tiny}", f"/runs/{tiny}/jobs", f"/jobs/{job}"):
        assert "replay: exact" in http.get(path).text, path
    assert "replay: exact" not in http.get(f"/runs/{tiny}/checkpoints/30").text


def test_a_step_without_a_checkpoint_offers_the_one_before(http: TestClient, tiny: str) -> None:
    page = http.get(f"/runs/{tiny}/steps/17").text
    assert f'href="/runs/{tiny}/steps/10/submit"' in page
    assert f'href="/runs/{tiny}/steps/10/submit?kind=replay"' in page


def test_a_made_spec_is_shown_with_what_it_lacks(http: TestClient, engine: Engine, rules: JobRules) -> None:
    put(engine, rules, missing=["optimizer"], changes=[{"key": "schedule.peak", "from": 0.01, "to": 0.02}])
    page = http.get("/jobs/1").text
    assert "the checkpoint lacks" in page
    assert "schedule.peak" in page
    assert made_spec()["format"]
