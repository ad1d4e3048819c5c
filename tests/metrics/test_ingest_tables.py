"""CSV, JSON lines and Parquet: NaN is a value, empty is absence, and what cannot be used is said."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.errors import DataFault, FileMissing, TooLarge
from portal.manifest.schema import MetricFile, SeriesDefinition
from portal.metrics.ingest import Ingested, read_metric_file
from portal.metrics.ingest import arrow as arrow_module
from portal.metrics.ingest import jsonl as jsonl_module


def read(path: Path, text: str | bytes | None = None, **spec: object) -> Ingested:
    """Write ``text`` to ``path`` and read it as a metric file."""
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_metric_file(path, MetricFile.model_validate({"file": path.name, **spec}))


def points(result: Ingested, name: str) -> list[tuple[int, float]]:
    one = next(s for s in result.series if s.name == name)
    return list(zip(one.steps.tolist(), one.values.tolist(), strict=True))


def codes(result: Ingested) -> list[str]:
    return sorted(note.code for note in result.notes)


def same(left: list[tuple[int, float]], right: list[tuple[int, float]]) -> bool:
    return repr(left) == repr(right)


SPELLINGS = ["NaN", "nan", "Infinity", "-inf", "inf", "-Infinity", "1e-3", "2.5", "-0.0", "1e308"]


@pytest.mark.parametrize("quote", ["", '"'])
def test_csv_tells_nan_from_empty(tmp_path: Path, quote: str) -> None:
    lines = [f"{quote}{n}{quote},{quote}{text}{quote}" for n, text in enumerate(["", *SPELLINGS], 1)]
    result = read(tmp_path / "m.csv", "step,loss\n" + "\n".join(lines))
    assert same(points(result, "loss"), [(n, float(text)) for n, text in enumerate(SPELLINGS, 2)])
    assert result.notes == []


def test_jsonl_tells_nan_from_null(tmp_path: Path) -> None:
    lines = [
        '{"step": 1, "loss": NaN}',
        '{"step": 2, "loss": "NaN", "extra": {"lr": 0.1}}',
        '{"step": 3, "loss": -Infinity}',
        "",
        '{"step": 4, "loss": null}',
        '{"step": 5, "loss": "Infinity"}',
        '{"step": 6, "loss": 2}',
        '{"step": 7, "never": null}',
    ]
    result = read(tmp_path / "m.jsonl", "\n".join(lines))
    expected = [(1, math.nan), (2, math.nan), (3, -math.inf), (5, math.inf), (6, 2.0)]
    assert same(points(result, "loss"), expected)
    assert points(result, "extra/lr") == [(2, 0.1)]
    assert codes(result) == ["columns-without-numbers", "null-is-absent"]
    assert {n.code: n for n in result.notes}["null-is-absent"].evidence["series"] == {"loss": 1}


def test_parquet_tells_nan_from_null(tmp_path: Path) -> None:
    table = pa.table(
        {
            "step": pa.array([1, 2, 3, 4], pa.int32()),
            "loss": pa.array([1.5, math.nan, None, math.inf], pa.float32()),
            "count": pa.array([7, 8, 9, 10], pa.uint16()),
            "host": pa.array(["a", "a", "b", "b"]).dictionary_encode(),
        }
    )
    pa.parquet.write_table(table, tmp_path / "m.parquet")
    result = read(tmp_path / "m.parquet")
    assert same(points(result, "loss"), [(1, 1.5), (2, math.nan), (4, math.inf)])
    assert points(result, "count")[-1] == (4, 10.0)
    assert codes(result) == ["columns-without-numbers", "null-is-absent"]


def test_a_file_of_nan_alone_is_read(tmp_path: Path) -> None:
    result = read(tmp_path / "m.csv", "step,loss\n" + "".join(f"{n},NaN\n" for n in range(1, 50)))
    assert len(points(result, "loss")) == 49
    assert all(math.isnan(v) for _, v in points(result, "loss"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2**53 - 1), st.one_of(st.none(), st.floats()), st.floats()), min_size=1, max_size=30
    ),
    kind=st.sampled_from(["csv", "jsonl", "parquet"]),
)
def test_every_format_keeps_every_point(tmp_path: Path, rows: list[tuple[int, float | None, float]], kind: str) -> None:
    path = tmp_path / f"m.{kind}"
    if kind == "csv":
        lines = [f"{s},{'' if a is None else repr(a)},{b!r}" for s, a, b in rows]
        path.write_text("step,a,b\n" + "\n".join(lines) + "\n")
    elif kind == "jsonl":
        path.write_text(
            "".join(json.dumps({"step": s, "b": b} | ({} if a is None else {"a": a})) + "\n" for s, a, b in rows)
        )
    else:
        columns = {
            "step": [r[0] for r in rows],
            "a": pa.array([r[1] for r in rows], pa.float64()),
            "b": [r[2] for r in rows],
        }
        pa.parquet.write_table(pa.table(columns), path)
    result = read(path)
    ordered = sorted(rows, key=lambda row: row[0])
    assert same(points(result, "b"), [(s, b) for s, _, b in ordered])
    present = [(s, a) for s, a, _ in ordered if a is not None]
    if present:
        assert same(points(result, "a"), present)
    else:
        assert [s.name for s in result.series] == ["b"]
    assert ("duplicate-steps" in codes(result)) == (len({r[0] for r in rows}) < len(rows))
    assert ("unsorted-steps" in codes(result)) == (
        rows != ordered and [r[0] for r in rows] != sorted(r[0] for r in rows)
    )


def test_repeated_and_unsorted_steps_are_kept_in_file_order_and_noted(tmp_path: Path) -> None:
    result = read(tmp_path / "m.csv", "step,loss,eval\n1,1,\n2,2,\n3,3,9\n2,20,\n3,30,\n4,40,90\n")
    assert points(result, "loss") == [(1, 1), (2, 2), (2, 20), (3, 3), (3, 30), (4, 40)]
    assert points(result, "eval") == [(3, 9), (4, 90)]
    notes = {note.code: note for note in result.notes}
    assert set(notes) == {"unsorted-steps", "duplicate-steps"}
    assert "line 5" in notes["unsorted-steps"].message
    assert notes["duplicate-steps"].evidence["series"] == {"loss": 2}
    assert (notes["duplicate-steps"].step, notes["duplicate-steps"].evidence["steps"]) == (2, [2, 3])


def test_rows_without_a_usable_step_are_left_out_with_their_place(tmp_path: Path) -> None:
    text = "step,loss\n1,1\n2.5,2\n-3,3\n,4\nNaN,5\n1e30,6\n7,7\n8.0,8\n"
    result = read(tmp_path / "m.csv", text)
    assert points(result, "loss") == [(1, 1), (7, 7), (8, 8)]
    note = result.notes[0]
    assert note.code == "unusable-steps"
    assert note.message == "m.csv, line 3, column 'step': '2.5' is no step; 5 of 8 rows have none and are left out."
    assert note.evidence["places"] == ["line 3", "line 4", "line 5", "line 6", "line 7"]


@pytest.mark.parametrize(("cell", "shown"), [("x", "'x'"), ("", "'nothing'"), ("-1", "'-1'")])
def test_a_file_without_any_usable_step_is_refused(tmp_path: Path, cell: str, shown: str) -> None:
    with pytest.raises(DataFault, match=f"line 2, column 'step': {shown} is no step, and no row has one"):
        read(tmp_path / "m.csv", f"step,loss\n{cell},1\n{cell},2\n")


def test_cells_that_are_no_numbers_are_noted_with_line_and_column(tmp_path: Path) -> None:
    result = read(tmp_path / "m.csv", "step,loss,host\n1,1,a\n\n2,oops,b\n3,True,b\n4,1_000,c\n5,5,c\n")
    assert points(result, "loss") == [(1, 1), (5, 5)]
    notes = {note.code: note for note in result.notes}
    assert set(notes) == {"unreadable-cells", "columns-without-numbers"}
    assert "m.csv, line 4, column 'loss': 'oops' is no number; 3 such cells" in notes["unreadable-cells"].message
    assert notes["columns-without-numbers"].evidence["columns"] == ["host"]


def test_jsonl_cells_that_are_no_numbers_are_noted(tmp_path: Path) -> None:
    lines = ['{"step":1,"loss":1,"a":{"b":1},"a/b":2}', '{"step":2,"loss":true}', f'{{"step":3,"loss":1{"0" * 400}}}']
    result = read(tmp_path / "m.jsonl", "\n".join(lines))
    assert points(result, "loss") == [(1, 1)]
    assert points(result, "a/b") == [(1, 1)]
    messages = [note.message for note in result.notes if note.code == "unreadable-cells"]
    assert any("line 2" in m and "'True'" in m and "2 such cells" in m for m in messages)
    assert any("a second value" in m for m in messages)


def test_definitions_choose_columns_and_keep_their_words(tmp_path: Path) -> None:
    definition = {"column": "train/loss", "group": "train", "unit": "nats", "reduction": "rank 0", "description": "d"}
    result = read(
        tmp_path / "m.csv", "_step,train/loss,lr\n0,1,2\n1,3,4\n", x="_step", step_offset=1, series={"loss": definition}
    )
    one = result.series[0]
    assert [s.name for s in result.series] == ["loss"]
    assert (one.group, one.unit, one.reduction, one.description) == ("train", "nats", "rank 0", "d")
    assert (one.column, one.source, one.x_kind) == ("train/loss", "m.csv", "step")
    assert points(result, "loss") == [(1, 1), (2, 3)]


def test_tokens_become_steps_by_the_callers_rule(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("tokens,loss\n4096,1\n8192,2\n9000,3\n")
    spec = MetricFile(file="m.csv", x="tokens", x_kind="tokens")

    def steps_of(tokens: np.ndarray) -> np.ndarray:
        return np.where(tokens % 4096 == 0, tokens // 4096, -1)

    result = read_metric_file(path, spec, steps_of)
    assert points(result, "loss") == [(1, 1), (2, 2)]
    assert result.series[0].x_kind == "tokens"
    assert "'9000' is no step" in result.notes[0].message
    with pytest.raises(DataFault, match="counts tokens, but the manifest does not say"):
        read_metric_file(path, spec)


def test_tabs_and_byte_order_marks_are_understood(tmp_path: Path) -> None:
    result = read(tmp_path / "m.tsv", b"\xef\xbb\xbfstep\tloss\n1\t2.5\n")
    assert points(result, "loss") == [(1, 2.5)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.csv", b"", "m.csv is empty"),
        ("m.csv", b"\n\n", "m.csv is empty"),
        ("m.jsonl", b"\n\n", "m.jsonl is empty"),
        ("m.csv", b"loss\n1\n", "no column 'step'. Set x to one of its columns: 'loss'"),
        ("m.csv", b"_step,loss\n1,1\n", "no column 'step'. Set x to '_step'"),
        ("m.csv", b"step,loss\n1,1\n2,2,2\n", "line 3: Expected 2 columns, got 3"),
        ("m.csv", b"step,loss\n1,1\n2\n", "line 3: Expected 2 columns, got 1"),
        ("m.csv", b'step,loss\n1,1\n2,"2\n3,3\n', "line 3: a quote is never closed"),
        ("m.csv", b'step,loss\n1,"2\n3,3\n', "line 2: a quote is never closed"),
        ("m.csv", b"step,loss,loss\n1,1,1\n", "line 1: the column 'loss' stands twice"),
        ("m.csv", b"step,loss\n", "has columns but no row"),
        ("m.jsonl", b'{"step":1}\n{"step":2,', "line 2: not valid JSON"),
        ("m.jsonl", b'{"step":1}\n[1]\n', "line 2: holds no JSON object"),
        ("m.jsonl", b"[" * 100_000, "line 1: not valid JSON"),
        ("m.jsonl", b'{"step":1,"loss":"\xff"}\n', "line 1: not valid JSON"),
        ("m.parquet", b"PAR1 but not really", "cannot be read as Parquet"),
        ("m.csv", b"step,l\xaess\n1,2\n", "has a column whose name is not UTF-8"),
        ("m.bin", b"1", "its name does not tell its format"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    with pytest.raises(DataFault, match=re.escape(says)) as refused:
        read(tmp_path / name, content)
    assert refused.value.message.startswith(name)
    assert refused.value.remedy


def test_a_missing_file_and_a_missing_column_name_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"m\.csv is not there"):
        read(tmp_path / "m.csv")
    with pytest.raises(DataFault, match=r"no column 'train/los'. Name one of its columns: 'train/loss'"):
        read(
            tmp_path / "m.csv",
            "step,train/loss\n1,1\n",
            series={"loss": SeriesDefinition(column="train/los").model_dump()},
        )


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_a_huge_line_is_refused_without_reading_it_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b"step,loss\n1," if name == "m.csv" else b'{"step":1,"loss":')
        file.truncate(1 << 30)  # a sparse gigabyte of zero bytes, without a line end
    with pytest.raises((DataFault, TooLarge), match="longer than 8 MiB"):
        read(path)


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pa.parquet.write_table(pa.table({"step": list(range(1000)), "loss": [0.5] * 1000}), path)
    with pytest.raises(DataFault, match="cannot be read as Parquet"):
        read(path, path.read_bytes()[:-20])


def test_limits_are_small_enough_to_hold_in_memory() -> None:
    assert arrow_module.BLOCK <= 16 << 20
    assert jsonl_module.MAX_LINE <= 16 << 20


@pytest.mark.parametrize("columns", [25])
def test_a_long_list_of_columns_says_how_many_more(tmp_path: Path, columns: int) -> None:
    header = ",".join(f"c{n}" for n in range(columns))
    with pytest.raises(DataFault, match="and 5 more"):
        read(tmp_path / "m.csv", header + "\n" + ",".join("1" * columns) + "\n")


def test_text_in_a_nested_parquet_column_is_left_out_and_said(tmp_path: Path) -> None:
    table = pa.table(
        {"step": [1, 2], "loss": [1.0, 2.0], "notes": [[1], [2]], "when": pa.array([0, 1], pa.timestamp("s"))}
    )
    pa.parquet.write_table(table, tmp_path / "m.parquet")
    result = read(tmp_path / "m.parquet")
    assert [s.name for s in result.series] == ["loss"]
    assert result.notes[0].evidence["columns"] == ["notes", "when"]


def test_a_text_of_several_lines_is_no_fault_and_lines_are_still_counted_right(tmp_path: Path) -> None:
    result = read(tmp_path / "m.csv", 'step,note,loss\n1,"two\nlines",1\n2,one,bad\n3,x,3\n')
    assert points(result, "loss") == [(1, 1), (3, 3)]
    assert any("line 4, column 'loss': 'bad'" in note.message for note in result.notes)
