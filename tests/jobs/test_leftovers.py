"""What nobody needs any more is given up after its time: checkpoints of ended jobs, uploads that nothing came of."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from portal.catalog.jobs.attempts import AttemptKey, Completion, end, keep_output
from portal.catalog.jobs.listing import find_output_file, get_job
from portal.catalog.jobs.rules import JobRules
from portal.catalog.jobs.wishes import retry
from portal.errors import UsageError
from portal.exchange.unreferenced import look_at_store
from portal.jobs.leftovers import LeftoverWatch
from portal.models import File
from portal.settings import Settings
from portal.storage.blobs import open_blobs
from tests.builders import small_run
from tests.jobs.enqueued import Clock, put, taken, worker

BAD = Completion("failed", 65, False, "bad input", {}, None, "x")


class Store:
    """The portal's own store, in which everything lies for long."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.blobs, self.folder = open_blobs(settings), folder

    def put(self, text: str) -> dict[str, object]:
        path = self.folder / "sent"
        path.write_text(text)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        self.blobs.put_file(path, sha256)
        held = Path(self.blobs.location(sha256).removeprefix("file://"))
        long_ago = time.time() - 60 * 86400
        os.utime(held, (long_ago, long_ago))
        return {"path": "model.safetensors", "sha256": sha256, "size": len(text)}

    def has(self, file: dict[str, object]) -> bool:
        return self.blobs.has(str(file["sha256"])) is not None


@pytest.fixture
def store(settings: Settings, tmp_path: Path) -> Store:
    return Store(settings, tmp_path)


def test_what_an_ended_job_leaves_goes_after_its_time(
    engine: Engine, settings: Settings, store: Store, tmp_path: Path
) -> None:
    clock = Clock()
    rules = JobRules(clock=clock)
    small_run(engine, settings, tmp_path / "release")
    with Session(engine) as session:
        published = session.exec(select(File.sha256).where(col(File.sha256).is_not(None))).first()
    of_a_run = {"path": "config.json", "sha256": published, "size": 1}
    failed, waiting = put(engine, rules), put(engine, rules)
    by = worker(engine, rules)
    spare, wanted, stray = store.put("spare"), store.put("wanted"), store.put("never announced")
    for job, file in ((failed, spare), (waiting, wanted)):
        lease = taken(engine, rules, by)
        assert lease.job == job
        key = AttemptKey(job, lease.attempt, lease.fence)
        keep_output(engine, key, 310, "partial", [of_a_run], rules)
        keep_output(engine, key, 325, "partial", [file, of_a_run], rules)
        if job == failed:
            end(engine, key, "failed", BAD, rules)
    watch = LeftoverWatch(settings, engine, rules)
    first = watch.work_once()
    assert first is not None
    assert [blob.sha256 for blob in first.unreferenced] == [stray["sha256"]]
    assert LeftoverWatch(settings, engine, rules).work_once() is None, "another process does it"
    assert (store.has(spare), store.has(wanted), store.has(stray)) == (True, True, False)

    clock.pass_seconds(31 * 86_400)
    report = watch.work_once()
    assert report is not None
    assert [blob.sha256 for blob in report.unreferenced] == [spare["sha256"]]
    assert (store.has(spare), store.has(wanted)) == (False, True)
    with Session(engine) as session:
        outputs = {o.step: o.removed_at for o in get_job(session, failed).outputs}
        assert outputs[310] is None, "a run has these files"
        assert outputs[325] is not None
        assert find_output_file(session, failed, str(spare["sha256"])) is None
        assert get_job(session, waiting).outputs[1].removed_at is None
        assert get_job(session, failed).resume_step == 310
    retry(engine, failed, "ada", rules)
    again = taken(engine, rules, by)
    assert (again.job, again.resume_step, again.resume_files) == (failed, 310, [of_a_run])
    assert look_at_store(engine, settings).unreferenced == []


def test_where_no_time_is_set_nothing_goes(engine: Engine, settings: Settings, store: Store) -> None:
    stray = store.put("never announced")
    off = settings.model_copy(update={"leftovers_after": ""})
    assert LeftoverWatch(off, engine, JobRules()).work_once() is None
    assert store.has(stray)
    with pytest.raises(UsageError, match="no time span"):
        LeftoverWatch(settings.model_copy(update={"leftovers_after": "0d"}), engine, JobRules())
