"""Each check finds the fault it is for, and stays silent on a sound run."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import orjson
import pytest

from portal.catalog.answers import FoundFinding
from portal.models import MetricSeries
from portal.scan.dtypes import find_dtype_flips, read_dtypes
from portal.scan.duplicates import find_duplicates
from portal.scan.gaps import find_gaps
from portal.scan.order import find_order_faults
from portal.scan.series import find_series_outside_run
from portal.scan.tokens import find_token_disagreements
from portal.settings import Settings
from tests.scan.inputs import scan_input_of, scanned_file

TRAINING = {"sequence_length": 8, "rows_per_step": 4, "last_step": 100}


def codes(findings: list[FoundFinding]) -> list[str]:
    return [f.code for f in findings]


def checkpoints(*steps: int, **more: Any) -> list[dict[str, Any]]:
    return [{"step": step, "location": f"step-{step}", **more} for step in steps]


def test_equal_weights_at_two_steps_are_an_error_that_names_both() -> None:
    files = {
        s: [scanned_file("model.safetensors", sha256="a" * 64 if s in (10, 30) else f"{s:064x}")] for s in (10, 20, 30)
    }
    findings = find_duplicates(scan_input_of({"training": TRAINING, "checkpoints": checkpoints(10, 20, 30)}, files))
    assert codes(findings) == ["same-weights"]
    assert findings[0].severity == "error"
    assert findings[0].evidence["steps"] == [10, 30]


def test_one_shared_shard_is_a_warning_and_equal_configs_are_nothing() -> None:
    shared = scanned_file("model-1.safetensors", sha256="a" * 64)
    config = scanned_file("config.json", role="config", sha256="c" * 64)
    files = {s: [shared, scanned_file("model-2.safetensors", sha256=f"{s:064x}"), config] for s in (10, 20)}
    findings = find_duplicates(scan_input_of({"training": TRAINING, "checkpoints": checkpoints(10, 20)}, files))
    assert [(f.code, f.severity) for f in findings] == [("shared-weights-file", "warning")]


def test_missing_steps_are_grouped_against_the_declared_cadence() -> None:
    document = {"training": TRAINING, "cadence": 10, "checkpoints": checkpoints(10, 20, 50, 70, 80, 90, 100)}
    findings = find_gaps(scan_input_of(document))
    assert [(f.evidence["first_step"], f.evidence["last_step"], f.evidence["count"]) for f in findings] == [
        (30, 40, 2),
        (60, 60, 1),
    ]


def test_a_complete_cadence_has_no_gaps() -> None:
    assert (
        find_gaps(scan_input_of({"training": TRAINING, "cadence": 10, "checkpoints": checkpoints(*range(10, 101, 10))}))
        == []
    )


def test_without_a_cadence_only_a_clear_habit_shows_gaps() -> None:
    steady = [*range(5, 60, 5), 90, 95, 100]
    assert [f.step for f in find_gaps(scan_input_of({"training": TRAINING, "checkpoints": checkpoints(*steady)}))] == [
        55
    ]
    doubling = [1, 2, 4, 8, 16, 32, 40, 50, 64, 100]
    assert find_gaps(scan_input_of({"training": TRAINING, "checkpoints": checkpoints(*doubling)})) == []


def test_declared_losses_and_steps_listed_twice_are_shown() -> None:
    document = {
        "training": TRAINING,
        "checkpoints": [*checkpoints(10, 10), *checkpoints(20, missing=True, labels=["lost"])],
    }
    assert sorted(codes(find_gaps(scan_input_of(document)))) == ["checkpoint-lost", "step-listed-twice"]


def test_a_declared_change_of_precision_is_found_once() -> None:
    entries = [*checkpoints(10, 20, dtype="bf16"), *checkpoints(30, 40, dtype="float32")]
    findings = find_dtype_flips(scan_input_of({"training": TRAINING, "checkpoints": entries}), {})
    assert [(f.code, f.step) for f in findings] == [("dtype-flip", 30)]


def safetensors_header(path: Path, dtype: str) -> int:
    header = orjson.dumps(
        {"__metadata__": {"format": "pt"}, "w": {"dtype": dtype, "shape": [2], "data_offsets": [0, 4]}}
    )
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    return path.stat().st_size


def test_a_file_that_contradicts_the_declared_dtype_is_an_error(sqlite_settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    size = safetensors_header(path, "F16")
    files = {10: [scanned_file("model.safetensors", uri=path.as_uri(), size=size)]}
    document = {"training": TRAINING, "checkpoints": checkpoints(10, dtype="float32")}
    findings = find_dtype_flips(scan_input_of(document, files), read_dtypes(files[10], sqlite_settings))
    assert [(f.code, f.evidence) for f in findings] == [
        ("dtype-contradicts-file", {"declared": "float32", "stored": "float16"})
    ]


@pytest.mark.parametrize("broken", [b"", b"\xff" * 8, struct.pack("<Q", 4) + b"nope", struct.pack("<Q", 2) + b"[]"])
def test_a_broken_header_says_nothing_about_precision(broken: bytes, sqlite_settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(broken)
    files = {10: [scanned_file("model.safetensors", uri=path.as_uri(), size=len(broken))]}
    scanned = scan_input_of({"training": TRAINING, "checkpoints": checkpoints(10)}, files)
    assert find_dtype_flips(scanned, read_dtypes(files[10], sqlite_settings)) == []


def test_declared_tokens_are_checked_against_the_stages() -> None:
    document = {"training": TRAINING, "checkpoints": [*checkpoints(10, tokens=320), *checkpoints(20, tokens=650)]}
    findings = find_token_disagreements(scan_input_of(document))
    assert [(f.step, f.evidence) for f in findings] == [(20, {"declared": 650, "computed": 640})]


def test_tokens_never_decrease() -> None:
    document = {
        "training": {"last_step": 100},
        "checkpoints": [*checkpoints(10, tokens=500), *checkpoints(20, tokens=400)],
    }
    assert codes(find_token_disagreements(scan_input_of(document))) == ["tokens-decrease"]


def test_batch_and_chunk_products_are_checked() -> None:
    chunk = {
        "name": "c",
        "files": [{"path": "c.bin"}],
        "format": "flat",
        "dtype": "u16",
        "rows": 10,
        "row_length": 8,
        "tokens": 81,
    }
    document = {"training": TRAINING | {"tokens_per_step": 33}, "data": {"chunks": [chunk]}}
    assert codes(find_token_disagreements(scan_input_of(document))) == ["batch-disagrees", "chunk-tokens-disagree"]


def chunk(name: str, rows: int | None, **more: Any) -> dict[str, Any]:
    return {"name": name, "files": [{"path": f"{name}.bin"}], "format": "flat", "dtype": "u16", "rows": rows, **more}


def order(**changes: Any) -> dict[str, Any]:
    return {"first_step": 1, "last_step": 100, "chunks": ["a"], "kind": "sequential"} | changes


def test_an_index_file_may_name_rows_again() -> None:
    rule = order(kind="index", file={"path": "order.u32"}, dtype="u32")
    whole = [scanned_file("order.u32", role="index", size=400 * 4)]
    manifest = {"training": TRAINING, "data": {"chunks": [chunk("a", 100)], "order": [rule]}}
    assert find_order_faults(scan_input_of(manifest, other_files=whole)) == []


def test_an_order_that_needs_more_rows_than_its_chunks_hold_is_an_error() -> None:
    findings = find_order_faults(
        scan_input_of({"training": TRAINING, "data": {"chunks": [chunk("a", 399)], "order": [order()]}})
    )
    assert [(f.code, f.evidence["needed"], f.evidence["held"]) for f in findings] == [("order-past-data", 400, 399)]
    exact = {"training": TRAINING, "data": {"chunks": [chunk("a", 400)], "order": [order()]}}
    assert find_order_faults(scan_input_of(exact)) == []


def test_rows_that_nobody_counted_accuse_nobody() -> None:
    document = {"training": TRAINING, "data": {"chunks": [chunk("a", None)], "order": [order()]}}
    assert find_order_faults(scan_input_of(document)) == []


def test_chunk_by_chunk_permutations_are_checked_chunk_by_chunk() -> None:
    rule = order(
        kind="permutation", rng="numpy-RandomState", seed=1, per_chunk=True, steps_per_chunk=40, chunks=["a", "b"]
    )
    document = {"training": TRAINING, "data": {"chunks": [chunk("a", 160), chunk("b", 159)], "order": [rule]}}
    findings = find_order_faults(scan_input_of(document))
    assert [f.evidence.get("chunks") for f in findings] == [2, ["b"]]


def test_a_short_order_file_is_an_error() -> None:
    rule = order(kind="index", file={"path": "order.u32"}, dtype="u32")
    document = {"training": TRAINING, "data": {"chunks": [chunk("a", 400)], "order": [rule]}}
    short = [scanned_file("order.u32", role="index", size=399 * 4)]
    assert codes(find_order_faults(scan_input_of(document, other_files=short))) == ["order-file-short"]
    whole = [scanned_file("order.u32", role="index", size=400 * 4)]
    assert find_order_faults(scan_input_of(document, other_files=whole)) == []


def test_steps_without_order_and_chunks_without_reader_are_shown() -> None:
    document = {
        "training": TRAINING,
        "data": {
            "chunks": [chunk("a", 400), chunk("b", 400), chunk("c", 400, skipped=True)],
            "order": [order(first_step=11, last_step=50), order(first_step=61, last_step=90, chunks=["c"])],
        },
    }
    findings = find_order_faults(scan_input_of(document))
    uncovered = [
        (f.evidence["first_step"], f.evidence["last_step"]) for f in findings if f.code == "steps-without-order"
    ]
    assert uncovered == [(1, 10), (51, 60), (91, 100)]
    assert [f.evidence["chunks"] for f in findings if f.code == "chunk-never-read"] == [["b"]]
    assert [f.evidence["chunks"] for f in findings if f.code == "skipped-chunk-read"] == [["c"]]


def test_series_beyond_the_run_are_shown() -> None:
    def one(name: str, first: int | None, last: int | None) -> MetricSeries:
        return MetricSeries(id=1, release_id=1, name=name, first_step=first, last_step=last)

    series = [one("inside", 0, 100), one("late", 1, 101), one("early", -1, 5), one("empty", None, None)]
    findings = find_series_outside_run(scan_input_of({"training": TRAINING}, series=series))
    assert [f.evidence["series"] for f in findings] == ["late", "early"]
