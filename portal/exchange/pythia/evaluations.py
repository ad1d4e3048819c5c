"""Evaluation results in the Pythia repository: which files measure this model, and which only lie in its folder."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from portal.exchange.draft import Draft
from portal.exchange.pythia.models import Model
from portal.exchange.sources import read_json

STEP_PATTERN = r"step(?P<step>\d+)"
REVISION = re.compile(r"revision=step(\d+)")
PRETRAINED = re.compile(r"pretrained=(?:EleutherAI/)?([^,]+)")


@dataclass(frozen=True)
class Result:
    """One result file of one suite."""

    path: str
    """Below the source."""
    step: int
    digest: str
    """Of the results alone, so that files that differ in their config compare equal."""


def add_evaluations(draft: Draft, model: Model, source: Path) -> None:
    """List every folder of results under ``evals/``; files of another model or step become findings."""
    if model.seed:
        return
    folder = source / "evals" / ("pythia-v0" if model.v0 else "pythia-v1") / model.plain_name
    if not folder.is_dir():
        draft.notes.append(f"No evaluations: {folder.relative_to(source)} is not in {source}.")
        return
    for suite in sorted(path for path in folder.iterdir() if path.is_dir()):
        _add_suite(draft, model, source, suite)


def _add_suite(draft: Draft, model: Model, source: Path, suite: Path) -> None:
    files = {path.relative_to(source).as_posix(): read_json(path) for path in sorted(suite.glob("*.json"))}
    results, foreign = [], defaultdict(list)
    for name, document in files.items():
        measured = _measured_model(document)
        if measured and not _is_model(measured, model):
            foreign[measured].append(name)
        elif (result := _result(draft, name, document)) is not None:
            results.append(result)
    for measured, names in foreign.items():
        draft.find(
            "evaluations-of-another-model",
            f"{len(names)} result files in {suite.relative_to(source).as_posix()} measure {measured}, not this "
            "model; they are left out.",
            "warning",
            None,
            model=measured,
            files=names[:20],
            count=len(names),
        )
    draft.files.extend(result.path for result in results)
    _list_results(draft, model, suite.relative_to(source).as_posix(), results, len(results) == len(files))
    _find_repeats(draft, suite.name, results)


def _list_results(draft: Draft, model: Model, folder: str, results: list[Result], whole: bool) -> None:
    """One pattern where the whole folder is this model's under its own step numbers, else file by file."""
    shared = {"format": "lm-eval", "suite": folder.rsplit("/", 1)[-1], "by": "EleutherAI"}
    if whole and results and model.label_factor == 1:
        draft.add("evaluations", {"file": f"{folder}/*.json", "step_pattern": STEP_PATTERN, **shared})
        return
    for result in results:
        draft.add("evaluations", {"file": result.path, "step": result.step // model.label_factor, **shared})


def _result(draft: Draft, name: str, document: Any) -> Result | None:
    found = re.search(STEP_PATTERN, name.rsplit("/", 1)[-1])
    if found is None:
        draft.find("evaluation-without-step", f"{name} names no step and is left out.", "warning", None, file=name)
        return None
    step = int(found["step"])
    revision = REVISION.search(str(_config(document).get("model_args", "")))
    if revision and int(revision[1]) != step:
        draft.find(
            "evaluation-step-contradicts",
            f"{name} is named for step {step:,} but measured revision step{revision[1]}.",
            "error",
            step,
            file=name,
            revision=revision[0],
        )
    results = document.get("results") if isinstance(document, dict) else None
    digest = hashlib.sha256(orjson.dumps(results, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return Result(name, step, digest)


def _find_repeats(draft: Draft, suite: str, results: list[Result]) -> None:
    by_step, by_digest = defaultdict(list), defaultdict(set)
    for result in results:
        by_step[result.step].append(result)
        by_digest[result.digest].add(result.step)
    for step, twice in sorted(by_step.items()):
        if len(twice) > 1:
            same = len({r.digest for r in twice}) == 1
            draft.find(
                "evaluated-twice",
                f"Step {step:,} was evaluated {len(twice)} times ({suite}) with "
                f"{'equal' if same else 'different'} results.",
                "info" if same else "warning",
                step,
                files=[r.path for r in twice],
                suite=suite,
            )
    for steps in by_digest.values():
        if len(steps) > 1:
            draft.find(
                "evaluations-equal",
                f"Steps {', '.join(f'{s:,}' for s in sorted(steps))} have exactly equal results ({suite}), as if "
                "the same weights had been measured.",
                "warning",
                max(steps),
                steps=sorted(steps),
                suite=suite,
            )


def _measured_model(document: Any) -> str | None:
    found = PRETRAINED.search(str(_config(document).get("model_args", "")))
    return found[1] if found else None


def _config(document: Any) -> dict[str, Any]:
    config = document.get("config") if isinstance(document, dict) else None
    return config if isinstance(config, dict) else {}


def _is_model(measured: str, model: Model) -> bool:
    """Results name models ``pythia-v1.1-70m`` or ``pythia-70m``."""
    return re.sub(r"^pythia-v\d(?:\.\d)?-", "pythia-", measured) in (model.plain_name, f"{model.plain_name}-v0")
