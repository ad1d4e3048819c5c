"""Every metric and evaluation file beside the project is read whole (skipped where it is absent)."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from portal.manifest.schema import EvaluationFile, MetricFile
from portal.metrics.ingest import EvaluationRow, detect_events, find_repeats, read_evaluation_file, read_metric_file
from portal.metrics.series import open_series, write_series


def test_the_wandb_export_of_pythia_70m(real_data: Path, tmp_path: Path) -> None:
    path = next((real_data / "pythia" / "wandb-export").glob("*.csv"))
    result = read_metric_file(path, MetricFile(file=path.name))
    loss = result.series[0]
    with path.open(newline="") as file:
        rows = [(int(row[0]), float(row[1])) for row in list(csv.reader(file))[1:]]
    assert [s.name for s in result.series] == ["train/lm_loss"]
    assert list(zip(loss.steps.tolist(), loss.values.tolist(), strict=True)) == rows
    assert len(rows) == 24_000
    assert detect_events([loss]) == []
    stored = open_series(tmp_path, write_series(tmp_path, "eleutherai/pythia-70m@1", result.series)[0].location)
    answer = stored.query(95_001, 119_000, 1000)
    assert answer.points == 24_000
    assert float(np.max(answer.max)) == max(value for _, value in rows)


def test_the_wide_tables_of_olmo(real_data: Path) -> None:
    found = sorted((real_data / "olmo" / "scripts" / "scaling" / "data").rglob("*.csv"))
    assert found
    for path in found:
        with path.open(newline="") as file:
            lines = list(csv.reader(file))
        by_tokens = lines[0][0] == "throughput/total_tokens"
        spec = MetricFile(file=path.name, x=lines[0][0], x_kind="tokens" if by_tokens else "step")
        result = read_metric_file(path, spec, lambda tokens: tokens // 65_536)
        assert [s.name for s in result.series] == lines[0][1:]
        filled = sum(bool(cell) for line in lines[1:] for cell in line[1:])
        assert sum(len(s.steps) for s in result.series) == filled


def test_the_evaluations_of_olmo_2_7b(real_data: Path) -> None:
    path = real_data / "olmo" / "scripts" / "scaling" / "data" / "peteish-moreeval" / "peteish7_eval_full.csv"
    result = read_metric_file(path, MetricFile(file=path.name, x="_step", group="evaluation"))
    assert (len(result.series), {len(s.steps) for s in result.series}) == (113, {186})
    assert {(int(s.steps[0]), int(s.steps[-1])) for s in result.series} == {(0, 925_000)}
    rows = read_evaluation_file(path, EvaluationFile(file=path.name, format="csv")).rows
    assert len(rows) == 186 * 111
    assert len({(row.task, row.metric) for row in rows}) == 111


def _numbers(document: object) -> int:
    """Metrics a result file holds, counted without regard to its dialect."""
    results = document["results"]  # type: ignore[index]
    tables = results.values() if isinstance(results, dict) else results
    return sum(
        isinstance(value, int | float) and not isinstance(value, bool) and "stderr" not in key
        for table in tables
        for key, value in table.items()
    )


def test_every_evaluation_of_pythia(real_data: Path) -> None:
    paths = [
        *(real_data / "pythia" / "evals").rglob("*.json"),
        *(real_data / "pythia" / "hmm-training-maps").glob("*.json"),
    ]
    assert len(paths) > 150
    rows: dict[str, list[EvaluationRow]] = {}
    for path in paths:
        spec = EvaluationFile(file=path.name, step=143_000 if path.parent.name == "hmm-training-maps" else None)
        result = read_evaluation_file(path, spec, str(path.relative_to(real_data)))
        assert result.notes == []
        assert len(result.rows) == _numbers(json.loads(path.read_text()))
        assert {row.step for row in result.rows} != {None}
        assert all(row.value is not None and math.isfinite(row.value) for row in result.rows)
        assert {row.suite for row in result.rows} <= {"zero-shot", "five-shot"}
        rows.setdefault(str(path.parent.relative_to(real_data)), []).extend(result.rows)
    repeats = {folder: find_repeats(found) for folder, found in rows.items()}
    assert [(n.step, n.evidence["different"]) for n in repeats["pythia/evals/pythia-v0/pythia-70m/zero-shot"]] == [
        (123_000, 0)
    ]
    assert len({row.step for row in rows["pythia/evals/pythia-v1/pythia-70m/zero-shot"]}) == 27


@pytest.mark.parametrize("name", ["pythia/hmm-training-maps/Pythia70m_Hu_metrics.tsv"])
def test_a_table_of_several_seeds_keeps_every_row(real_data: Path, name: str) -> None:
    result = read_metric_file(real_data / name, MetricFile(file=Path(name).name))
    assert {note.code for note in result.notes} == {"unsorted-steps", "duplicate-steps"}
    assert {len(s.steps) for s in result.series} == {770}


def test_term_frequency_evaluations(real_data: Path) -> None:
    path = next((real_data / "pythia" / "evals" / "csv").rglob("*.csv"))
    result = read_evaluation_file(path, EvaluationFile(file=path.name, format="csv"))
    with path.open() as file:
        assert len(result.rows) == sum(1 for _ in file) - 1
    assert {row.shots for row in result.rows} == {0, 2, 4, 8, 16}
