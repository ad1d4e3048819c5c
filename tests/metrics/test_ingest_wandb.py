"""W&B's chart export, and series that come in segments."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from portal.errors import DataFault
from portal.manifest.schema import MetricFile
from portal.metrics.ingest import Ingested, join_segments, read_metric_file

GROUP = "Group: tiny_a1b2 - train/lm_loss"


def export(path: Path, columns: list[str], rows: list[list[str]]) -> Path:
    path.write_text("\n".join(",".join(f'"{cell}"' for cell in line) for line in [columns, *rows]) + "\n")
    return path


def read(path: Path, **spec: object) -> Ingested:
    return read_metric_file(path, MetricFile.model_validate({"file": path.name, **spec}))


def test_a_group_of_one_run_is_one_series_under_its_metrics_name(tmp_path: Path) -> None:
    columns = ["Step", GROUP, f"{GROUP}__MIN", f"{GROUP}__MAX"]
    result = read(
        export(tmp_path / "e.csv", columns, [["5", "2.5", "2.5", "2.5"], ["6", "NaN", "NaN", "NaN"], ["7", "", "", ""]])
    )
    one = result.series[0]
    assert [s.name for s in result.series] == ["train/lm_loss"]
    assert one.column == GROUP
    assert one.steps.tolist() == [5, 6]
    assert math.isnan(one.values[1])
    assert [note.code for note in result.notes] == ["bounds-equal-metric"]


def test_bounds_that_differ_are_series_of_their_own(tmp_path: Path) -> None:
    columns = ["Step", GROUP, f"{GROUP}__MIN", f"{GROUP}__MAX"]
    result = read(
        export(tmp_path / "e.csv", columns, [["5", "2.5", "2", "3"], ["6", "2", "2", ""]]), format="wandb-csv"
    )
    assert [(s.name, s.reduction) for s in result.series] == [
        ("train/lm_loss", ""),
        ("train/lm_loss__MIN", "minimum over the runs of the group"),
        ("train/lm_loss__MAX", "maximum over the runs of the group"),
    ]
    assert [len(s.steps) for s in result.series] == [2, 2, 1]


def test_several_runs_keep_their_full_names(tmp_path: Path) -> None:
    columns = ["Step", "a - loss", "a - loss__MIN", "b - loss", "b - loss__MIN"]
    result = read(export(tmp_path / "e.csv", columns, [["1", "1", "0", "2", "0"]]))
    assert [s.name for s in result.series] == ["a - loss", "a - loss__MIN", "b - loss", "b - loss__MIN"]


@pytest.mark.parametrize("column", ["train/lm_loss", GROUP])
def test_a_definition_may_use_either_name(tmp_path: Path, column: str) -> None:
    path = export(tmp_path / "e.csv", ["Step", GROUP, f"{GROUP}__MIN"], [["1", "2", "2"]])
    result = read(path, series={"loss": {"column": column, "unit": "nats"}})
    assert [(s.name, s.column, s.unit) for s in result.series] == [("loss", GROUP, "nats")]


def test_a_wandb_export_without_its_step_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="no column 'Step'"):
        read(export(tmp_path / "e.csv", ["time", GROUP], [["1", "2"]]), format="wandb-csv")


def test_segments_of_a_restarted_run_become_one_series(tmp_path: Path) -> None:
    first = read(
        export(tmp_path / "a.csv", ["Step", GROUP, f"{GROUP}__MIN"], [[str(n), str(n), str(n)] for n in range(1, 6)])
    )
    second = read(
        export(tmp_path / "b.csv", ["Step", GROUP, f"{GROUP}__MIN"], [[str(n), str(n * 10), "0"] for n in range(4, 8)])
    )
    joined, notes = join_segments([*first.series, *second.series])
    loss = joined[0]
    assert [s.name for s in joined] == ["train/lm_loss", "train/lm_loss__MIN"]
    assert loss.steps.tolist() == [1, 2, 3, 4, 4, 5, 5, 6, 7]
    assert np.array_equal(loss.values, [1, 2, 3, 4, 40, 5, 50, 60, 70])
    assert loss.source == "a.csv, b.csv"
    assert [note.code for note in notes] == ["joined-segments", "duplicate-steps"]
    assert notes[1].evidence["steps"] == [4, 5]
