"""Portals to back up: everything of a run, jobs, tokens, findings; and all that their API says, to be compared."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Engine, text
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.catalog.answers import FoundFinding
from portal.catalog.audit.writing import put_on_record
from portal.catalog.record import record_findings
from portal.catalog.tables import list_tables, read_lines
from portal.database import create_database_engine, open_session
from portal.exchange.backup.make import BackupReport, Wanted, make_backup
from portal.exchange.backup.own_places import OwnPlaces
from portal.exchange.backup.restore import Chosen, RestoreReport, restore_backup
from portal.exchange.received import publish_received
from portal.models import JobEvent, JobLog, JobMetric
from portal.settings import Settings
from portal.storage.blobs import open_blobs
from portal.storage.hashing import hash_file
from portal.web.app import create_app
from tests.exchange.releases import write_release
from tests.exchange.test_unreferenced import add_job

STEP = 10


def publish_all(settings: Settings, engine: Engine, folder: Path, runs: int = 1) -> list[str]:
    """Runs whose files were sent, a token, a finding that a person would see, a job with its files; names of the runs."""
    names = []
    for number in range(runs):
        release = write_release(folder / f"release-{number}", f"lab/run-{number}")
        publish_one(settings, engine, release)
        names.append(f"lab/run-{number}")
    with open_session(engine) as session:
        found = FoundFinding("made", "warning", "Found by a test: ü \u202e", STEP, {"a": [1, None]}, "x")
        record_findings(session, 1, [found])
        for number in range(3):
            put_on_record(session, "test.made", "ada", f"run:{number}", names[0], {"why": "ü", "n": number})
        session.commit()
    create_token(engine, "publisher", "ada")
    plan, output = (put(settings, folder, data) for data in (b"plan", b"output"))
    add_job(engine, plan, output)
    with open_session(engine) as session:
        session.execute(text("UPDATE job SET needs = '', state = 'failed', kind = 'resume', run = 'lab/run-0'"))
        one = {"job_id": 1, "attempt_id": 1, "attempt": 1}
        session.add(JobLog(**one, number=1, offset=0, data=bytes(range(256)), lead=b"", tail=0))
        session.add(JobEvent(job_id=1, number=1, at_ms=1, kind="note", data={"text": "ü"}))
        for step, value in enumerate((0.1, 5e-324, 1.7976931348623157e308, -2.5)):
            session.add(JobMetric(**one, number=step, step=(1 << 53) - step, name="loss", value=value))
        session.add(JobMetric(**one, number=9, step=9, name="loss", value=None, special="NaN"))
        session.commit()
    return names


def publish_one(settings: Settings, engine: Engine, release: Path) -> None:
    """Publish a folder as if it had been sent."""
    files = {}
    for path in sorted(p for p in release.rglob("*") if p.is_file() and p.name != "release.yaml"):
        digest = hash_file(path)
        open_blobs(settings).put_file(path, digest.sha256)
        files[path.relative_to(release).as_posix()] = (digest.sha256, digest.size)
    publish_received(settings, engine, yaml.safe_load((release / "release.yaml").read_text()), files, "ada")


def put(settings: Settings, folder: Path, data: bytes) -> str:
    """A blob; its sha256."""
    sha256 = hashlib.sha256(data).hexdigest()
    (folder / sha256).write_bytes(data)
    open_blobs(settings).put_file(folder / sha256, sha256)
    return sha256


def rows_of(settings: Settings) -> dict[str, str]:
    """The digest of every table, places in the portal's own store written alike wherever that is."""
    engine = create_database_engine(settings)
    own = OwnPlaces.of(open_blobs(settings))
    try:
        with engine.connect() as connection:
            return {
                table.name: hashlib.sha256(b"".join(read_lines(connection, table, own.portable))).hexdigest()
                for table in list_tables(connection)
            }
    finally:
        engine.dispose()


def blobs_of(settings: Settings) -> dict[str, str]:
    """sha256 of what lies in the store under each name."""
    blobs = open_blobs(settings)
    own = OwnPlaces.of(blobs)
    return {b.sha256: hash_file(own.path(b.sha256) or Path()).sha256 for b in blobs.list_held()}


def answers_of(settings: Settings, runs: list[str]) -> dict[str, Any]:
    """Every answer of the API about every run, job and file; status and body by address."""
    app = create_app(settings)
    try:
        with TestClient(app) as client:
            asked = _addresses(client, runs)
            return {address: _answer(client, address) for address in sorted(asked)}
    finally:
        app.state.desk.close()


def _answer(client: TestClient, address: str) -> tuple[int, bytes]:
    answer = client.get(address, follow_redirects=False)
    if address.endswith(".zip"):
        # An archive tells when it was packed.
        packed = zipfile.ZipFile(io.BytesIO(answer.content))
        return answer.status_code, repr([(one.filename, one.file_size, one.CRC) for one in packed.infolist()]).encode()
    # Each refusal has a number of its own.
    return answer.status_code, re.sub(rb'"request_id":"[^"]*"', b"", answer.content)


def _addresses(client: TestClient, runs: list[str]) -> set[str]:
    """Addresses of the API's own description, filled in with what there is."""
    paths: dict[str, Any] = client.get("/api/v1/openapi.json").json()["paths"]
    found = set()
    for run in runs:
        org, name = run.split("/")
        checkpoint = client.get(f"/api/v1/runs/{run}/checkpoints").json()["items"][0]
        files = client.get(f"/api/v1/runs/{run}/files").json()["items"]
        known = {
            "org": org, "name": name, "step": str(checkpoint["step"]), "chunk": "part_0", "series": "loss", "row": "0",
            "span": "0-1", "job": "1", "kind": "meta4", "checkpoint": str(checkpoint["step"]),
        }  # fmt: skip
        for path, methods in paths.items():
            needed = set(re.findall(r"{(\w+)}", path))
            if "get" in methods and needed and needed <= set(known):
                found.add(path.format(**known))
        found.add(f"/api/v1/runs/{run}/metrics/data?series=loss")
        found |= {f"/files/{f['sha256']}/{f['path'].rpartition('/')[2]}" for f in files if f["sha256"]}
        found |= {f"/api/v1/blocks/{f['sha256']}" for f in files if f["sha256"]}
    return found | {"/api/v1/runs", "/api/v1/jobs", "/api/v1/search?q=lab"}


def back_up(settings: Settings, place: Path | str, **wanted: bool) -> BackupReport:
    engine = create_database_engine(settings)
    try:
        return make_backup(engine, settings, str(place), Wanted(**wanted))
    finally:
        engine.dispose()


def restore(settings: Settings, place: Path | str, **chosen: Any) -> RestoreReport:
    engine = create_database_engine(settings)
    try:
        return restore_backup(engine, settings, str(place), Chosen(**chosen))
    finally:
        engine.dispose()
