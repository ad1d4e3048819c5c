"""Logs and evaluations that are not finite, doubled, out of turn, or of other steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from tests.museum.exhibit import Release, exhibit, published, refused


def _log(run: Release, rows: Sequence[tuple[object, object]]) -> None:
    run.path("train.csv").write_text("step,loss\n" + "".join(f"{step},{value}\n" for step, value in rows))


def _steps(value: Callable[[int], object] = lambda step: 4 - step / 10) -> list[tuple[object, object]]:
    return [(step, value(step)) for step in range(1, 21)]


@exhibit("The loss is NaN for three steps.", published(), {"events": "note@7:declared nan_loss@10:detected"})
def loss_that_is_nan(run: Release) -> None:
    _log(run, _steps(lambda step: "nan" if 10 <= step <= 12 else 2.5))


@exhibit("The loss is infinite at the end.", published(), {"events": "note@7:declared nan_loss@20:detected"})
def loss_that_is_infinite(run: Release) -> None:
    _log(run, _steps(lambda step: "inf" if step == 20 else 2.5))


@exhibit("Steps were logged twice after a restart.", published("unsorted-steps", "duplicate-steps@9"))
def steps_repeated_after_a_restart(run: Release) -> None:
    rows = _steps()
    _log(run, rows[:12] + rows[8:])


@exhibit("The log goes on after the last step.", published("series-outside-run@23", "series-gap@20"))
def log_beyond_the_run(run: Release) -> None:
    _log(run, [*_steps(), (23, 1.0)])


@exhibit("A step of the log is no number.", published("unusable-steps"))
def step_that_is_no_number(run: Release) -> None:
    _log(run, [("NaN", 1.0), *_steps()])


@exhibit("A value of the log is text.", published("unreadable-cells"))
def value_that_is_text(run: Release) -> None:
    _log(run, _steps(lambda step: "diverged" if step == 9 else 2.0))


@exhibit("The log has a head and no row.", refused("metrics[0].file: train.csv has columns but no row"))
def log_without_rows(run: Release) -> None:
    _log(run, [])


@exhibit("The log is binary rubbish.", refused("metrics[0].file: "))
def log_of_rubbish(run: Release) -> None:
    run.path("train.csv").write_bytes(b"\x00\x01\x02\xff")


@exhibit("The log counts tokens, and nobody says how many a step reads.", refused("metrics[0].file: "))
def log_by_tokens_of_unknown_steps(run: Release) -> None:
    run.manifest["training"] = {"last_step": 20}
    run.manifest["data"] = {}
    run.path("train.csv").write_text("tokens,loss\n32,1\n64,2\n")
    run.manifest["metrics"] = [{"file": "train.csv", "x": "tokens", "x_kind": "tokens"}]


@exhibit("A series is defined over a column that the file has not.", refused("metrics[0].file: "))
def series_of_a_column_that_is_not_there(run: Release) -> None:
    run.manifest["metrics"][0]["series"] = {"loss": {"column": "train/loss"}}


@exhibit("The log was lost.", refused("metrics[0].file: train.csv is not there"))
def log_that_is_lost(run: Release) -> None:
    run.path("train.csv").unlink()


@exhibit("The log has a hole of steps in the middle.", published("series-gap@6"))
def log_with_a_hole(run: Release) -> None:
    rows = [f"{s},{4 - s / 100:.3f},1.5" for s in range(1, 41) if not 6 < s < 30]
    run.manifest["training"]["last_step"] = 40
    run.manifest["data"] = {}
    run.manifest["cadence"] = None
    run.path("train.csv").write_text("step,loss,grad_norm\n" + "\n".join(rows) + "\n")


@exhibit("One step was evaluated twice with other results.", published("step-evaluated-twice@10"))
def step_evaluated_twice(run: Release) -> None:
    _evaluation(run, "again/step10.json", 0.9)
    run.manifest["evaluations"].append({"file": "again/*.json"})


@exhibit("An evaluation's name and its content say different steps.", published("step-contradiction@10"))
def evaluation_of_two_steps(run: Release) -> None:
    document = json.loads(run.path("evals/step10.json").read_text())
    document["config"] = {"model_args": "pretrained=lab/model,revision=step20"}
    run.path("evals/step10.json").write_text(json.dumps(document))


@exhibit("Nobody says which step was evaluated.", published("step-unknown"))
def evaluation_without_a_step(run: Release) -> None:
    _evaluation(run, "evals/final.json", 0.7)


@exhibit("A result is a list of prompts, as Pythia's bias evaluations.", published())
def results_as_a_list(run: Release) -> None:
    rows = [{"task_name": "winobias", "prompt_name": "p", "acc": 0.5, "acc_stderr": 0.1}]
    run.path("evals/step10.json").write_text(json.dumps({"results": rows}))


@exhibit("A result file is cut off.", refused("evaluations[0].file: "))
def results_cut_off(run: Release) -> None:
    run.path("evals/step10.json").write_text('{"results": {"arc"')


@exhibit("A config is a few lines whose aliases stand for 10^10 values.", published(), {"version": "1"})
def config_of_aliases(run: Release) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 10)]
    run.path("train.yaml").write_text("\n".join(lines))


@exhibit("The manifest has a key that nobody knows.", refused("tokenzier: "))
def misspelt_key(run: Release) -> None:
    run.manifest["tokenzier"] = "tokenizer.json"


@exhibit("An event stands after the last step.", refused("events[0].step: step 99 lies beyond"))
def event_beyond_the_run(run: Release) -> None:
    run.manifest["events"][0]["step"] = 99


@exhibit("An event names a chunk that is not there.", refused("events[0].chunk: 'part_9' is no chunk"))
def event_of_an_unknown_chunk(run: Release) -> None:
    run.manifest["events"][0].update(kind="chunk_skipped", chunk="part_9")


def _evaluation(run: Release, name: str, value: float) -> None:
    run.path(name).write_text(json.dumps({"results": {"arc": {"acc": value}}, "versions": {"arc": 0}}))
