"""Fixity: what changed, vanished or cannot be read, told apart; kept, withdrawn, throttled, stopped, shared."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from portal.catalog.answers import FileView, FindingView
from portal.catalog.checkpoints import get_checkpoint
from portal.catalog.checks import list_due, mark_unchecked
from portal.catalog.duties import leave_duty, take_duty
from portal.catalog.findings import list_findings
from portal.database import open_session
from portal.errors import UsageError
from portal.models import BlockDigests, Duty, FileLocation
from portal.scan import scan_run
from portal.scan.amounts import Sample, parse_age, parse_rate, parse_sample
from portal.scan.schedule import DUTY, FixityWatch
from portal.scan.verify import FixityReport, Plan, verify_run
from portal.settings import Settings
from portal.storage.pace import Pace, Stopped
from portal.tokens.readers.lines import index_path, load_index
from tests.builders import SmallRun, record, small_run
from tests.storage.blocks import known_blocks
from tests.storage.servers import Files, serving

QUICK = Plan()
DEEP = Plan(hash_local=True, remote=True)


@dataclass
class Kept:
    """A run and what verifying it says."""

    engine: Engine
    settings: Settings
    run: str
    files: Files = field(default_factory=Files)

    def verify(self, plan: Plan = QUICK, **more: Any) -> FixityReport:
        return verify_run(self.engine, self.settings, self.run, plan, **more)

    def file(self, step: int = 5, role: str = "weights") -> FileView:
        with open_session(self.engine) as session:
            view = get_checkpoint(session, self.run, step, self.settings)
        return next(f for f in view.files if f.role == role)

    def findings(self) -> list[FindingView]:
        with open_session(self.engine) as session:
            return list_findings(session, self.run, 1000).items

    def keep_blocks(self, data: bytes, block: int) -> None:
        known = known_blocks(data, block)
        row = BlockDigests(
            sha256=known.sha256, size=known.size, block_size=block, algorithm="blake3", digests=known.digests
        )
        with open_session(self.engine) as session:
            session.add(row)
            session.commit()


@pytest.fixture
def near(engine: Engine, settings: Settings, tmp_path: Path) -> tuple[Kept, SmallRun]:
    small = small_run(engine, settings, tmp_path / "release")
    return Kept(engine, settings, small.run), small


BYTES = np.random.default_rng(3).integers(0, 256, 10_000, np.uint8).tobytes()


@pytest.fixture
def far(engine: Engine, settings: Settings) -> Iterator[Kept]:
    """Four checkpoints on a web server; the sha256 of steps 5 and 10 is published."""
    files = Files({f"/{step}.bin": bytes([step]) + BYTES for step in (5, 10, 15, 20)})
    settings = settings.model_copy(update={"private_hosts": "127.0.0.1", "remote_attempts": 1, "remote_timeout": 2.0})
    with serving(files) as address:
        entries = [
            {
                "step": step,
                "contains": ["weights"],
                "files": [
                    {
                        "path": f"{address}/{step}.bin",
                        "role": "weights",
                        "size": len(BYTES) + 1,
                        "sha256": known_blocks(files.held[f"/{step}.bin"], 1000).sha256 if step <= 10 else None,
                    }
                ],
            }
            for step in (5, 10, 15, 20)
        ]
        record(engine, settings, {"run": "lab/far", "checkpoints": entries})
        yield Kept(engine, settings, "lab/far", files)


def flip(path: Path, dice: random.Random) -> bytes:
    """Flip one bit and leave size and time as they were; the bytes as they were."""
    before, about = path.read_bytes(), path.stat()
    spoiled = bytearray(before)
    spoiled[dice.randrange(len(before))] ^= 1 << dice.randrange(8)
    path.write_bytes(spoiled)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    return before


def test_every_one_of_100_bits_flipped_at_rest_is_found_and_withdrawn_once_mended(
    near: tuple[Kept, SmallRun], record_property: Callable[[str, object], None]
) -> None:
    kept, small = near
    dice = random.Random(1)
    places = sorted(p for p in small.folder.rglob("*") if p.is_file())
    found = 0
    for _ in range(25):
        spoiled = {path: flip(path, dice) for path in dice.sample(places, 4)}
        report = kept.verify(DEEP)
        named = {f.evidence["path"] for f in report.findings if f.code == "file-changed"}
        found += len(named & {p.relative_to(small.folder).as_posix() for p in spoiled})
        assert len(report.findings) == 4
        for path, before in spoiled.items():
            about = path.stat()
            path.write_bytes(before)
            os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert found == 100
    record_property("flipped", found)
    assert kept.verify(DEEP).findings == []
    assert {f.state for f in kept.findings()} == {"fixed"}


def test_what_vanished_changed_or_cannot_be_read_is_told_apart_and_kept_with_its_time(
    near: tuple[Kept, SmallRun],
) -> None:
    kept, small = near
    begun = datetime.now(UTC)
    gone, other, barred = (small.folder / f"step{s}" / "model.safetensors" for s in (5, 10, 15))
    before = {path: path.read_bytes() for path in (gone, other, barred)}
    gone.unlink()
    other.write_bytes(b"something else")
    barred.unlink()
    barred.symlink_to(barred)  # a loop: root cannot read it either
    report = kept.verify()
    assert report.states == {"missing": 1, "changed": 1, "unreachable": 1}
    assert [kept.file(s).state for s in (5, 10, 15)] == ["missing", "changed", "unreachable"]
    times = [kept.file(s).checked_at for s in (5, 10, 15)]
    assert all(at is not None and at.replace(tzinfo=UTC) >= begun for at in times)
    assert {(f.code, f.severity, f.step) for f in kept.findings()} == {
        ("file-missing", "error", 5),
        ("file-changed", "error", 10),
        ("file-unreachable", "warning", 15),
    }
    barred.unlink()
    for path, data in before.items():
        path.write_bytes(data)
    assert kept.verify().findings == []
    assert [kept.file(s).state for s in (5, 10, 15)] == ["verified"] * 3
    assert all(f.state == "fixed" and f.fixed_at is not None for f in kept.findings())
    gone.unlink()
    kept.verify()
    again = next(f for f in kept.findings() if f.code == "file-missing")
    assert (again.state, again.fixed_at is not None) == ("open", True)


def test_a_file_that_cannot_be_reached_any_more_stays_known_as_changed(near: tuple[Kept, SmallRun]) -> None:
    kept, small = near
    path = small.folder / "step5" / "model.safetensors"
    path.write_bytes(b"x" * path.stat().st_size)
    kept.verify()
    path.unlink()
    path.symlink_to(path)
    kept.verify()
    assert {f.code: f.state for f in kept.findings()} == {"file-changed": "open", "file-unreachable": "open"}


def test_a_plain_scan_withdraws_nothing_it_did_not_look_for(far: Kept) -> None:
    far.files.held["/10.bin"] = b"short"
    assert [f.code for f in far.verify(DEEP).findings] == ["file-changed"]
    scan_run(far.engine, far.settings, far.run)
    assert [f.state for f in far.findings() if f.code == "file-changed"] == ["open"]


def test_a_look_that_never_ended_leaves_files_unchecked_and_they_are_read_next(near: tuple[Kept, SmallRun]) -> None:
    kept, small = near
    stop = threading.Event()
    report = kept.verify(DEEP, stop=stop, progress=lambda *_: stop.set())
    assert report.stopped
    with open_session(kept.engine) as session:
        left = [f.path for f in list_due(session, small.release_id) if f.checked_at is None]
    assert left
    assert kept.file().state == "verified"
    # Untouched, but unchecked: read again although nobody asked for every byte.
    assert kept.verify().states == {"verified": len(left)}


def test_only_what_was_not_looked_at_for_long_is_due(near: tuple[Kept, SmallRun]) -> None:
    kept, small = near
    fresh = kept.verify(Plan(hash_local=True, older_than=timedelta(days=30)))
    assert (fresh.checked, fresh.recent) == (0, 14)
    with open_session(kept.engine) as session:
        some = session.exec(select(FileLocation).order_by(col(FileLocation.id)).limit(3)).all()
        for location in some:
            location.checked_at = datetime.now(UTC) - timedelta(days=31)
        session.commit()
    due = kept.verify(Plan(hash_local=True, older_than=timedelta(days=30)))
    assert (due.checked, due.recent, due.states) == (3, 11, {"verified": 3})
    assert small.run == kept.run


def test_files_elsewhere_are_read_by_blocks_and_all_100_flipped_bits_are_found_when_read_whole(
    far: Kept, record_property: Callable[[str, object], None]
) -> None:
    sound = dict(far.files.held)
    far.keep_blocks(sound["/5.bin"], 1000)
    assert far.verify(Plan(remote=True, sample=Sample(blocks=3))).states == {"sampled": 1, "unverified": 3}
    assert (far.file(5).checked_bytes or 0) <= 3000
    assert far.file(5).verified_at is None
    whole = far.verify(DEEP)
    assert whole.states == {"verified": 2, "unverified": 2}
    assert (far.file(5).state, far.file(5).checked_bytes) == ("verified", len(BYTES) + 1)
    with open_session(far.engine) as session:
        assert session.get(BlockDigests, far.file(10).sha256) is not None  # taken while it was read whole
    dice, found = random.Random(2), 0
    for _ in range(50):
        for at in ("/5.bin", "/10.bin"):
            spoiled = bytearray(sound[at])
            spoiled[dice.randrange(len(spoiled))] ^= 1 << dice.randrange(8)
            far.files.held[at] = bytes(spoiled)
        named = {f.evidence["path"].rpartition("/")[2] for f in far.verify(DEEP).wrong}
        found += len(named & {"5.bin", "10.bin"})
        far.files.held.update(sound)
    assert found == 100
    record_property("flipped", found)
    # A sample of sound blocks does not clear what was found changed: such a file is read whole.
    assert far.verify(Plan(remote=True, sample=Sample(blocks=1))).findings == []
    assert far.file(5).state == "verified"
    assert far.file(5).checked_bytes == len(BYTES) + 1


def test_lines_elsewhere_are_indexed_where_all_of_them_are_as_published(engine: Engine, settings: Settings) -> None:
    text = b'{"token_ids": [1]}\n{"token_ids": [1, 2]}\n{"token_ids": []}\n'
    sha256 = hashlib.sha256(text).hexdigest()
    files = Files({"/lines.jsonl": text.replace(b"2", b"3")})
    settings = settings.model_copy(update={"private_hosts": "127.0.0.1", "remote_attempts": 1, "remote_timeout": 2.0})
    with serving(files) as address:
        named = {"path": f"{address}/lines.jsonl", "size": len(text), "sha256": sha256}
        chunks = [{"name": "lines", "format": "jsonl", "files": [named]}]
        record(engine, settings, {"run": "lab/lines", "data": {"chunks": chunks}})
        index = index_path(settings.data / "store" / "indexes", sha256)
        far = Kept(engine, settings, "lab/lines", files)
        assert [f.code for f in far.verify(DEEP).wrong] == ["file-changed"]
        assert not index.exists()
        files.held["/lines.jsonl"] = text
        far.keep_blocks(text, 16)
        assert far.verify(DEEP).states == {"verified": 1}
    starts = load_index(index, len(text))
    assert starts is not None
    assert starts.tolist() == [0, 19, 41, 59]


def test_a_server_that_says_no_makes_files_unreachable_never_changed(far: Kept) -> None:
    far.verify(DEEP)
    far.files.state = 403
    report = far.verify(DEEP)
    assert report.states == {"unreachable": 3}
    assert list(report.silent_hosts.values()) == [1]
    assert {f.code for f in report.findings} == {"file-unreachable"}
    assert report.wrong == []
    far.files.state = 0
    del far.files.held["/10.bin"]
    assert far.verify(DEEP).states["missing"] == 1
    assert {(f.code, f.step) for f in far.findings() if f.state == "open"} == {("file-missing", 10)}


def test_a_rate_slows_reading_and_a_stop_ends_it_at_once(near: tuple[Kept, SmallRun]) -> None:
    began = time.monotonic()
    pace = Pace(1_000_000)
    for _ in range(5):
        pace.spend(40_000)
    assert time.monotonic() - began >= 0.19
    stop = threading.Event()
    kept, _ = near
    slow = threading.Thread(target=lambda: kept.verify(Plan(hash_local=True, rate=1), stop=stop))
    slow.start()
    stop.set()
    slow.join(30)
    assert not slow.is_alive()
    with pytest.raises(Stopped):
        Pace(None, stop).spend(1)


def test_a_schedule_verifies_what_is_due_and_one_process_at_a_time(near: tuple[Kept, SmallRun]) -> None:
    kept, small = near
    settings = kept.settings.model_copy(update={"verify_every": "30d", "verify_rate": "1GB/s"})
    with open_session(kept.engine) as session:
        mark_unchecked(session, list_due(session, small.release_id))
        session.commit()
    path = small.folder / "step5" / "model.safetensors"
    flip(path, random.Random(5))
    with open_session(kept.engine) as session:
        assert take_duty(session, DUTY, "another process", 60)
        session.commit()
    watch = FixityWatch(settings, kept.engine, look_s=0.01)
    assert watch.work_once() is None
    with open_session(kept.engine) as session:
        leave_duty(session, DUTY, "another process")
        session.commit()
    watch.start()
    deadline = time.monotonic() + 60
    while kept.file().state != "changed" and time.monotonic() < deadline:
        time.sleep(0.02)
    watch.stop()
    assert kept.file().state == "changed"
    with open_session(kept.engine) as session:
        assert session.get(Duty, DUTY).holder == ""  # type: ignore[union-attr]


def test_a_duty_changes_hands_only_when_its_time_is_up(engine: Engine) -> None:
    with open_session(engine) as session:
        assert take_duty(session, "sweep", "a", 60)
        assert take_duty(session, "sweep", "a", 60)
        assert not take_duty(session, "sweep", "b", 60)
        assert take_duty(session, "sweep", "a", -1)
        assert take_duty(session, "sweep", "b", 60)
        leave_duty(session, "sweep", "a")
        assert not take_duty(session, "sweep", "a", 60)


def test_a_stopped_schedule_ends_in_the_middle_of_a_file(near: tuple[Kept, SmallRun]) -> None:
    kept, small = near
    with open_session(kept.engine) as session:
        mark_unchecked(session, list_due(session, small.release_id))
        session.commit()
    watch = FixityWatch(kept.settings.model_copy(update={"verify_every": "1s", "verify_rate": "1B/s"}), kept.engine)
    watch.start()
    watch.stop()  # returns, although reading on would take hours
    with pytest.raises(UsageError, match="no rate"):
        FixityWatch(kept.settings.model_copy(update={"verify_rate": "fast"}), kept.engine)


@pytest.mark.parametrize(
    ("text", "rate"), [("50MB/s", 50_000_000), ("1MiB/s", 1 << 20), ("10", 10), ("1.5 GB/s", 1_500_000_000)]
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "fast", "-1MB/s", "1XB/s", "1e99TB"])
def test_odd_rates_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


@pytest.mark.parametrize("text", ["", "0%", "101%", "nan%", "-1", "1.5", "all", "inf", "0"])
def test_odd_samples_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_sample(text)


def test_samples_and_ages() -> None:
    assert (parse_sample("1%").count(1000), parse_sample("1%").count(3), parse_sample("5").count(3)) == (10, 1, 3)
    assert parse_age("30d") == timedelta(days=30)
    for odd in ("", "30", "d", "-1d", "0d", "99999999w"):
        with pytest.raises(UsageError):
            parse_age(odd)
