"""`docker compose up` alone: the demo is in the browser, its jobs are trained, and secrets stay where they belong."""

from __future__ import annotations

import hashlib
import json
import re

import httpx
from playwright.sync_api import expect, sync_playwright

from tests.chromium import FLAGS, find_chromium
from tests.compose.engine import Deployment, deployed, tell, wait_for

RUN = "demo/tiny"
SOON = 30_000
SECRETS = ("web", "pgpass"), ("web", "aws"), ("web", "signing.key"), ("worker", "token"), ("publisher", "token")


def check_plain() -> None:
    """Everything that compose.yaml promises."""
    with deployed("portal-check") as here:
        demo_is_there(here)
        bytes_lie_in_the_store(here)
        nobody_is_root(here)
        token = here.run_in("web", "portal", "token", "create", "--role", "publisher", "--name", "visitor").strip()
        job = submit_in_browser(here, token) if chromium() else submit(here, token, "resume", 20)
        ends_well(here, job)
        ends_well(here, submit(here, token, "replay", 50), "exact")
        a_stop_loses_nothing(here, token)
        secrets_are_seen_by_nobody(here, token)


def demo_is_there(here: Deployment) -> None:
    """The demo's runs were published, and a page of them is served."""
    runs = {item["run"] for item in here.ask("/api/v1/runs?limit=1000")["items"]}
    assert {RUN, "demo/amber-scale"} <= runs
    assert httpx.get(f"{here.address}/runs/{RUN}").status_code == 200
    assert here.ask("/readyz")["status"] == "ok"
    tell(f"{len(runs)} runs are there")


def bytes_lie_in_the_store(here: Deployment) -> None:
    """A released file comes whole and in ranges; it lies in the bucket."""
    files = here.ask(f"/api/v1/runs/{RUN}/checkpoints/300")["files"]
    weights = next(f for f in files if f["path"].endswith("model.safetensors"))
    url = httpx.URL(here.address).join(weights["url"])
    body = httpx.get(url).raise_for_status().content
    assert hashlib.sha256(body).hexdigest() == weights["sha256"]
    assert httpx.get(url, headers={"Range": "bytes=100-199"}).content == body[100:200]
    held = json.loads(here.run_in("web", "portal", "store", "--json"))
    assert held["blobs"] > 100
    assert not here.run_in("web", "sh", "-c", "ls /data/store/blobs 2>/dev/null || true").strip(), "none lies beside it"
    tell("a file comes from the store")


def nobody_is_root(here: Deployment) -> None:
    """As the engine runs them, not as the file says."""
    for service in ("db", "s3", "web", "worker"):
        assert here.run_in(service, "id", "-u").strip() != "0"
        assert "x" not in here.run_in(service, "sh", "-c", "touch /x 2>/dev/null && echo x || true")
        assert "CapEff:\t0000000000000000" in here.run_in(service, "cat", "/proc/self/status")
        assert "NoNewPrivs:\t1" in here.run_in(service, "cat", "/proc/self/status")
    assert here.run_in("db", "ls", "/keys").split() == ["password"]
    assert here.run_in("s3", "ls", "/keys").split() == ["s3.json"]
    assert here.run_in("worker", "ls", "/keys").split() == ["token"]
    reach = "import socket; socket.create_connection(('{}', {}), 3)"
    for host, port in (("db", 5432), ("s3", 8333)):
        said = here.run_in("worker", "python", "-c", reach.format(host, port), check=False)
        assert said == ""
        code = f"{reach.format(host, port)}; print('reached')"
        assert "reached" not in here.run_in("worker", "python", "-c", code, check=False)
        assert "reached" in here.run_in("web", "python", "-c", code)
    tell("nobody is root, and the worker reaches neither database nor store")


def submit(here: Deployment, token: str, kind: str, steps: int, step: int = 300) -> int:
    """A job by the API."""
    body = {"kind": kind, "run": RUN, "step": step, "steps": steps}
    answer = httpx.post(f"{here.address}/api/v1/jobs", json=body, headers={"Authorization": f"Bearer {token}"})
    return int(answer.raise_for_status().json()["id"])


def submit_in_browser(here: Deployment, token: str) -> int:
    """Signed in, from the first page by its links to a checkpoint, and from there to a job that ends before one's eyes."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(base_url=here.address)
        page.goto("/sign-in")
        page.get_by_label("API token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("You are signed in as visitor")).to_be_visible(timeout=SOON)
        page.goto(f"/runs/{RUN}/checkpoints/300")
        page.get_by_role("link", name="Resume training from here").click()
        page.get_by_label("Steps to train").fill("20")
        expect(page.locator("#preview")).to_contain_text("301–320", timeout=SOON)
        page.get_by_role("button", name="Submit this job").click()
        page.wait_for_url(re.compile(r"/jobs/\d+$"), timeout=SOON)
        job = int(page.url.rpartition("/")[2])
        expect(page.locator("#standing")).to_contain_text("succeeded", timeout=180_000)
        browser.close()
    tell(f"job {job} was submitted in the browser and succeeded there")
    return job


def ends_well(here: Deployment, job: int, verdict: str | None = None) -> None:
    """A job succeeds on the worker, and is a run of its own."""
    state = wait_for(lambda: ended(here, job), f"job {job} ends")
    assert state == "succeeded", here.ask(f"/api/v1/jobs/{job}")
    told = here.ask(f"/api/v1/jobs/{job}")
    assert verdict is None or told["verdict"] == verdict
    tell(f"job {job}, a {told['kind']}, succeeded{f': {verdict}' if verdict else ''}")


def ended(here: Deployment, job: int) -> str:
    """The state a job ended in; empty while it goes on."""
    state = str(here.ask(f"/api/v1/jobs/{job}")["state"])
    return state if state in ("succeeded", "failed", "cancelled") else ""


def a_stop_loses_nothing(here: Deployment, token: str) -> None:
    """Stopped in the middle of a job and started again: the job goes on from where it was, and nothing is done twice."""
    runs = {r["run"]: r["version"] for r in here.ask("/api/v1/runs?limit=1000")["items"]}
    job = submit(here, token, "resume", 500, step=50)
    wait_for(lambda: (here.ask(f"/api/v1/jobs/{job}")["progress_step"] or 0) > 70, "the job trains")
    here.compose("stop")
    codes = {c["Config"]["Labels"]["com.docker.compose.service"]: c["State"]["ExitCode"] for c in here.containers()}
    tell(f"stopped: exit codes {codes}")
    assert {name: code for name, code in codes.items() if name in ("db", "web", "worker")} == {
        "db": 0,
        "web": 0,
        "worker": 0,
    }
    tell(f"up again ({here.up():.0f} s)")
    ends_well(here, job)
    attempts = here.ask(f"/api/v1/jobs/{job}")["attempt_list"]
    told = [(a["started_from"], a["reached_step"], a["outcome"]) for a in attempts]
    assert [a["outcome"] for a in attempts] == ["preempted", "succeeded"], told
    assert attempts[1]["started_from"] >= 70, told
    tell(f"its attempts (from, to, outcome): {told}")
    after = {r["run"]: r["version"] for r in here.ask("/api/v1/runs?limit=1000")["items"]}
    assert {name: after[name] for name in runs} == runs


def secrets_are_seen_by_nobody(here: Deployment, token: str) -> None:
    """Neither the engine's record of the containers nor their logs hold one."""
    inside = "for f in /keys/*; do echo; cat $f; done"
    kept = "".join(here.run_in(service, "sh", "-c", inside) for service in ("web", "worker", "db", "s3"))
    words = {w for w in re.findall(r"[A-Za-z0-9_+/-]{20,}", kept) if not w.startswith(("aws_", "-----"))} | {token}
    assert len(words) >= 6
    shown = str(here.containers()) + here.compose("logs", "--no-color")
    assert not [word for word in words if word in shown]
    tell("no secret is in a log, a variable or a command line")


def chromium() -> str | None:
    """A browser to look with."""
    found = find_chromium()
    if found is None:
        tell("the browser's part is skipped: Chromium is missing (apt-get install chromium)")
    return found
