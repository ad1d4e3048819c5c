"""Order files against the chunks they name rows of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portal.catalog.answers import FoundFinding
from portal.database import create_database_engine
from portal.exchange.publish import publish
from portal.manifest import Manifest
from portal.scan.order_file import AT_ONCE, find_order_file_faults
from portal.settings import Settings
from tests.exchange.releases import write_release
from tests.scan.inputs import MINIMAL, scanned_file

LAST = 10


def look(
    folder: Path, entries: Any, settings: Settings, rows: dict[str, int | None], **held: int
) -> list[FoundFinding]:
    """What is found of an order over chunks a and b: 10 steps of 4 rows."""
    np.asarray(entries).tofile(folder / "order.bin")
    kind = str(np.asarray(entries).dtype)
    order = {"first_step": 1, "last_step": LAST, "chunks": ["a", "b"], "kind": "index", "file": {"path": "order.bin"}}
    document = {
        "training": {"rows_per_step": 4, "last_step": LAST},
        "data": {
            "chunks": [{"name": n, "format": "jsonl", "files": [{"path": n}]} for n in ("a", "b")],
            "order": [order | {"dtype": {"uint32": "u32", "int64": "i64", "uint64": "u64"}[kind]}],
        },
    }
    uri, size = (folder / "order.bin").as_uri(), (folder / "order.bin").stat().st_size
    file = scanned_file("order.bin", "index", uri=uri, size=size)
    return find_order_file_faults(Manifest.model_validate(MINIMAL | document), rows, held, [file], settings)


def test_an_order_over_rows_that_are_there_is_no_finding(tmp_path: Path, sqlite_settings: Settings) -> None:
    assert look(tmp_path, np.arange(40, dtype="<u4"), sqlite_settings, {"a": 30, "b": 10}) == []
    assert look(tmp_path, np.arange(40, dtype="<u4"), sqlite_settings, {"a": 30, "b": 10}, a=30, b=11) == []


def test_a_chunk_with_fewer_rows_than_are_named_is_told_with_what_is_needed(
    tmp_path: Path, sqlite_settings: Settings
) -> None:
    entries = np.arange(40, dtype="<u4")
    entries[[5, 6]] = 28, 27
    found = look(tmp_path, entries, sqlite_settings, {"a": 30, "b": 10}, a=27, b=10)
    assert [(f.code, f.step, f.evidence["chunks"]) for f in found] == [
        ("order-outside-data", 2, [{"chunk": "a", "needed": 30, "held": 27, "entries": 5}])
    ]
    assert "names row 28 of chunk a: 30 rows needed, 27 held." in found[0].message


def test_every_chunk_that_is_short_is_counted(tmp_path: Path, sqlite_settings: Settings) -> None:
    found = look(tmp_path, np.arange(40, dtype="<u4"), sqlite_settings, {"a": 30, "b": 10}, a=25, b=0)
    assert [(c["chunk"], c["needed"], c["held"], c["entries"]) for c in found[0].evidence["chunks"]] == [
        ("a", 30, 25, 5),
        ("b", 10, 0, 10),
    ]
    assert found[0].message.endswith("So it is with 1 more of its chunks.")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (-2, "names row -2; rows are counted from 0."),
        (40, "names row 40; its chunks hold 40 (the last of them, b: 11 rows needed, 10 held)."),
        (2**63 - 1, "its chunks hold 40"),
    ],
)
def test_numbers_that_no_chunk_has(entry: int, told: str, tmp_path: Path, sqlite_settings: Settings) -> None:
    entries = np.arange(40, dtype="<i8")
    entries[39] = entry
    found = look(tmp_path, entries, sqlite_settings, {"a": 30, "b": 10})
    assert [(f.code, f.step, f.evidence["position"]) for f in found] == [("order-outside-data", LAST, 39)]
    assert told in found[0].message


def test_entries_that_no_step_reads_accuse_nobody(tmp_path: Path, sqlite_settings: Settings) -> None:
    entries = np.r_[np.arange(40), 99].astype("<u4")
    assert look(tmp_path, entries, sqlite_settings, {"a": 30, "b": 10}) == []


def test_chunks_that_nobody_counted_accuse_nobody(tmp_path: Path, sqlite_settings: Settings) -> None:
    assert look(tmp_path, np.arange(40, dtype="<u4") + 99, sqlite_settings, {"a": 30, "b": None}) == []


def test_rows_far_into_a_long_file_are_found(
    tmp_path: Path, sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.scan.order_file.AT_ONCE", 7)
    assert AT_ONCE > 7
    entries = np.arange(40, dtype="<u4")
    entries[[20, 33]] = 50, 70
    found = look(tmp_path, entries, sqlite_settings, {"a": 30, "b": 10})
    assert (found[0].step, found[0].evidence["position"], found[0].evidence["row"]) == (6, 20, 50)
    assert found[0].evidence["chunks"] == [{"chunk": "b", "needed": 41, "held": 10, "entries": 2}]


def test_a_numpy_file_that_ends_early_is_short_although_its_header_fills_it(
    tmp_path: Path, sqlite_settings: Settings
) -> None:
    order = {"first_step": 1, "last_step": LAST, "chunks": ["a"], "kind": "index", "file": {"path": "order.npy"}}
    chunk = {"name": "a", "format": "jsonl", "files": [{"path": "a"}]}
    document = {
        "training": {"rows_per_step": 4, "last_step": LAST},
        "data": {"chunks": [chunk], "order": [order | {"dtype": "u32"}]},
    }
    np.save(tmp_path / "order.npy", np.arange(39, dtype="<u4"))
    path = tmp_path / "order.npy"
    file = scanned_file("order.npy", "index", uri=path.as_uri(), size=path.stat().st_size)
    manifest = Manifest.model_validate(MINIMAL | document)
    found = find_order_file_faults(manifest, {"a": 100}, {}, [file], sqlite_settings)
    assert [(f.code, f.evidence["entries"], f.evidence["needed"]) for f in found] == [("order-file-short", 39, 40)]


def test_a_dry_run_tells_what_the_order_needs_before_anything_is_hashed(
    tmp_path: Path, sqlite_settings: Settings
) -> None:
    engine = create_database_engine(sqlite_settings)
    folder = tmp_path / "release"
    np_rows = np.zeros((30, 8), "<u2")
    order = {"first_step": 1, "last_step": 20, "chunks": ["flat"], "kind": "index", "file": {"path": "order.u32"}}
    chunk = {"name": "flat", "format": "flat", "dtype": "u16", "rows": 80, "files": [{"path": "data/flat.u16"}]}
    write_release(folder, data={"chunks": [chunk], "order": [order | {"dtype": "u32"}]})
    np_rows.tofile(folder / "data" / "flat.u16")
    np.arange(80, dtype="<u4").tofile(folder / "order.u32")
    planned = publish(folder, sqlite_settings, engine, dry_run=True)
    assert [f.code for f in planned.findings] == ["chunk-rows-differ", "order-outside-data"]
    assert planned.findings[1].evidence["chunks"] == [{"chunk": "flat", "needed": 80, "held": 30, "entries": 50}]
    done = publish(folder, sqlite_settings, engine)
    assert {f.code for f in planned.findings} <= {f.code for f in done.findings}


def test_a_dry_run_says_which_chunks_are_counted_only_when_they_are_hashed(
    tmp_path: Path, sqlite_settings: Settings
) -> None:
    engine = create_database_engine(sqlite_settings)
    release = write_release(tmp_path / "release")
    planned = publish(release, sqlite_settings, engine, dry_run=True)
    assert any("Count the rows of chunk part_0 and 1 more while hashing" in line for line in planned.plan)
    publish(release, sqlite_settings, engine)
    again = publish(release, sqlite_settings, engine, dry_run=True)
    assert not any("Count the rows" in line for line in again.plan)
