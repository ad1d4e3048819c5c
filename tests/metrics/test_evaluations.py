"""lm-eval results in each dialect, and evaluations as CSV."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portal.errors import DataFault, TooLarge
from portal.manifest.schema import EvaluationFile
from portal.metrics.ingest import EvaluationRow, IngestedEvaluations, evaluations, find_repeats, read_evaluation_file


def read(path: Path, content: Any = None, source: str | None = None, **spec: Any) -> IngestedEvaluations:
    """Write ``content`` (text, or a document) to ``path`` and read it."""
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_evaluation_file(path, EvaluationFile.model_validate({"file": "evals/*", **spec}), source)


OLD = {
    "results": {
        "arc_easy": {"acc": 0.25, "acc_stderr": 0.01, "acc_norm": float("nan"), "acc_norm_stderr": float("nan")},
        "lambada": {"ppl": float("inf"), "acc": 1},
    },
    "versions": {"arc_easy": 0, "lambada": 2},
    "config": {"model": "hf-causal", "model_args": "pretrained=a/b,revision=step512", "num_fewshot": 5},
}
LISTED = {
    "results": [
        {
            "task_name": "wino",
            "prompt_name": "refers_to",
            "em": 0.5,
            "em_stderr": 0.02,
            "prompt_id": "7",
            "comment": "",
        },
        {"task_name": "wino", "prompt_name": None, "em": 0.25, "prompt_original_task": True, "dataset_name": "3"},
    ],
    "versions": {"wino+refers_to": 1},
    "config": {"model_args": {"iteration": 93000}, "num_fewshot": 0},
}
NEW = {
    "results": {
        "gsm8k": {"exact_match,strict-match": 0.1, "exact_match_stderr,strict-match": "N/A", "alias": "gsm8k"},
        "arc": {"acc,none": 0.2, "acc_stderr,none": 0.01, "acc_norm,none": "NaN", "alias": " - arc"},
    },
    "configs": {"gsm8k": {"num_fewshot": 5}, "arc": {"num_fewshot": 0}},
    "versions": {"gsm8k": 3.0, "arc": "Yaml"},
    "n-shot": {"arc": 25},
}


def test_the_dialect_up_to_0_3(tmp_path: Path) -> None:
    got = read(tmp_path / "70m_step128.json", OLD, by="someone")
    row = EvaluationRow(128, "five-shot", "arc_easy", "acc", 0.25, None, 0.01, 5, "0", "someone", "70m_step128.json")
    assert got.rows[0] == row
    assert [(r.task, r.metric, r.value, r.special, r.stderr) for r in got.rows[1:]] == [
        ("arc_easy", "acc_norm", None, "nan", None),
        ("lambada", "ppl", None, "+inf", None),
        ("lambada", "acc", 1.0, None, None),
    ]
    assert [(n.code, n.step) for n in got.notes] == [("step-contradiction", 128)]


def test_the_dialect_with_a_list(tmp_path: Path) -> None:
    got = read(tmp_path / "eval_results_02-16-2023-01-04-06.json", LISTED, source="evals/x.json")
    assert [(r.step, r.task, r.metric, r.value, r.stderr, r.version) for r in got.rows] == [
        (93000, "wino+refers_to", "em", 0.5, 0.02, "1"),
        (93000, "wino", "em", 0.25, None, None),
    ]
    assert {r.suite for r in got.rows} == {"zero-shot"}
    assert {r.source for r in got.rows} == {"evals/x.json"}
    assert got.notes == []


def test_the_dialect_from_0_4(tmp_path: Path) -> None:
    got = read(tmp_path / "results.json", NEW, step=7, suite="harness")
    assert [(r.step, r.suite, r.task, r.metric, r.value, r.special, r.shots, r.version) for r in got.rows] == [
        (7, "harness", "gsm8k", "exact_match,strict-match", 0.1, None, 5, "3.0"),
        (7, "harness", "arc", "acc", 0.2, None, 25, "Yaml"),
        (7, "harness", "arc", "acc_norm", None, "nan", 25, "Yaml"),
    ]
    assert got.rows[0].stderr is None
    assert read(tmp_path / "results.json").rows[1].suite == "25-shot"


@pytest.mark.parametrize(
    ("name", "pattern", "step"),
    [
        ("70m_step128.json", None, 128),
        ("70m-5shot_step43000.json", None, 43000),
        ("pythia-70m-0shot-global_step123000_eval_results_11-25-2022-05-54-21.json", None, 123000),
        ("intervention-410m-deduped_step135000.json", None, 135000),
        ("step1000-tokens4B.json", None, 1000),
        ("ckpt_171.json", r"ckpt_(?P<step>\d+)", 171),
        ("results_step99999999999999999999999.json", None, None),
        ("results.json", None, None),
    ],
)
def test_the_step_stands_in_the_file_name(tmp_path: Path, name: str, pattern: str | None, step: int | None) -> None:
    got = read(tmp_path / name, {"results": {"t": {"acc": 1.0}}}, step_pattern=pattern)
    assert got.rows[0].step == step
    assert [note.code for note in got.notes] == ([] if step is not None else ["step-unknown"])


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        ("pretrained=a,revision=step512", 512),
        ("pretrained=step-by-step2,revision=main", None),
        ({"iteration": 5}, 5),
        ({"revision": "step9"}, 9),
        (None, None),
    ],
)
def test_the_step_stands_in_the_arguments(tmp_path: Path, arguments: Any, step: int | None) -> None:
    got = read(tmp_path / "r.json", {"results": {"t": {"acc": 1.0}}, "config": {"model_args": arguments}})
    assert got.rows[0].step == step


def test_a_step_evaluated_twice_is_noted_with_a_verdict(tmp_path: Path) -> None:
    once = read(tmp_path / "a_step5.json", {"results": {"t": {"acc": 0.5, "f1": 0.5}}}).rows
    twice = read(tmp_path / "b_step5.json", {"results": {"t": {"acc": 0.5, "f1": 0.6}}}).rows
    assert find_repeats(once) == []
    assert find_repeats([replace(row, step=None) for row in [*once, *once]]) == []
    same = find_repeats([*once, *once])[0]
    assert (same.code, same.step) == ("step-evaluated-twice", 5)
    assert "with identical values" in same.message
    different = find_repeats([*once, *twice])[0]
    assert "1 of 2 values differ" in different.message
    assert different.evidence["sources"] == ["a_step5.json", "b_step5.json"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ('{"results": ', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ([1], "holds no `results`"),
        ({"results": {}}, "holds no `results`"),
        ({"results": {"t": 1}}, r"results\['t'\] is no table"),
        ({"results": [{"em": 1}]}, r"results\[0\] names no task"),
        ({"results": {"t": {"alias": "t", "ok": True, "huge": 10**400}}}, "no number"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(DataFault, match=says):
        read(tmp_path / "r_step1.json", content)


def test_a_huge_result_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluations, "MAX_BYTES", 10)
    with pytest.raises(TooLarge):
        read(tmp_path / "r.json", OLD)


def test_csv_with_a_row_per_task(tmp_path: Path) -> None:
    text = "model,checkpoint,task,fewshot,acc,acc_stderr\nm,100,a,16,0.5,0.1\nm,100,b,0,NaN,\nm,200,a,16,,\n"
    got = read(tmp_path / "e.csv", text, format="csv")
    assert [(r.step, r.task, r.metric, r.value, r.special, r.stderr, r.shots, r.suite) for r in got.rows] == [
        (100, "a", "acc", 0.5, None, 0.1, 16, "16-shot"),
        (100, "b", "acc", None, "nan", None, 0, "0-shot"),
    ]


def test_csv_with_metric_and_value(tmp_path: Path) -> None:
    header = "step,task,metric,value,stderr,suite,version"
    text = f"{header}\n1,a,acc,0.5,0.1,mine,2\n1,a,acc,0.6,0.1,mine,2\n1,a,f1,oops,,mine,2\n"
    got = read(tmp_path / "e.csv", text, format="csv")
    assert [(r.metric, r.value, r.stderr, r.suite, r.version) for r in got.rows] == [
        ("acc", 0.5, 0.1, "mine", "2"),
        ("acc", 0.6, 0.1, "mine", "2"),
    ]
    assert [note.code for note in got.notes] == ["unreadable-cells", "step-evaluated-twice"]
    assert "line 4, column 'value': 'oops'" in got.notes[0].message


def test_csv_with_a_column_per_task(tmp_path: Path) -> None:
    header = "_step,eval/c4/CrossEntropyLoss,eval/downstream/arc_5shot_len_norm,eval/downstream_x/odd,eval/plain,lr"
    got = read(tmp_path / "e.csv", f"{header}\n0,1,2,3,4,5\n\n10.0,inf,,,,5\n", format="csv", suite="s")
    assert [(r.step, r.task, r.metric, r.value, r.special) for r in got.rows] == [
        (0, "c4", "CrossEntropyLoss", 1.0, None),
        (0, "arc_5shot", "len_norm", 2.0, None),
        (0, "downstream_x/odd", "value", 3.0, None),
        (0, "plain", "value", 4.0, None),
        (10, "c4", "CrossEntropyLoss", None, "+inf"),
    ]
    assert [note.code for note in got.notes] == ["columns-left-out"]


def test_csv_of_one_step(tmp_path: Path) -> None:
    assert read(tmp_path / "e_step40.csv", "arc,wino\n0.1,0.2\n", format="csv").rows[1].step == 40
    assert read(tmp_path / "e.csv", "arc,wino\n0.1,0.2\n", format="csv", step=3).rows[0].step == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("step,arc\n", "has a header but no line"),
        ("\n", "has no header line"),
        ("arc\n1\n", "has no column of steps"),
        ("step,arc\n1\n", "line 2: 1 cells, but 2 columns"),
        ("step,arc\n1.5,1\n", "line 2, column 'step': '1.5' is no step"),
        ("step,arc\nx,1\n", "'x' is no step"),
        ('step,arc\n1,"2\n', "cannot be read as CSV"),
        ("step,arc\n1,\n", "holds no result"),
    ],
)
def test_a_csv_that_is_no_result_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataFault, match=says):
        read(tmp_path / "e.csv", text, format="csv")
