"""Input of attempts: verified, cached, refused for good or waited for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portal.errors import TooLarge
from portal.worker import staging
from portal.worker.cache import FileCache
from portal.worker.heartbeat import Stopped
from portal.worker.spool import Lease, Spool
from portal.worker.staging import BadInput, stage
from tests.worker.fake_portal import LENGTH, PER_STEP, FakePortal, digest


def lease_of(portal: FakePortal, found: dict[str, Any]) -> Lease:
    """A lease as an agent writes it down."""
    kept = {k: found[k] for k in ("job", "attempt", "fence", "attempt_token", "spec", "plan_url", "files", "resume")}
    return Lease(
        url=portal.url,
        lease_seconds=90,
        heartbeat_seconds=15,
        staging="direct",
        python="python",
        cache_bytes=1 << 30,
        offline_grace=60,
        **kept,
    )


def staged(portal: FakePortal, folder: Path, found: dict[str, Any], check: Callable[[], None] = lambda: None) -> Spool:
    """Stage an attempt."""
    spool = Spool.of(folder / "attempts", found["job"], found["attempt"])
    spool.folder.mkdir(parents=True)
    stage(spool, lease_of(portal, found), check, lambda _: None)
    return spool


def test_rows_come_in_the_order_of_the_plan(portal: FakePortal, tmp_path: Path) -> None:
    spool = staged(portal, tmp_path, portal.offer())
    settings = json.loads(spool.path("trainer.json").read_text())
    assert settings["rows"]["dtype"] == "u16"
    assert settings["rows"]["lengths"] is None
    rows = np.fromfile(spool.path("input/rows.bin"), "<u2").reshape(-1, PER_STEP, LENGTH)
    assert {1 + k: float(step.sum()) for k, step in enumerate(rows)} == portal.expected
    names = settings["rows"]["sources"]["names"]
    sources = np.fromfile(spool.path("input/sources.u8"), "u1")
    assert set(names) == {"stories", "not told"}
    assert len(sources) == 10 * PER_STEP
    assert sorted(os.listdir(spool.path("input/checkpoint"))) == ["config.json", "model.safetensors"]
    assert (settings["first_step"], settings["last_step"], settings["resume"]) == (1, 10, None)


def test_short_rows_are_padded_and_their_lengths_told(portal: FakePortal, tmp_path: Path) -> None:
    found = portal.offer()
    found["spec"]["training"].update(row_length=LENGTH + 2, pad_id=3)
    spool = staged(portal, tmp_path, found)
    rows = np.fromfile(spool.path("input/rows.bin"), "<u2").reshape(-1, LENGTH + 2)
    assert (rows[:, LENGTH:] == 3).all()
    assert (np.fromfile(spool.path("input/lengths.u32"), "<u4") == LENGTH).all()
    assert json.loads(spool.path("trainer.json").read_text())["rows"]["lengths"] == "input/lengths.u32"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda lease, portal: portal.files.pop(lease["files"][2]["sha256"]), "not there any more"),
        (lambda lease, _: lease["spec"]["data"]["plan"].update(rows=3), "40 rows, not the 3"),
        (lambda lease, _: lease["spec"].update(trainer="mine"), "runs no trainer 'mine'"),
        (lambda lease, _: lease["spec"].update(first_step=2), "not in order"),
        (lambda lease, _: lease["spec"]["data"]["files"][0].update(chunk="other"), "chunk 'c1', whose files"),
        (lambda lease, _: lease["spec"]["data"]["files"][0].update(row_length=90), "holds 90 ids|has no row"),
        (lambda lease, _: lease["spec"]["training"].update(row_length=4), "rows of this job hold 4"),
        (lambda lease, _: lease["files"][0].update(path="../../evil"), "cannot be written inside a folder"),
        (lambda lease, _: lease["spec"]["data"].pop("plan"), "plan"),
    ],
)
def test_input_that_can_never_work_is_refused_for_good(
    portal: FakePortal, tmp_path: Path, spoil: Callable[[Any, FakePortal], object], words: str
) -> None:
    found = portal.offer()
    spoil(found, portal)
    with pytest.raises(BadInput, match=words):
        staged(portal, tmp_path, found)
    assert not (tmp_path / "attempts" / "1-1" / "input" / "ready").exists()


def test_bytes_that_are_not_what_was_published_are_fetched_once_more_and_both_digests_told(
    portal: FakePortal, tmp_path: Path
) -> None:
    found = portal.offer()
    weights = found["files"][0]
    portal.files[weights["sha256"]] = b"weighTs"
    with pytest.raises(BadInput) as refused:
        staged(portal, tmp_path, found)
    assert weights["sha256"] in str(refused.value)
    assert digest(b"weighTs") in str(refused.value)
    assert portal.downloads[weights["sha256"]] == 2


def test_a_cached_file_that_was_damaged_is_fetched_anew(portal: FakePortal, tmp_path: Path) -> None:
    found = portal.offer()
    staged(portal, tmp_path, found)
    weights = found["files"][0]["sha256"]
    (tmp_path / "cache" / "sha256" / weights[:2] / weights).write_bytes(b"spoiled")
    spool = staged(portal, tmp_path, {**found, "attempt": 2})
    assert spool.path("input/checkpoint/model.safetensors").read_bytes() == b"weights"
    assert portal.downloads[weights] == 2


def test_a_portal_that_does_not_answer_is_waited_for(
    portal: FakePortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "WAIT", 0.05)
    monkeypatch.setattr("portal.client.ranges.FIRST_WAIT", 0.01)
    away = [503] * 6
    portal.faults = lambda path: away.pop() if away and path.startswith("/files") else None
    assert staged(portal, tmp_path, portal.offer()).path("input/ready").exists()
    assert not away


def test_a_wish_to_stop_breaks_a_download_off(portal: FakePortal, tmp_path: Path) -> None:
    looks = iter(range(100))

    def check() -> None:
        if next(looks) > 4:
            raise Stopped("graceful")

    with pytest.raises(Stopped):
        staged(portal, tmp_path, portal.offer(), check)


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    portal: FakePortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.client.download.SPARE", 1 << 60)
    with pytest.raises(TooLarge, match="bytes are needed"):
        staged(portal, tmp_path, portal.offer())
    assert portal.downloads == {}


def test_the_cache_drops_the_oldest_that_nobody_uses(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", 250)
    used = tmp_path / "used"
    for k in range(5):
        data = bytes([k]) * 100
        source = tmp_path / f"source{k}"
        source.write_bytes(data)
        cache.keep(digest(data), source)
        os.utime(tmp_path / "cache" / "sha256" / digest(data)[:2] / digest(data), (k, k))
        if k == 0:
            source.rename(used)  # an attempt still reads it
        else:
            source.unlink()
    kept = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert digest(bytes([0]) * 100) in kept
    cache.make_room(1 << 62)
    assert {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {digest(bytes([0]) * 100)}
    assert used.read_bytes() == bytes([0]) * 100
    assert cache.take(digest(b"never"), None, tmp_path / "target") is False
