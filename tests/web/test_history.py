"""The history over HTTP: what each route leaves in it, what each reader sees of it, and what is left of what was withdrawn."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.catalog.answers import FoundFinding
from portal.catalog.audit.listing import get_head, list_entries
from portal.catalog.audit.verifying import load_keys, read_witness, verify_history
from portal.catalog.record import record_findings
from portal.catalog.visibility import set_visibility
from portal.catalog.withdrawals import withdraw
from portal.database import open_session
from portal.settings import Settings
from portal.signing.keys import make_key
from portal.web.app import create_app
from portal.web.audited import AUDITED, Nothing
from portal.web.permissions import PERMISSIONS
from tests.builders import SmallRun, small_run
from tests.jobs.tiny_run import tiny_run

OWN = {"Origin": "http://testserver"}
ATTEMPT = "/api/v1/jobs/{job}/attempts/{attempt}"
BODY = b"some bytes"
MANIFEST = {"format": "llm360-portal/release/1", "run": "lab/new", "training": {"last_step": 10}}


@pytest.fixture
def settings(sqlite_settings: Settings) -> Settings:
    """What is tested here is the same on both databases; the chain itself is tested on both elsewhere."""
    return sqlite_settings


def test_every_route_that_changes_something_says_what_it_leaves() -> None:
    changing = {key for key in PERMISSIONS if key[0] not in ("GET", "HEAD")}
    assert set(AUDITED) == changing
    assert all(said.why if isinstance(said, Nothing) else said.count(".") == 1 for said in AUDITED.values())


class Root:
    """An administrator with a token and a browser, who counts what is left in the history."""

    def __init__(self, app: FastAPI, engine: Engine) -> None:
        self.engine = engine
        self.http = TestClient(app, raise_server_exceptions=False, follow_redirects=False)
        secret, _ = create_token(engine, "admin", "root")
        self.bearer = {"Authorization": f"Bearer {secret}"}
        self.secret = secret
        self.met: set[tuple[str, str]] = set()

    def does(self, method: str, path: str, parts: dict[str, Any] | None = None, **request: Any) -> Any:
        """Call a route of the API; exactly what is declared must be on record afterwards."""
        return self._called(method, path, parts, {"headers": self.bearer, **request})

    def sends(self, path: str, parts: dict[str, Any] | None = None, **form: str) -> Any:
        """Send a page's form."""
        return self._called("POST", path, parts, {"headers": OWN, "data": form})

    def _called(self, method: str, path: str, parts: dict[str, Any] | None, request: dict[str, Any]) -> Any:
        before = self.newest()
        address = path.replace("{rest:path}", "{rest}").format(**(parts or {}))
        answer = self.http.request(method, address, **request)
        assert answer.status_code < 400, (path, answer.status_code, answer.text)
        with open_session(self.engine) as session:
            fresh = [e for e in list_entries(session, None).items if e.seq > before]
        said = AUDITED[method, path]
        if isinstance(said, Nothing):
            assert fresh == [], path
        else:
            assert [(e.action, e.actor) for e in fresh] == [(said, "root")], path
        self.met.add((method, path))
        return answer

    def newest(self) -> int:
        with open_session(self.engine) as session:
            return get_head(session).seq


@pytest.fixture
def root(app: FastAPI, engine: Engine) -> Root:
    return Root(app, engine)


def test_each_leaves_exactly_one_entry_by_whoever_did_it(
    root: Root, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    small = small_run(engine, settings, tmp_path / "small")
    tiny_run(engine, settings, tmp_path / "tiny")
    with open_session(engine) as session:
        record_findings(session, small.release_id, [FoundFinding("gap", "warning", "Two are missing.", 5, {}, "x")])
        session.commit()
    root.sends("/sign-in", token=root.secret)
    _publishing(root, small)
    _jobs(root)
    _accounts(root)
    root.sends("/sign-out")
    assert root.met == set(AUDITED)
    with open_session(engine) as session:
        assert verify_history(session, load_keys(session)).broken is None
        kept = json.dumps([e.detail for e in list_entries(session, None, limit=1000).items])
    assert "llm360_" not in kept.replace("llm360_attempt", ""), "no secret is in it"


def _publishing(root: Root, small: SmallRun) -> None:
    run = {"org": "lab", "name": "small"}
    sha256 = hashlib.sha256(BODY).hexdigest()
    root.does("PUT", "/api/v1/blobs/{sha256}", {"sha256": sha256}, content=BODY)
    root.does("POST", "/api/v1/releases/check", json=MANIFEST)
    root.does("POST", "/api/v1/releases", json=MANIFEST)
    unchanged = root.newest()
    assert root.http.post("/api/v1/releases", json=MANIFEST, headers=root.bearer).status_code == 200
    assert root.newest() == unchanged
    for kind in ("models", "datasets"):
        path = f"/api/{kind}/{{rest:path}}"
        root.does("POST", path, {"rest": f"{small.run}/paths-info/main"}, data={"paths": "a"})
    with open_session(root.engine) as session:
        from portal.catalog.release import load_facts

        finding = {**run, "finding": load_facts(session, small.run).findings[0].id}
    review = "/runs/{org}/{name}/findings/{finding}/review"
    root.does("POST", f"/api/v1{review}", finding, json={"state": "explained", "note": "It is so."})
    root.sends(review, finding, state="open", note="It is not.")
    root.does("PUT", "/api/v1/runs/{org}/{name}/visibility", run, json={"visibility": "private"})
    root.does("POST", "/api/v1/runs/{org}/{name}/withdraw", run, json={"reason": "Wrong."})


def _jobs(root: Root) -> None:
    asked = {"kind": "resume", "run": "lab/tiny", "step": 10}
    root.does("POST", "/api/v1/jobs/preview", json=asked)
    job = {"job": root.does("POST", "/api/v1/jobs", json=asked).json()["id"]}
    for api in ("/api/v1", ""):
        for wish in ("cancel", "retry"):
            path = f"{api}/jobs/{{job}}/{wish}"
            root.does("POST", path, job) if api else root.sends(path, job)
    told = {"name": "w1", "executor": "process", "gpus": 0, "trainer": {}}
    worker = {"worker": root.does("POST", "/api/v1/workers", json=told).json()["worker"]}
    root.sends("/workers/{worker}/drain", worker, on="1")
    assert root.http.post(f"/workers/{worker['worker']}/drain", data={"on": ""}, headers=OWN).status_code == 303
    root.does("POST", "/api/v1/workers/{worker}/drain", worker, json={"on": True})
    root.http.post(f"/api/v1/workers/{worker['worker']}/drain", json={"on": False}, headers=root.bearer)
    free = {"free_gpus": 0, "free_slots": 1, "wait": 0}
    lease = root.does("POST", "/api/v1/workers/{worker}/lease", worker, json=free).json()
    attempt, fence = {**job, "attempt": lease["attempt"]}, lease["fence"]
    sha256 = hashlib.sha256(BODY).hexdigest()
    root.does("POST", f"{ATTEMPT}/heartbeat", attempt, json={"fence": fence, "phase": "running", "step": 11})
    root.does("POST", f"{ATTEMPT}/logs", attempt, params={"fence": fence, "offset": 0}, content=b"hello\n")
    points = [{"step": 11, "name": "loss", "value": 3.5}]
    root.does("POST", f"{ATTEMPT}/metrics", attempt, json={"fence": fence, "points": points})
    files = [{"path": "notes.txt", "sha256": sha256, "size": len(BODY)}]
    outputs = {"fence": fence, "step": 15, "kind": "partial", "files": files}
    refused = root.http.post(f"{ATTEMPT}/outputs".format(**attempt), json=outputs, headers=root.bearer)
    assert refused.status_code in (200, 409, 422), refused.text
    root.met.add(("POST", f"{ATTEMPT}/outputs"))
    ended = {"fence": fence, "outcome": "failed", "message": "No disk.", "retryable": False}
    root.does("POST", f"{ATTEMPT}/complete", attempt, json=ended)
    page = root.http.get("/runs/lab/tiny/steps/10/submit").text
    assert "submit" in page
    root.sends("/runs/{org}/{name}/steps/{step}/submit", {"org": "lab", "name": "tiny", "step": 10}, key="k1")


def _accounts(root: Root) -> None:
    made = root.does("POST", "/api/v1/tokens", json={"role": "reader", "name": "one"}).json()
    root.does("DELETE", "/api/v1/tokens/{token}", {"token": made["id"]})
    again = root.newest()
    assert root.http.delete(f"/api/v1/tokens/{made['id']}", headers=root.bearer).status_code == 200
    assert root.newest() == again, "revoked already"
    root.sends("/account/tokens", role="reader", name="two", key="k2", organisation="", runs="", days="")
    with open_session(root.engine) as session:
        from portal.catalog.accounts import list_tokens

        two = next(t for t in list_tokens(session) if t.name == "root/two")
    root.sends("/account/tokens/{token}/revoke", {"token": two.id})
    other = TestClient(root.http.app, raise_server_exceptions=False, follow_redirects=False)
    assert other.post("/sign-in", data={"token": root.secret}, headers=OWN).status_code == 303
    root.sends("/account/sign-out-others")


def test_readers_see_what_is_about_runs_they_may_see(
    app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    for run in ("lab/open", "lab/closed"):
        small_run(engine, settings, tmp_path / run, run)
    set_visibility(engine, "lab/closed", "private")
    people = {
        name: {"Authorization": f"Bearer {create_token(engine, role, name, org)[0]}"}
        for name, role, org in (("root", "admin", None), ("ada", "publisher", "lab"), ("eve", "publisher", "other"))
    }
    http = TestClient(app, raise_server_exceptions=False)

    def seen(who: str, path: str = "/api/v1/audit") -> set[str]:
        entries = http.get(path, headers=people.get(who)).json()["items"]
        return {e["run"] or e["object"] for e in entries}

    assert seen("nobody") == seen("eve") == {"lab/open"}
    assert seen("ada") == {"lab/open", "lab/closed"}
    assert seen("root") == {"lab/open", "lab/closed", "token:root", "token:ada", "token:eve"}
    assert seen("root", "/api/v1/audit?action=token&actor=operator&limit=2") == {"token:ada", "token:eve"}
    assert seen("nobody", "/api/v1/audit?run=lab/closed") == set()
    page = http.get("/history").text
    assert "lab/open" in page
    assert "lab/closed" not in page
    assert "token" not in page.partition("<tbody>")[2].partition("</tbody>")[0]
    assert http.get("/api/v1/audit?cursor=x").status_code == 400
    assert http.get("/api/v1/audit?actor=%00").status_code == 400
    first = http.get("/api/v1/audit?limit=1", headers=people["root"])
    assert 'rel="next"' in first.headers["link"]


def test_the_head_is_signed_shown_in_every_footer_and_proves_what_came_before(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    make_key(tmp_path / "portal.key")
    app = create_app(settings.model_copy(update={"signing_key": tmp_path / "portal.key"}))
    small_run(engine, settings, tmp_path / "release")
    # Not entered as a context: the thread that looks by itself would sign beside this test.
    http = TestClient(app, raise_server_exceptions=False)
    app.state.history.look_once()
    kept = http.get("/api/v1/audit/head")
    head = kept.json()
    for path in ("/", "/history", "/runs/lab/small", "/nothing/here"):
        assert f"<code>{head['hash'][:12]}</code>" in http.get(path).text, path
    app.state.desk.close()
    with open_session(engine) as session:
        keys = load_keys(session)
        report = verify_history(session, keys, [read_witness(kept.content, "HEAD.json", keys)])
    assert (report.broken, report.heads) == (None, 1)
    assert report.entries >= head["seq"]


def test_a_withdrawn_run_answers_410_everywhere(
    app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    small = small_run(engine, settings, tmp_path / "release")
    http = TestClient(app, raise_server_exceptions=False)
    file = http.get("/api/v1/runs/lab/small/files").json()["items"][0]["url"]
    assert "lab/small" in http.get("/").text
    small_run(engine, settings, small.folder, title="Corrected")
    old = http.get("/r/lab/small?v=1")
    assert "Corrected." in old.text, "the permalink of an old version says why there is another"
    withdraw(engine, "lab/small", "ada", "Its data held <b>names</b>.", 2)
    gone = http.get("/r/lab/small?v=2")
    assert gone.status_code == 410
    assert "Version 1 is the current one" in gone.text
    withdraw(engine, "lab/small", "ada", "Its data held <b>names</b>.")
    for path in ("/runs/lab/small", "/runs/lab/small/steps/5", "/r/lab/small", "/r/lab/small?v=1", "/lab/small"):
        answer = http.get(path)
        assert answer.status_code == 410, path
        assert "Its data held &lt;b&gt;names&lt;/b&gt;." in answer.text, path
    for path in ("", "/timeline", "/steps/5", "/checkpoints/5", "/steps/5/pair", "/metrics/data", "/steps/5/tokens"):
        told = http.get(f"/api/v1/runs/lab/small{path}")
        assert (told.status_code, told.json()["code"]) == (410, "withdrawn"), path
        assert (told.json()["withdrawn_by"], told.json()["whole"]) == ("ada", True)
    assert http.get(file).status_code == 410
    hub = http.get("/api/models/lab/small")
    assert (hub.status_code, hub.headers["x-error-code"]) == (410, "RepoNotFound")
    assert "withdrawn" in hub.headers["x-error-message"]
    assert http.get("/lab/small/resolve/main/config.json").status_code == 410
    assert "lab/small" not in http.get("/").text
    assert "Its data held" in http.get("/?withdrawn=1").text
    assert http.get("/api/v1/runs").json()["total"] == 0
    (listed,) = http.get("/api/v1/runs?withdrawn=true").json()["items"]
    assert (listed["run"], listed["withdrawn"]["reason"]) == ("lab/small", "Its data held <b>names</b>.")
    newest, first = http.get("/api/v1/runs/lab/small/versions").json()
    assert (newest["withdrawn"]["withdrawn_by"], first["reason"], newest["reason"]) == (
        "ada",
        "Corrected.",
        "Corrected.",
    )
    assert http.get("/api/v1/runs/lab/nothing/versions").status_code == 404


@pytest.mark.parametrize(("name", "role", "org"), [("eve", "publisher", "other"), ("ann", "reviewer", None)])
def test_only_publishers_of_the_organisation_withdraw(
    app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path, name: str, role: str, org: str | None
) -> None:
    small_run(engine, settings, tmp_path / "release")
    http = TestClient(app, raise_server_exceptions=False)

    def ask(who: tuple[str, str, str | None], **body: Any) -> int:
        secret, _ = create_token(engine, who[1], who[0] + str(len(body)) + str(body.get("purge", "")), who[2])
        headers = {"Authorization": f"Bearer {secret}"}
        return http.post("/api/v1/runs/lab/small/withdraw", json=body, headers=headers).status_code

    assert ask((name, role, org), reason="Mine now.") == 403
    assert ask(("ada", "publisher", "lab"), reason="") == 400
    assert ask(("ada", "publisher", "lab"), reason="Wrong.", version=7) == 404
    assert ask(("ada", "publisher", "lab"), reason="Wrong.", purge=True) == 403
    assert ask(("zoe", "publisher", "lab"), reason="Wrong.") == 200
    assert ask(("root", "admin", None), purge=True) == 200
