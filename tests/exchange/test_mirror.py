"""Copies of files elsewhere in the portal's own store: verified, resumed, preferred, refused when they are others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import Engine

from portal.catalog.answers import FileView
from portal.catalog.checkpoints import get_checkpoint
from portal.catalog.findings import list_findings
from portal.catalog.mirrored import list_released
from portal.catalog.release import load_facts
from portal.database import open_session
from portal.errors import CheckpointNotFound, ChunkNotFound, UsageError
from portal.exchange import copying
from portal.exchange.mirror import MirrorReport, Selection, mirror_run
from portal.models import BlockDigests
from portal.scan.verify import Plan, verify_run
from portal.settings import Settings
from portal.storage.blobs import open_blobs
from portal.storage.pace import Pace, Stopped
from tests.builders import record
from tests.exchange.test_publish import Progress
from tests.seaweed import BUCKET, SeaweedServer
from tests.storage.servers import Files, serving

RUN = "lab/far"
BYTES = np.random.default_rng(4).integers(0, 256, 50_000, np.uint8).tobytes()


@dataclass
class Far:
    """A run on a web server: the sha256 of steps 5 and 10 is published, that of 15 is not."""

    engine: Engine
    settings: Settings
    files: Files
    held: dict[str, bytes] = field(default_factory=dict)

    def mirror(self, *checkpoints: str, chunks: tuple[str, ...] = (), pace: Pace | None = None) -> MirrorReport:
        return mirror_run(self.engine, self.settings, RUN, Selection(checkpoints, chunks), Progress(), pace)

    def file(self, step: int) -> FileView:
        with open_session(self.engine) as session:
            return get_checkpoint(session, RUN, step, self.settings).files[0]

    def open_findings(self) -> list[tuple[str, int | None]]:
        with open_session(self.engine) as session:
            return [(f.code, f.step) for f in list_findings(session, RUN).items if f.state == "open"]


@pytest.fixture
def far(engine: Engine, settings: Settings) -> Iterator[Far]:
    files = Files({f"/{step}.bin": bytes([step]) + BYTES for step in (5, 10, 15)})
    settings = settings.model_copy(update={"private_hosts": "127.0.0.1", "remote_attempts": 1, "remote_timeout": 2.0})
    with serving(files) as address:

        def listed(step: int) -> dict[str, Any]:
            data = files.held[f"/{step}.bin"]
            sha256 = hashlib.sha256(data).hexdigest() if step < 15 else None
            return {"path": f"{address}/{step}.bin", "role": "weights", "size": len(data), "sha256": sha256}

        entries = [
            {"step": step, "labels": [f"ckpt_{step}"], "contains": ["weights"], "files": [listed(step)]}
            for step in (5, 10, 15)
        ]
        record(engine, settings, {"run": RUN, "checkpoints": entries})
        yield Far(engine, settings, files, dict(files.held))


def test_a_copy_is_verified_recorded_and_read_from_then_on(far: Far) -> None:
    report = far.mirror("5")
    assert (report.copied, report.bytes, report.identified) == (1, len(BYTES) + 1, 0)
    file = far.file(5)
    assert (file.location, file.state) == ("local", "verified")
    assert file.url == f"/files/{file.sha256}/5.bin"
    assert far.file(10).location.startswith("http://")
    with open_session(far.engine) as session:
        assert session.get(BlockDigests, file.sha256) is not None
        places = next(f for f in list_released(session, RUN)[1] if f.sha256 == file.sha256).places
    assert [p.uri.partition("://")[0] for p in places] == ["file", "http"]
    again = far.mirror("5")
    assert (again.copied, again.here) == (0, 1)
    far.files.held.clear()
    assert verify_run(far.engine, far.settings, RUN, Plan(hash_local=True)).states == {"verified": 1}


def test_a_file_nobody_had_hashed_gets_its_digests(far: Far) -> None:
    assert far.file(15).sha256 is None
    report = far.mirror("ckpt_15")
    assert (report.copied, report.identified, report.failed) == (1, 1, [])
    file = far.file(15)
    assert file.sha256 == hashlib.sha256(far.held["/15.bin"]).hexdigest()
    assert open_blobs(far.settings).has(file.sha256) == len(BYTES) + 1
    assert not list((far.settings.data / "store" / "mirror").iterdir())


def test_other_bytes_than_published_are_refused_and_a_finding(far: Far) -> None:
    far.files.held["/10.bin"] = bytes([11]) + BYTES
    report = far.mirror("5:10")
    assert (report.copied, len(report.refused)) == (1, 1)
    assert far.open_findings() == [("file-changed", 10)]
    assert far.file(10).state == "changed"
    assert open_blobs(far.settings).has(hashlib.sha256(far.held["/10.bin"]).hexdigest()) is None
    far.files.held.update(far.held)
    assert far.mirror("10").copied == 1
    assert verify_run(far.engine, far.settings, RUN, Plan(remote=True)).findings == []
    assert far.open_findings() == []


@pytest.mark.parametrize("step", [5, 15])
def test_an_interrupted_copy_goes_on_where_it_stopped(step: int, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PIECE", 10_000)
    monkeypatch.setattr(copying, "GROUP", 1)

    class Tired(Pace):
        passed = 0

        def spend(self, count: int) -> None:
            self.passed += count
            if self.passed > 30_000:
                raise Stopped

    with pytest.raises(Stopped):
        far.mirror(str(step), pace=Tired())
    far.files.asked.clear()
    report = far.mirror(str(step))
    assert (report.copied, report.resumed_bytes) == (1, 30_000)
    first = [
        headers["range"] for _, _, headers in far.files.asked if headers.get("range", "").startswith("bytes=30000-")
    ]
    assert first
    assert not any(h.get("range", "").startswith("bytes=10000-") for _, _, h in far.files.asked)
    assert far.file(step).state == "verified"


def test_what_cannot_be_read_is_told_and_the_rest_is_copied(far: Far) -> None:
    del far.files.held["/5.bin"]
    report = far.mirror("all")
    assert (report.copied, len(report.failed), report.refused) == (2, 1, [])
    assert far.open_findings() == []


def test_names_that_nobody_has_are_refused_before_anything_is_fetched(far: Far) -> None:
    for odd, error in (
        ("7", CheckpointNotFound),
        ("ckpt", CheckpointNotFound),
        ("9:1", UsageError),
        ("6:9", UsageError),
    ):
        with pytest.raises(error):
            far.mirror(odd)
    with pytest.raises(ChunkNotFound):
        far.mirror(chunks=("nothing",))
    assert far.files.asked == []
    with open_session(far.engine) as session:
        assert len(load_facts(session, RUN).checkpoints) == 3


@pytest.mark.xdist_group("seaweed")
def test_the_store_may_be_a_bucket(far: Far, s3_server: SeaweedServer) -> None:
    place = {"storage_url": f"s3://{BUCKET}/{uuid4().hex}", "s3_endpoint": s3_server.endpoint}
    far.settings = far.settings.model_copy(update=place)
    assert far.mirror("5", "15").copied == 2
    for step in (5, 15):
        assert far.file(step).location.startswith(far.settings.storage_url)
    assert far.mirror("5").here == 1
    far.files.held.clear()
    report = verify_run(far.engine, far.settings, RUN, Plan(remote=True))
    assert report.states["verified"] == 2
    assert far.file(5).state == "verified"
