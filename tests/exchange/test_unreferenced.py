"""What nothing refers to is found and removed; what anything refers to, or is about to, stays."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from portal.catalog.audit.listing import list_entries
from portal.catalog.referenced import keeping, removing
from portal.catalog.withdrawals import purge, withdraw
from portal.database import open_session
from portal.errors import MissingBlobs, Unavailable
from portal.exchange import received
from portal.exchange.purging import remove_purged
from portal.exchange.received import publish_received
from portal.exchange.unreferenced import look_at_store, remove_unreferenced
from portal.models import File, Job, JobAttempt, JobOutput
from portal.settings import Settings
from portal.storage.blobs import open_blobs
from tests.exchange.releases import write_manifest, write_release
from tests.exchange.test_received import sent
from tests.seaweed import BUCKET, SeaweedServer

ANY = timedelta(seconds=-5)
"""However new: an S3 server tells whole seconds."""


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("seaweed"))])
def own(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """A portal on each database, its store a folder or a bucket."""
    if request.param == "folder":
        return settings
    server: SeaweedServer = request.getfixturevalue("s3_server")
    place = {"storage_url": f"s3://{BUCKET}/{uuid4().hex}", "s3_endpoint": server.endpoint}
    return settings.model_copy(update=place)


def put(own: Settings, folder: Path, data: bytes) -> str:
    """A blob; its sha256."""
    folder.mkdir(exist_ok=True)
    sha256 = hashlib.sha256(data).hexdigest()
    (folder / sha256).write_bytes(data)
    open_blobs(own).put_file(folder / sha256, sha256)
    return sha256


def add_job(engine: Engine, plan: str, output: str) -> None:
    """A job whose plan, and an attempt whose checkpoint, lie in the store."""
    numbers = dict.fromkeys(
        ("version", "step", "first_step", "last_step", "priority", "gpus", "created_ms", "fence", "attempts",
         "failures", "stalls", "not_before_ms", "told"), 1)  # fmt: skip
    words = dict.fromkeys(
        ("kind", "run", "spec_digest", "submitted_by", "request_digest", "needs", "state", "message"), "-"
    )
    with open_session(engine) as session:
        job = Job(**numbers, **words, spec=f'{{"data":{{"plan":{{"sha256":"{plan}"}}}}}}')
        session.add(job)
        session.flush()
        attempt = JobAttempt(
            job_id=job.id or 0, number=1, fence=1, worker="-", executor="-", host="-", secret_digest="-",
            started_ms=1, started_from=1, message="", log_bytes=0, log_kept=0, log_carry=0,
        )  # fmt: skip
        session.add(attempt)
        session.flush()
        files = [{"path": "model.safetensors", "sha256": output, "size": 1}]
        session.add(
            JobOutput(job_id=job.id or 0, attempt_id=attempt.id or 0, step=1, kind="final", files=files, at_ms=1)
        )
        session.commit()


def test_only_what_nothing_refers_to_goes(tmp_path: Path, own: Settings, engine: Engine) -> None:
    release = write_release(tmp_path / "release")
    document, files = sent(release, own)
    publish_received(own, engine, document, files, "ada")
    # A file of the first version alone is still that version's.
    (release / "train.csv").write_text("step,loss\n1,2.0\n")
    write_manifest(release)
    document, again = sent(release, own)
    publish_received(own, engine, document, again, "ada")
    spare, plan, output, coming = (put(own, tmp_path / "more", text) for text in (b"a", b"b", b"c", b"d"))
    add_job(engine, plan, output)
    blobs = open_blobs(own)
    blobs.begin(coming, 2).write_at(0, [b"d"])
    kept = {s for s, _ in [*files.values(), *again.values()]} | {plan, output, coming}
    young = look_at_store(engine, own)
    assert (young.unreferenced, young.recent, young.blobs) == ([], len(kept) + 1, len(kept) + 1)
    found = look_at_store(engine, own, ANY)
    assert [(blob.sha256, blob.size) for blob in found.unreferenced] == [(spare, 1)]
    assert blobs.has(spare) == 1
    gone = remove_unreferenced(engine, own, ANY)
    assert ([blob.sha256 for blob in gone.unreferenced], gone.removed) == ([spare], True)
    assert (blobs.has(spare), blobs.digest(spare)) == (None, None)
    assert {blob.sha256 for blob in blobs.list_held()} == kept
    assert put(own, tmp_path / "more", b"a") == spare
    assert blobs.has(spare) == 1
    with open_session(engine) as session:
        newest = list_entries(session, None).items[0]
    assert (newest.actor, newest.action, newest.detail["sha256"]) == ("portal", "store.cleaned", [spare])


def test_bytes_of_a_purged_run_leave_an_entry(tmp_path: Path, settings: Settings, engine: Engine) -> None:
    document, files = sent(write_release(tmp_path / "release"), settings)
    run = publish_received(settings, engine, document, files, "ada").run
    withdraw(engine, run, "ada", "Wrong.")
    removed = remove_purged(engine, settings, purge(engine, run, "root"), "root")
    digests = {sha256 for sha256, _ in files.values()}
    assert (removed.files, removed.bytes) == (len(digests), sum(dict(files.values()).values()))
    with open_session(engine) as session:
        newest = list_entries(session, None).items[0]
    assert (newest.actor, newest.action, newest.run) == ("root", "store.cleaned", run)
    told = {"files": removed.files, "bytes": removed.bytes, "reason": f"{run} was purged.", "sha256": sorted(digests)}
    assert newest.detail == told


def test_a_removal_waits_for_a_publication_that_has_found_its_files(
    tmp_path: Path, own: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment of danger: the files were found, the release does not refer to them yet."""
    document, files = sent(write_release(tmp_path / "release"), own)
    found, go_on, real = threading.Event(), threading.Event(), received._digests

    def slow(*asked: object) -> object:
        digests = real(*asked)  # type: ignore[arg-type]
        found.set()
        assert go_on.wait(60)
        return digests

    monkeypatch.setattr(received, "_digests", slow)
    with ThreadPoolExecutor(2) as pool:
        publishing = pool.submit(publish_received, own, engine, document, files, "ada")
        assert found.wait(60)
        with pytest.raises(Unavailable, match="being taken in"), removing(engine, own.data, wait=0):
            pass
        clearing = pool.submit(remove_unreferenced, engine, own, ANY)
        go_on.set()
        assert publishing.result(60).state == "published"
        assert clearing.result(60).unreferenced == []
    blobs = open_blobs(own)
    with open_session(engine) as session:
        named = {s for s in session.exec(select(File.sha256)) if s}
    assert named == {s for s, _ in files.values()}
    assert all(blobs.has(s) is not None for s in named)


def test_a_publication_that_comes_too_late_is_told_what_to_send_again(
    tmp_path: Path, own: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, files = sent(write_release(tmp_path / "release"), own)
    started, go_on, real = threading.Event(), threading.Event(), removing

    @contextmanager
    def slow(*asked: object) -> Iterator[None]:
        with real(*asked):  # type: ignore[arg-type]
            started.set()
            assert go_on.wait(60)
            yield

    monkeypatch.setattr("portal.exchange.unreferenced.removing", slow)
    with ThreadPoolExecutor(2) as pool:
        clearing = pool.submit(remove_unreferenced, engine, own, ANY)
        assert started.wait(60)
        publishing = pool.submit(publish_received, own, engine, document, files, "ada")
        go_on.set()
        assert len(clearing.result(60).unreferenced) == len({s for s, _ in files.values()})
        with pytest.raises(MissingBlobs):
            publishing.result(60)
    with open_session(engine) as session:
        assert session.exec(select(File)).all() == []
    sent(tmp_path / "release", own)
    assert publish_received(own, engine, document, files, "ada").state == "published"


def test_several_may_keep_at_once_and_a_removal_gives_way(settings: Settings, engine: Engine) -> None:
    one, two = keeping(engine, settings.data), keeping(engine, settings.data)
    with one, two, pytest.raises(Unavailable), removing(engine, settings.data, wait=0.1):
        pass
    with removing(engine, settings.data, wait=0):
        pass
    with keeping(engine, settings.data):
        pass


def test_what_is_no_blob_is_left_alone(sqlite_settings: Settings, tmp_path: Path) -> None:
    sha256 = put(sqlite_settings, tmp_path / "more", b"a")
    folder = sqlite_settings.data / "store" / "blobs" / "sha256" / sha256[:2]
    (folder / "notes.txt").write_text("mine")
    os.symlink(folder / "nowhere", folder / ("0" * 64))
    assert [blob.sha256 for blob in open_blobs(sqlite_settings).list_held()] == [sha256]
