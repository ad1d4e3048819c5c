"""compose.yaml with .compose/bridges.yaml: nginx in front sends files, readers are sent to the store, Ray trains."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.compose.engine import Deployment, deployed, tell
from tests.compose.plain import RUN, ends_well
from tests.conftest import REPOSITORY

HOST = "portal.internal"
LOOPBACK = "127.0.0.7"
"""The ports are fixed, so an address of this machine that nothing else listens on."""


def check_bridges() -> None:
    """Everything that .compose/bridges.yaml promises."""
    with tempfile.TemporaryDirectory() as scratch:
        releases = Path(scratch)
        releases.chmod(0o755)
        shutil.copytree(REPOSITORY / "portal" / "demo" / "tiny", releases / "tiny")
        variables = {
            "WEB_HOST": HOST,
            "WEB_BIND": LOOPBACK,
            "WEB_RELEASES": str(releases),
            "DEMO_RUNS": "no",
        }
        with deployed("portal-bridges", ".compose/bridges.yaml", profiles=("ray",), **variables) as here:
            here.address = f"http://{LOOPBACK}:8360"
            here.run_in("web", "portal", "publish", "/releases/tiny")
            nginx_sends_files(here)
            token = here.run_in("web", "portal", "token", "create", "--role", "publisher", "--name", "visitor").strip()
            # To a step that was not published: the bytes of its checkpoint are nowhere but in the store.
            body = {"kind": "resume", "run": RUN, "step": 300, "steps": 5, "labels": {"engine": "ray"}}
            asked = {"Authorization": f"Bearer {token}"}
            answer = httpx.post(f"{here.address}/api/v1/jobs", json=body, headers=asked).raise_for_status()
            job = int(answer.json()["id"])
            ends_well(here, job)
            assert here.ask(f"/api/v1/jobs/{job}")["worker"] == "ray"
            readers_are_sent_to_the_store(here, job)


def nginx_sends_files(here: Deployment) -> None:
    """A file of a folder that was published where it lies: its bytes are nginx's, its headers the portal's."""
    weights = _weights(here, RUN, 300)
    url = f"{here.address}/files/{weights['sha256']}/model.safetensors"
    whole = httpx.get(url)
    body, etag = whole.content, f'"{weights["sha256"]}"'
    assert hashlib.sha256(body).hexdigest() == weights["sha256"]
    assert whole.headers["server"] == "nginx"
    assert whole.headers["etag"] == etag
    assert whole.headers["repr-digest"].startswith("sha-256=:")
    assert "sandbox" in whole.headers["content-security-policy"]
    assert "x-accel-redirect" not in whole.headers
    part = httpx.get(url, headers={"Range": "bytes=100-199", "If-Range": etag})
    assert (part.status_code, part.content) == (206, body[100:200])
    assert httpx.get(url, headers={"Range": "bytes=100-199", "If-Range": '"other"'}).content == body
    assert httpx.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert httpx.get(f"{here.address}/_local/data/portal.sqlite3").status_code == 404
    tell("nginx sends a file, whole and in part, with the portal's headers")


def readers_are_sent_to_the_store(here: Deployment, job: int) -> None:
    """What a job made lies in the bucket: a signed address at the public endpoint, which only reads."""
    told = here.ask(f"/api/v1/jobs/{job}")
    weights = _weights(here, told["derived_run"], told["last_step"])
    answer = httpx.get(f"{here.address}/files/{weights['sha256']}/model.safetensors", follow_redirects=False)
    there = httpx.URL(answer.headers["location"])
    assert (answer.status_code, there.host, there.port) == (302, HOST, 8333)
    near, named = there.copy_with(host=LOOPBACK), {"Host": f"{HOST}:8333"}
    assert hashlib.sha256(httpx.get(near, headers=named).content).hexdigest() == weights["sha256"]
    assert httpx.get(near.copy_with(query=b""), headers=named).status_code == 403
    assert httpx.put(near, headers=named, content=b"x").status_code == 403
    tell("a reader is sent to the store with an address that opens one file")


def _weights(here: Deployment, run: str, step: int) -> dict[str, Any]:
    files = here.ask(f"/api/v1/runs/{run}/checkpoints/{step}")["files"]
    return next(f for f in files if f["path"].endswith("model.safetensors"))
