"""The worker's side over HTTP: attach, lease, tell, end; and who is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token, revoke_token
from portal.catalog.jobs.rules import JobRules
from portal.jobs.reaper import Reaper
from portal.settings import Settings
from portal.web.job_desk import JobDesk
from portal.web.job_events import Heard, Watch
from tests.catalog.queries import counted
from tests.jobs.enqueued import Clock, put
from tests.loops import run_apart

POINTS = [{"step": s, "name": "loss", "value": 3.5} for s in range(301, 351)]


@pytest.fixture
def clock(app: FastAPI) -> Clock:
    clock = Clock()
    desk: JobDesk = app.state.jobs
    app.state.jobs = JobDesk(app.state.desk.engine, JobRules(clock=clock, per_person=desk.rules.per_person))
    return clock


@pytest.fixture
def http(app: FastAPI, clock: Clock) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def rules(app: FastAPI, clock: Clock) -> JobRules:
    rules: JobRules = app.state.jobs.rules
    return rules


class Agent:
    """A worker that speaks HTTP."""

    def __init__(self, http: TestClient, engine: Engine, name: str = "w1") -> None:
        self.http = http
        self.secret, view = create_token(engine, "worker", f"token-{name}")
        self.token = view.name
        self.name = name
        self.id = self.post("/workers", {"name": name, "executor": "process", "gpus": 0, "trainer": {}}).json()[
            "worker"
        ]

    def post(self, path: str, body: Any = None, secret: str | None = None, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {secret or self.secret}"}
        return self.http.post(f"/api/v1{path}", json=body, headers=headers, **more)

    def lease(self) -> Any:
        return self.post(f"/workers/{self.id}/lease", {"free_gpus": 0, "free_slots": 1, "wait": 0})

    def say(self, lease: Any, what: str, secret: str | None = None, **body: Any) -> Any:
        path = f"/jobs/{lease['job']}/attempts/{lease['attempt']}/{what}"
        return self.post(path, {"fence": lease["fence"], **body}, secret or lease["attempt_token"])

    def log(self, lease: Any, offset: int, data: bytes) -> Any:
        path = f"/api/v1/jobs/{lease['job']}/attempts/{lease['attempt']}/logs?fence={lease['fence']}&offset={offset}"
        return self.http.post(path, content=data, headers={"Authorization": f"Bearer {lease['attempt_token']}"})


@pytest.fixture
def agent(http: TestClient, engine: Engine) -> Agent:
    return Agent(http, engine)


def test_a_worker_attaches_leases_and_tells(agent: Agent, http: TestClient, engine: Engine, rules: JobRules) -> None:
    assert agent.lease().status_code == 204
    job = put(engine, rules)
    lease = agent.lease().json()
    assert (lease["job"], lease["attempt"], lease["fence"], lease["resume"]) == (job, 1, 1, None)
    assert lease["spec"]["first_step"] == 301
    assert lease["lease_until"] * 1000 == rules.clock() + rules.lease_ms
    assert agent.lease().status_code == 204
    beat = agent.say(lease, "heartbeat", phase="running", step=305, host="node7")
    assert beat.json()["cancel"] == "no"
    assert agent.say(lease, "metrics", points=POINTS).json() == {"stored": 50}
    told = http.get(f"/api/v1/jobs/{job}").json()
    assert (told["state"], told["progress_step"], told["worker"]) == ("running", 350, "w1")
    assert told["attempt_list"][0]["host"] == "node7"
    assert len(http.get(f"/api/v1/jobs/{job}/metrics").json()) == 50


def test_log_pieces_go_together_whatever_their_order_of_arrival(agent: Agent, engine: Engine, rules: JobRules) -> None:
    job = put(engine, rules)
    lease = agent.lease().json()
    text = "step 301 \x1b[31mred\x00 ünï\r\nÿ".encode() + b"\xff\xfe" + b"x" * 10 + "…\n".encode()
    assert agent.log(lease, 0, text[:14]).json() == {"offset": 14}
    gap = agent.log(lease, 20, text[20:])
    assert (gap.status_code, gap.json()["code"], gap.json()["expected"]) == (409, "log-gap", 14)
    assert agent.log(lease, 0, text[:14]).json() == {"offset": 14}
    for cut in range(15, len(text) + 1):
        assert agent.log(lease, max(cut - 3, 0), text[max(cut - 3, 0) : cut]).json() == {"offset": cut}
    assert agent.http.get(f"/api/v1/jobs/{job}/log").content == text
    events = agent.http.get(f"/api/v1/jobs/{job}")
    assert events.json()["attempt_list"][0]["log_bytes"] == len(text)
    too_long = agent.log(lease, len(text), b"y" * ((4 << 20) + 1))
    assert too_long.status_code == 413


def test_a_zombie_is_refused_everywhere(
    agent: Agent, http: TestClient, engine: Engine, clock: Clock, rules: JobRules
) -> None:
    job = put(engine, rules)
    old = agent.lease().json()
    reaper = Reaper(Settings(), engine, rules)
    for _ in range(3):
        clock.pass_seconds(60)
        assert reaper.work_once() == []
        assert agent.say(old, "heartbeat", phase="running").status_code == 200
    clock.pass_seconds(60)
    assert reaper.work_once() == []
    clock.pass_seconds(31)
    assert reaper.work_once() == [job]
    clock.pass_seconds(60)
    new = agent.lease().json()
    assert (new["job"], new["attempt"]) == (job, 2)
    assert new["fence"] > old["fence"]
    refused = [
        agent.say(old, "heartbeat", phase="running"),
        agent.log(old, 0, b"late"),
        agent.say(old, "metrics", points=POINTS),
        agent.say(old, "complete", outcome="succeeded", exit_code=0),
        agent.say({**old, "fence": new["fence"]}, "heartbeat", phase="running"),
    ]
    assert [(r.status_code, r.json()["code"]) for r in refused] == [(409, "stale-lease")] * 5
    assert agent.say(new, "heartbeat", phase="running").status_code == 200
    assert http.get(f"/api/v1/jobs/{job}/log").content == b""


def test_secrets_open_only_their_own_attempt(agent: Agent, http: TestClient, engine: Engine, rules: JobRules) -> None:
    put(engine, rules)
    put(engine, rules)
    first, second = agent.lease().json(), agent.lease().json()
    crossed = agent.say(second, "heartbeat", first["attempt_token"], phase="running")
    assert (crossed.status_code, crossed.json()["code"]) == (403, "forbidden")
    other = Agent(http, engine, "w2")
    assert other.say(first, "heartbeat", other.secret, phase="running").status_code == 403
    assert agent.say(first, "heartbeat", agent.secret, phase="running").status_code == 200
    assert other.post(f"/workers/{agent.id}/lease", {}).status_code == 403
    assert agent.post("/jobs/1/cancel", None, first["attempt_token"]).status_code == 403
    revoke_token(engine, agent.token)
    assert agent.lease().status_code == 401
    assert agent.say(first, "heartbeat", phase="running").status_code == 401


def test_two_workers_with_one_name(agent: Agent, http: TestClient, engine: Engine, clock: Clock) -> None:
    other, _ = create_token(engine, "worker")
    taken = agent.post("/workers", {"name": "w1"}, other)
    assert (taken.status_code, taken.json()["code"]) == (409, "worker-name-taken")
    again = agent.post("/workers", {"name": "w1"}).json()
    assert (again["worker"], again["registration"]) == (agent.id, 2)
    replaced = agent.post(f"/workers/{agent.id}/lease", {"registration": 1})
    assert (replaced.status_code, replaced.json()["reason"]) == (409, "worker-replaced")
    assert agent.post(f"/workers/{agent.id}/lease", {"registration": 2}).status_code == 204
    clock.pass_seconds(91)
    assert agent.post("/workers", {"name": "w1"}, other).status_code == 200


def test_cancelling(agent: Agent, http: TestClient, engine: Engine, clock: Clock, rules: JobRules) -> None:
    secret, _ = create_token(engine, "publisher", "ada")
    waiting, running = put(engine, rules, priority=0), put(engine, rules, priority=5)
    lease = agent.lease().json()
    assert lease["job"] == running
    stranger, _ = create_token(engine, "publisher", "eve")
    assert agent.post(f"/jobs/{waiting}/cancel", None, stranger).status_code == 403
    assert agent.post(f"/jobs/{waiting}/cancel", None, secret).json()["state"] == "cancelled"
    assert agent.post(f"/jobs/{running}/cancel", None, secret).json()["state"] == "leased"
    assert agent.say(lease, "heartbeat", phase="running").json()["cancel"] == "graceful"
    clock.pass_seconds(80)
    assert agent.say(lease, "heartbeat", phase="running").json()["cancel"] == "graceful"
    clock.pass_seconds(80)
    assert agent.say(lease, "heartbeat", phase="running").json()["cancel"] == "kill"
    assert agent.say(lease, "complete", outcome="failed", exit_code=75).json() == {"state": "cancelled"}
    assert agent.say(lease, "complete", outcome="failed", exit_code=75).json() == {"state": "cancelled"}
    told = agent.say(lease, "complete", outcome="failed", exit_code=1)
    assert (told.status_code, told.json()["code"]) == (409, "conflict")
    assert agent.post(f"/jobs/{running}/retry", None, secret).json()["state"] == "queued"
    assert agent.lease().json()["attempt"] == 2


def test_draining(agent: Agent, http: TestClient, engine: Engine, rules: JobRules) -> None:
    put(engine, rules)
    admin, _ = create_token(engine, "admin")
    assert agent.post(f"/workers/{agent.id}/drain", None, admin).json() == {"worker": agent.id, "draining": True}
    assert agent.lease().status_code == 204
    assert http.get("/api/v1/workers").json()["items"][0]["state"] == "draining"
    agent.post(f"/workers/{agent.id}/drain", {"on": False}, admin)
    assert agent.lease().status_code == 200


def test_workers_that_say_odd_things_of_themselves(agent: Agent) -> None:
    odd: list[tuple[dict[str, Any], str]] = [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "w", "gpus": -1}, "gpus"),
        ({"name": "w", "labels": {"a b": "c"}}, "label"),
        ({"name": "w", "labels": {str(k): "" for k in range(11)}}, "labels"),
    ]
    for body, word in odd:
        refused = agent.post("/workers", body)
        assert refused.status_code == 400, body
        assert word in refused.text


def test_numbers_that_are_none(agent: Agent, engine: Engine, rules: JobRules) -> None:
    put(engine, rules)
    lease = agent.lease().json()
    odd: list[tuple[Any, Any, Any]] = [(300, "loss", 1), (351, "loss", 1), ("301", "loss", 1), (True, "loss", 1)]
    odd += [(301, "", 1), (301, "lo\x00ss", 1), (301, 5, 1), (301, "loss", "one"), (301, "loss", None)]
    odd += [(301, "loss", 10**400), (10**30, "loss", 1)]
    for step, name, value in odd:
        refused = agent.say(lease, "metrics", points=[{"step": step, "name": name, "value": value}])
        assert refused.status_code == 400, (step, name, value)
    assert agent.http.get(f"/api/v1/jobs/{lease['job']}/metrics").json() == []


def test_numbers_that_are_not_finite_are_kept_by_name(agent: Agent, engine: Engine, rules: JobRules) -> None:
    put(engine, rules)
    lease = agent.lease().json()
    points = [{"step": 301, "name": "loss", "value": v} for v in ("NaN", "Infinity", "-Infinity")]
    for point in points:
        agent.say(lease, "metrics", points=[point])
        (found,) = agent.http.get(f"/api/v1/jobs/{lease['job']}/metrics").json()
        assert (found["value"], found["special"]) == (None, point["value"])


def test_a_worker_without_torch_gets_no_jobs(agent: Agent, http: TestClient, engine: Engine, rules: JobRules) -> None:
    put(engine, rules)
    about = {"name": "w1", "trainer": {"python": "3.11"}, "machine": {"memory": 8, "disk": 5}}
    assert agent.post("/workers", about).status_code == 200
    assert agent.lease().status_code == 204
    (there,) = http.get("/api/v1/workers").json()["items"]
    assert (there["state"], there["machine"]) == ("unfit", {"devices": [], "memory": 8, "disk": 5})
    assert agent.post("/workers", {"name": "w1", "trainer": {"torch": "2", "transformers": "5"}}).status_code == 200
    assert agent.lease().status_code == 200
    assert agent.post("/workers", {"name": "w1", "machine": {"memory": -1}}).status_code == 400


def test_many_who_watch_share_their_looks(engine: Engine, rules: JobRules) -> None:
    """Fifty at the same number ask the database as often as one, and one who leaves takes nothing from the others."""
    job = put(engine, rules)
    watch = Watch(engine)

    async def look() -> list[Heard | BaseException]:
        asked = [asyncio.create_task(watch.read(job, 0)) for _ in range(50)]
        await asyncio.sleep(0)
        asked[0].cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    with counted(engine) as queries:
        alone = run_apart(watch.read(job, 0))
        few = len(queries)
        heard = run_apart(look())
    assert len(queries) == 2 * few
    assert isinstance(heard[0], asyncio.CancelledError)
    assert heard[1:] == [alone] * 49
    assert b"event: state" in alone.events


def test_what_is_watched_can_be_gone_on_with(agent: Agent, http: TestClient, engine: Engine, rules: JobRules) -> None:
    job = put(engine, rules)
    lease = agent.lease().json()
    pieces = ["ein ü", "ber lan", "ger Weg …\n"]
    offset = 0
    for piece in pieces:
        for half in (piece.encode()[:5], piece.encode()[5:]):
            offset = agent.log(lease, offset, half).json()["offset"]
        agent.say(lease, "metrics", points=[{"step": 301 + offset, "name": "loss", "value": 1.0}])
    agent.say(lease, "complete", outcome="failed", exit_code=65, message="The checkpoint has other bytes.")
    whole = http.get(f"/api/v1/jobs/{job}/events").text
    events = [block for block in whole.split("\n\n") if block.startswith("id:")]
    assert events[-1].splitlines()[1] == "event: end"

    def text_of(blocks: list[str]) -> str:
        found = [json.loads(b.split("data: ", 1)[1]) for b in blocks if "event: log" in b]
        return "".join(f["text"] for f in found)

    assert text_of(events) == "".join(pieces)
    for cut in range(len(events) - 1):
        last = events[cut].splitlines()[0].removeprefix("id: ")
        rest = http.get(f"/api/v1/jobs/{job}/events", headers={"Last-Event-ID": last}).text
        assert [b for b in rest.split("\n\n") if b.startswith("id:")] == events[cut + 1 :]
    assert http.get(f"/api/v1/jobs/{job}/events", headers={"Last-Event-ID": "x"}).status_code == 400
    told = http.get(f"/api/v1/jobs/{job}").json()
    assert told["state"] == "failed"
    assert "other bytes" in told["message"]
