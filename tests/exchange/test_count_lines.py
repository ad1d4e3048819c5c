"""Lines of chunks elsewhere are counted in one pass that survives a kill; afterwards a step is one small request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from portal.catalog.batches import read_batch
from portal.database import open_session
from portal.errors import ChunkNotFound, Unavailable
from portal.exchange import copying, count_lines
from portal.exchange.count_lines import CountReport
from portal.models import BlockDigests
from portal.settings import Settings
from portal.storage import hashing
from portal.storage.pace import Pace, Stopped
from portal.storage.sha256 import Sha256, _library
from tests.builders import record
from tests.conftest import missing
from tests.exchange.test_publish import Progress
from tests.storage.servers import Files, serving

RUN = "lab/far"
ROWS = np.random.default_rng(2).integers(0, 30_000, (400, 50))
TEXT = b"".join(json.dumps({"token_ids": row.tolist()}).encode() + b"\n" for row in ROWS)[:-1]
"""Its last line has no newline."""
BLOCK = 8 << 10


@dataclass
class Far:
    engine: Engine
    settings: Settings
    files: Files

    def count(self, *chunks: str, pace: Pace | None = None) -> CountReport:
        return count_lines.count_lines(self.engine, self.settings, RUN, chunks, Progress(), pace)

    def rows(self, step: int) -> Any:
        with open_session(self.engine) as session:
            return read_batch(session, self.settings, RUN, step)


@pytest.fixture(params=["stated", "unstated"])
def far(
    request: pytest.FixtureRequest, engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Far]:
    for module, name in ((copying, "PIECE"), (count_lines, "BLOCK_SIZE"), (hashing, "BLOCK_SIZE")):
        monkeypatch.setattr(module, name, BLOCK)
    monkeypatch.setattr(count_lines, "NOTED_EVERY", 2 * BLOCK)
    files = Files({"/rows.jsonl": TEXT}, etag='"one"')
    settings = settings.model_copy(
        update={"private_hosts": "127.0.0.1", "remote_attempts": 1, "remote_timeout": 5.0, "verify_reads": "off"}
    )
    with serving(files) as address:
        told = {"size": len(TEXT), "sha256": hashlib.sha256(TEXT).hexdigest()} if request.param == "stated" else {}
        chunk = {"name": "lines", "rows": 400, "files": [{"path": f"{address}/rows.jsonl", **told}], "format": "jsonl"}
        order = {"first_step": 1, "last_step": 100, "chunks": ["lines"], "kind": "sequential"}
        training = {"last_step": 100, "sequence_length": 50, "row_length": 50, "rows_per_step": 4}
        record(engine, settings, {"run": RUN, "training": training, "data": {"chunks": [chunk], "order": [order]}})
        yield Far(engine, settings, files)


def test_a_step_is_one_small_request_after_one_pass(far: Far) -> None:
    with pytest.raises(Unavailable, match="never counted") as refused:
        far.rows(7)
    assert "portal index-lines" in refused.value.remedy
    report = far.count("lines")
    assert (report.counted, report.lines, report.bytes, report.failed) == (1, 400, len(TEXT), [])
    batch = far.rows(7)
    assert [row.token_ids for row in batch.rows] == ROWS[24:28].tolist()
    asked = len(far.files.asked)
    batch = far.rows(100)
    assert batch.rows[-1].token_ids == ROWS[-1].tolist()
    assert batch.explain["requests"] == 1
    assert batch.explain["bytes_received"] <= 1.1 * batch.explain["row_bytes"]
    assert len(far.files.asked) == asked + 1
    with open_session(far.engine) as session:
        blocks = session.get(BlockDigests, hashlib.sha256(TEXT).hexdigest())
        assert blocks is not None
        assert len(blocks.digests) == 32 * -(-len(TEXT) // BLOCK)
    again = far.count()
    assert (again.counted, again.here, again.bytes) == (0, 1, 0)
    assert not list((far.settings.data / "store" / "counting").iterdir())


class Breaking(Pace):
    """Ends a pass after some bytes, as a kill would."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Stopped


def test_a_killed_pass_goes_on_where_it_was_written_down(far: Far) -> None:
    if _library() is None:
        # The state of a sha256 can be put aside with it alone; a killed pass starts anew where it is not there.
        missing("libcrypto", "apt-get install libssl3")
    with pytest.raises(Stopped):
        far.count(pace=Breaking(7 * BLOCK))
    starts = next((far.settings.data / "store" / "counting").glob("*.starts"))
    # A kill between the lists and the note of them: what is not noted is not counted.
    with starts.open("ab") as stream:
        stream.write(bytes(80))
    report = far.count()
    assert report.resumed_bytes == 6 * BLOCK
    assert (report.counted, report.lines, report.bytes) == (1, 400, len(TEXT) - 6 * BLOCK)
    assert far.rows(50).rows[0].token_ids == ROWS[196].tolist()


def test_other_bytes_are_refused_and_their_pass_is_not_continued(far: Far) -> None:
    with pytest.raises(Stopped):
        far.count(pace=Breaking(5 * BLOCK))
    stated = far.files.held["/rows.jsonl"]
    far.files.held["/rows.jsonl"] = stated.replace(b"1", b"2")
    far.files.etag = '"two"'
    report = far.count()
    assert report.resumed_bytes == 0
    if report.counted:  # nobody had stated a sha256: these bytes are the run's
        assert report.lines == 400
    else:
        assert "was published" in report.refused[0]
        with pytest.raises(Unavailable):
            far.rows(7)


def test_unknown_chunks_and_silent_servers_are_told(far: Far) -> None:
    with pytest.raises(ChunkNotFound):
        far.count("absent")
    far.files.state = 503
    report = far.count()
    assert (report.counted, len(report.failed)) == (0, 1)
    assert "rows.jsonl" in report.failed[0]


def test_a_saved_sha256_continues_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = Sha256()
    for at in range(0, len(TEXT), 1013):
        state = whole.save()
        if state:
            whole = Sha256(state)
        whole.update(TEXT[at : at + 1013])
        assert whole.hexdigest() == hashlib.sha256(TEXT[: at + 1013]).hexdigest()
