"""The rows of a step: those that were written there, and honest answers where they are not to be had."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.batches import read_batch, read_rows
from portal.catalog.opened import Lent, Opened
from portal.database import open_session
from portal.errors import BadRequest, FileMissing, IntegrityError, OrderUnknown, StepNotRecorded, Unavailable
from portal.settings import Settings
from tests.builders import SmallRun, small_run


def test_every_step_reads_its_own_rows(session: Session, settings: Settings, small: SmallRun) -> None:
    for step in range(1, 21):
        batch = read_batch(session, settings, small.run, step)
        expected = small.rows[4 * (step - 1) : 4 * step]
        assert [r.token_ids for r in batch.rows] == expected.tolist()
        assert [r.position for r in batch.rows] == [0, 1, 2, 3]
        assert batch.rows_total == 4
        assert {r.source for r in batch.rows} == {f"s{(step - 1) // 10}"}


def test_a_window_of_the_batch(session: Session, settings: Settings, small: SmallRun) -> None:
    batch = read_batch(session, settings, small.run, 3, first=1, count=2, text=False)
    assert [r.position for r in batch.rows] == [1, 2]
    assert [r.pieces for r in batch.rows] == [None, None]
    assert read_batch(session, settings, small.run, 3, first=4).rows == []
    assert read_batch(session, settings, small.run, 3, count=0).rows == []


def test_bytes_lie_where_the_answer_says(session: Session, settings: Settings, small: SmallRun) -> None:
    batch = read_batch(session, settings, small.run, 12)
    for row in batch.rows:
        line = (small.folder / row.file).read_bytes()[row.offset : row.offset + row.length]
        assert str(row.token_ids).encode() in line
    assert batch.explain["bytes_read"] >= batch.explain["row_bytes"] > 0
    assert batch.explain["reads"] >= 1


def test_documents_begin_where_the_tokenizer_says(session: Session, settings: Settings, small: SmallRun) -> None:
    batch = read_batch(session, settings, small.run, 1)
    assert batch.tokenizer
    assert batch.vocabulary == 260
    first, second = batch.rows[0], batch.rows[1]
    assert (first.document_starts, first.starts_mid_document) == ([0], False)
    assert (second.document_starts, second.starts_mid_document) == ([], True)
    assert first.pieces is not None
    assert len(first.pieces) == 16


def test_without_a_tokenizer_ids_are_still_answered(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    small_run(engine, settings, tmp_path / "bare", tokenizer=None)
    with open_session(engine) as session:
        batch = read_batch(session, settings, "lab/small", 1)
    assert not batch.tokenizer
    assert all(r.pieces is None and len(r.token_ids) == 16 for r in batch.rows)


def test_a_broken_tokenizer_does_not_hide_the_ids(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    run = small_run(engine, settings, tmp_path / "broken")
    path = run.folder / "tokenizer.json"
    path.write_text("{" * path.stat().st_size)
    with open_session(engine) as session:
        batch = read_batch(session, settings, run.run, 1)
    assert not batch.tokenizer
    assert len(batch.rows) == 4


@pytest.mark.parametrize(
    ("step", "error"), [(0, BadRequest), (21, StepNotRecorded), (-1, StepNotRecorded), (10**30, StepNotRecorded)]
)
def test_steps_that_read_nothing(
    session: Session, settings: Settings, small: SmallRun, step: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        read_batch(session, settings, small.run, step)


@pytest.mark.parametrize(("first", "count"), [(-1, 20), (0, -1), (0, 1001), (10**30, 1)])
def test_windows_that_cannot_be(session: Session, settings: Settings, small: SmallRun, first: int, count: int) -> None:
    with pytest.raises(BadRequest):
        read_batch(session, settings, small.run, 1, first, count)


def test_one_bad_line_leaves_the_rest_readable(session: Session, settings: Settings, small: SmallRun) -> None:
    path = small.folder / "chunk_0.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = b"x" * len(lines[1])
    path.write_bytes(b"\n".join(lines))
    batch = read_batch(session, settings, small.run, 1)
    assert [r.fault is None for r in batch.rows] == [True, False, True, True]
    assert batch.rows[1].token_ids == []


def test_a_file_of_another_size_is_refused(session: Session, settings: Settings, small: SmallRun) -> None:
    read_batch(session, settings, small.run, 1)
    with (small.folder / "chunk_0.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(IntegrityError, match="published with"):
        read_batch(session, settings, small.run, 1)
    assert read_batch(session, settings, small.run, 15).rows_total == 4


def test_a_replaced_file_is_not_read_through_an_old_descriptor(
    session: Session, settings: Settings, small: SmallRun
) -> None:
    path = small.folder / "chunk_0.jsonl"
    before = read_batch(session, settings, small.run, 1).rows[0].token_ids
    body = path.read_bytes()
    shown = str(before[1]).encode()
    other = path.with_suffix(".new")
    other.write_bytes(body.replace(b", " + shown + b", ", b", " + b"9" * len(shown) + b", ", 1))
    os.utime(other, ns=(1, 1))
    other.replace(path)
    changed = read_batch(session, settings, small.run, 1).rows[0]
    assert changed.token_ids != before or changed.fault is not None


def test_ready_json_is_the_same_answer(session: Session, settings: Settings, small: SmallRun) -> None:
    path = small.folder / "chunk_0.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = b"x" * len(lines[1])
    path.write_bytes(b"\n".join(lines))
    read_batch(session, settings, small.run, 1)
    for text in (True, False):
        plain, written = (read_batch(session, settings, small.run, 1, text=text, written=w) for w in (False, True))
        assert orjson.dumps(plain) == orjson.dumps(written, option=orjson.OPT_SERIALIZE_NUMPY)


@pytest.mark.parametrize(("sources", "source"), [({"web": 1.0}, "web"), ({"web": 0.5, "code": 0.5}, None), ({}, None)])
def test_rows_come_from_the_only_source_of_their_chunk(
    engine: Engine, settings: Settings, tmp_path: Path, sources: dict[str, float], source: str | None
) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    (folder / "rows.u16").write_bytes(np.arange(20 * 4 * 16, dtype="<u2").tobytes())
    chunk = {"name": "c", "files": [{"path": "rows.u16"}], "format": "flat", "dtype": "u16", "rows": 80}
    order = {"first_step": 1, "last_step": 20, "chunks": ["c"], "kind": "sequential"}
    data = {"chunks": [chunk | {"sources": sources}], "order": [order]}
    run = small_run(engine, settings, folder, data=data, model={"vocabulary": 2000})
    with open_session(engine) as session:
        assert {r.source for r in read_batch(session, settings, run.run, 3).rows} == {source}
        assert {getattr(row, "source") for _, row in read_rows(session, settings, run.run, 3).rows} == {source}  # noqa: B009


def test_bytes_are_counted_for_the_request_that_read_them(engine: Engine, settings: Settings, small: SmallRun) -> None:
    def ask(step: int) -> tuple[int, int]:
        with open_session(engine) as session:
            batch = read_batch(session, settings, small.run, step)
        return batch.explain["bytes_read"], batch.explain["reads"]

    alone = {step: ask(step) for step in range(1, 11)}
    alone = {step: ask(step) for step in alone}
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, list(alone) * 8)) == list(alone.values()) * 8


def _data(order: dict[str, Any], **file: Any) -> dict[str, Any]:
    chunk = {"name": "c", "files": [{"path": "chunk_0.jsonl"} | file], "format": "jsonl", "rows": 40}
    return {"chunks": [chunk], "order": [{"first_step": 1, "last_step": 20, "chunks": ["c"]} | order] if order else []}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (_data({}), OrderUnknown),
        (_data({"kind": "unknown"}), OrderUnknown),
        (_data({"kind": "sequential"}, path="hf://datasets/lab/d/c.jsonl"), Unavailable),
        (_data({"kind": "index", "file": {"path": "hf://datasets/lab/d/o.npy"}, "dtype": "u32"}), Unavailable),
    ],
)
def test_rows_that_cannot_be_had(
    engine: Engine, settings: Settings, tmp_path: Path, data: dict[str, Any], error: type[Exception]
) -> None:
    small_run(engine, settings, tmp_path / "x", data=data)
    with open_session(engine) as session, pytest.raises(error):
        read_batch(session, settings, "lab/small", 5)


def test_steps_past_the_data_are_refused_and_others_answered(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    small_run(engine, settings, tmp_path / "x", data=_data({"kind": "sequential"}))
    with open_session(engine) as session:
        assert len(read_batch(session, settings, "lab/small", 10).rows) == 4
        with pytest.raises(OrderUnknown, match="past the data"):
            read_batch(session, settings, "lab/small", 11)


def test_an_index_file_names_the_rows(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    drawn = np.random.default_rng(3).permutation(80).astype("<u4")
    (folder / "order.u32").write_bytes(drawn.tobytes())
    chunks = [
        {"name": f"c{k}", "files": [{"path": f"chunk_{k}.jsonl"}], "format": "jsonl", "rows": 40} for k in range(2)
    ]
    order = {
        "first_step": 1,
        "last_step": 20,
        "chunks": ["c0", "c1"],
        "kind": "index",
        "file": {"path": "order.u32"},
        "dtype": "u32",
    }
    run = small_run(engine, settings, folder, data={"chunks": chunks, "order": [order]})
    with open_session(engine) as session:
        batch = read_rows(session, settings, run.run, 7)
    assert batch.rows_total == 4
    expected = run.rows[drawn[24:28]]
    assert [getattr(row, "token_ids").tolist() for _, row in batch.rows] == expected.tolist()  # noqa: B009


def test_a_missing_chunk_is_named_and_the_rest_is_read(session: Session, settings: Settings, small: SmallRun) -> None:
    (small.folder / "chunk_0.jsonl").unlink()
    with pytest.raises(FileMissing, match="chunk_0"):
        read_batch(session, settings, small.run, 1)
    assert len(read_batch(session, settings, small.run, 15).rows) == 4


def test_what_was_opened_longest_ago_is_let_go() -> None:
    made = []

    def make(k: int) -> int:
        made.append(k)
        return k

    opened = Opened(2)
    for k in (1, 2, 1, 3, 1, 2):
        assert opened.get(k, lambda k=k: make(k)) == k  # type: ignore[misc]
    assert made == [1, 2, 3, 2]


def test_what_is_lent_is_in_one_hand_at_a_time() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    lent: Lent[int] = Lent(3)
    with lent.lend("a", make) as first, lent.lend("a", make) as second, lent.lend("b", make) as third:
        assert (first, second, third) == (0, 1, 2)
    with lent.lend("b", make) as again:
        assert again == 2
    with lent.lend("a", make) as again:
        assert again in (0, 1)
    assert len(made) == 3
    with pytest.raises(ValueError, match="broken"), lent.lend("a", make) as held:
        raise ValueError("broken")
    with lent.lend("a", make) as again:
        assert again == held
    with lent.lend("c", make), lent.lend("d", make):
        pass
    with lent.lend("b", make) as again:
        assert again == 5
