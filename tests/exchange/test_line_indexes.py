"""Line indexes are made once, while publishing, however the lines are packed; no reader builds one again."""

from __future__ import annotations

import gzip
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from sqlalchemy import Engine

from portal.catalog.batches import read_batch
from portal.database import open_session
from portal.exchange.publish import publish
from portal.settings import Settings
from portal.storage.hashing import hash_file
from portal.tokens.readers import OffsetBuilder, index_path
from portal.tokens.readers.text import OPENERS
from tests.exchange.releases import ROWS, tree, write_manifest, write_release
from tests.exchange.test_publish_resume import start

PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def packed_release(folder: Path, ending: str, rows: int | None = None) -> Path:
    """The small release with its two chunks packed; ``rows`` is what the manifest declares of each."""
    release = write_release(folder)
    names = [f"part_{k}" for k in range(2)]
    for name in names:
        path = release / "data" / f"{name}.jsonl"
        packed = PACK[ending](path.read_bytes())
        path.unlink()
        path.with_name(path.name + ending).write_bytes(packed)
    given = {} if rows is None else {"rows": rows}
    chunks = [{"name": n, "files": [{"path": f"data/{n}.jsonl{ending}"}], "format": "jsonl", **given} for n in names]
    order = [{"first_step": 1, "last_step": 20, "chunks": names, "kind": "sequential"}]
    write_manifest(release, data={"chunks": chunks, "order": order})
    return release


def indexes_of(settings: Settings) -> Path:
    return settings.data / "store" / "indexes"


@pytest.mark.parametrize("ending", list(PACK))
@pytest.mark.parametrize("rows", [None, ROWS])
def test_publishing_leaves_nothing_to_be_indexed(
    tmp_path: Path,
    settings: Settings,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    rows: int | None,
) -> None:
    release = packed_release(tmp_path / "release", ending, rows)
    assert publish(release, settings, engine).state == "published"
    made = tree(indexes_of(settings))
    monkeypatch.setattr(OffsetBuilder, "feed", lambda *_: pytest.fail("a text was scanned again"))
    with open_session(engine) as session:
        batch = read_batch(session, settings, "lab/small", 20)
    assert [row.fault for row in batch.rows] == [None] * 4
    assert publish(release, settings, engine).state == "unchanged"
    assert tree(indexes_of(settings)) == made


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_publication_killed_between_two_indexes_makes_the_rest(
    tmp_path: Path, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    release = packed_release(tmp_path / "release", ending)
    small, big = (release / "data" / f"part_{k}.jsonl{ending}" for k in range(2))
    rng = np.random.default_rng(1)
    lines = b"".join(b'{"token_ids": %s}\n' % str(row).encode() for row in rng.integers(0, 100, (200_000, 8)).tolist())
    big.write_bytes(PACK[ending](lines))
    process = start(release, settings)
    try:
        assert process.stdout is not None
        while "Indexing the lines of 2 files" not in process.stdout.readline():
            assert process.poll() is None
        # The largest comes first, and one worker makes them one after the other.
        first = index_path(indexes_of(settings), hash_file(big).sha256, OPENERS[ending].lines)
        deadline = time.monotonic() + 60
        while not first.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    kept = first.stat().st_mtime_ns
    assert publish(release, settings, engine).state == "published"
    assert first.stat().st_mtime_ns == kept
    assert index_path(indexes_of(settings), hash_file(small).sha256, OPENERS[ending].lines).exists()


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_chunk_that_cannot_be_indexed_is_a_finding_and_the_rest_is_published(
    tmp_path: Path, settings: Settings, engine: Engine, ending: str
) -> None:
    release = packed_release(tmp_path / "release", ending)
    broken = release / "data" / f"part_1.jsonl{ending}"
    broken.write_bytes(broken.read_bytes()[:-9])
    report = publish(release, settings, engine)
    assert report.state == "published"
    assert next(f.message for f in report.findings if f.code == "chunk-unreadable").startswith(
        f"Chunk part_1 cannot be read: data/part_1.jsonl{ending} "
    )
    assert not [p for p in indexes_of(settings).rglob(".*") if p.is_file()]
    assert publish(release, settings, engine).state == "unchanged"


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_bomb_is_published_as_a_finding_and_leaves_nothing(
    tmp_path: Path, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr("portal.tokens.readers.ratio.ALWAYS_FINE", 1 << 20)
    release = packed_release(tmp_path / "release", ending)
    bomb = release / "data" / f"part_1.jsonl{ending}"
    bomb.write_bytes(PACK[ending](b"\n" * (8 << 20)))
    report = publish(release, settings, engine)
    assert any("decompresses to more than" in f.message for f in report.findings)
    assert list(indexes_of(settings).rglob(f"{hash_file(bomb).sha256}*")) == []


def test_an_index_that_was_removed_is_made_again_by_its_reader(
    tmp_path: Path, settings: Settings, engine: Engine
) -> None:
    release = packed_release(tmp_path / "release", ".gz")
    publish(release, settings, engine)
    made = tree(indexes_of(settings))
    for path in indexes_of(settings).rglob("*.*"):
        path.unlink()
    with open_session(engine) as session:
        batch = read_batch(session, settings, "lab/small", 1)
        read_batch(session, settings, "lab/small", 20)
    assert [row.fault for row in batch.rows] == [None] * 4
    assert set(tree(indexes_of(settings))) == set(made)


def test_a_chunk_of_empty_lines_stops_no_publication(
    tmp_path: Path, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.tokens.readers.lines.FINE_LINES", 1000)
    release = packed_release(tmp_path / "release", "")
    (release / "data" / "part_1.jsonl").write_bytes(b"\n" * 5000)
    report = publish(release, settings, engine)
    assert report.state == "published"
    assert any("part_1.jsonl has more than 1,000 lines" in f.message for f in report.findings)
