"""Gathers what `fidelity` judges: the published losses and checkpoints of a job's steps beside its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlmodel import Session

from portal.catalog.answers.jobs import JobPoint
from portal.catalog.facts import ReleaseFacts
from portal.catalog.jobs.told import SPECIAL
from portal.catalog.metrics import metrics_root
from portal.catalog.reach import readable_file
from portal.catalog.release import load_facts
from portal.database import Engine, open_session
from portal.errors import PortalError
from portal.jobs.base import find_base, is_weights
from portal.jobs.fidelity import (
    CheckpointComparison,
    Evidence,
    LossComparison,
    TensorComparison,
    Tolerance,
    compare_losses,
    judge,
)
from portal.jobs.hyperparameters import HARMLESS
from portal.jobs.outputs import MAX_STATE, STATE, open_readable, tensor_files
from portal.metrics.series import open_series
from portal.settings import Settings
from portal.tensors.values import Stored, compare, open_tensors
from portal.tokens.readers import ReadableFile

LOSSES = ("loss", "train/loss", "train_loss", "training_loss", "lm_loss", "train/CrossEntropyLoss")
"""Names under which runs publish what the trainer calls ``loss``, the likeliest first."""
MAX_FAR_BYTES = 8 << 30
"""Published checkpoints that lie elsewhere are read for a comparison up to this size."""

Outputs = Mapping[int, Sequence[Mapping[str, Any]]]
"""Files of the job's own checkpoints, by step."""


def compare_job(
    engine: Engine,
    settings: Settings,
    spec: Mapping[str, Any],
    points: Sequence[JobPoint],
    outputs: Outputs,
    environment: Mapping[str, Any],
) -> Evidence:
    """The verdict over a job, with its evidence."""
    training = spec["training"]
    tolerance = Tolerance.of(str(training.get("precision")))
    if (reason := incomparable(spec)) is not None:
        return Evidence(None, reason, tolerance)
    with open_session(engine) as session:
        try:
            facts = load_facts(session, spec["base"]["run"], spec["base"]["version"], withdrawn=True)
        except PortalError as error:
            return Evidence(None, f"The original run cannot be looked up: {error.message}", tolerance)
        steps = [s for s in sorted(outputs) if s in set(facts.released_steps)]
        published = {step: _find_published(session, settings, facts, step) for step in steps}
        base = _find_published(session, settings, facts, spec["base"]["step"])
    # Everything that reads files comes after the session: tensors of gigabytes, some of them far away.
    losses = _losses(facts, settings, spec, points, tolerance)
    checkpoints = [_checkpoint(settings, step, published[step], outputs[step]) for step in steps]
    stated = _stated_by_base(base)
    own = _stated_by_job(settings, outputs) or environment
    differs = [
        {"key": key, "run": value, "job": own[key]} for key, value in stated.items() if key in own and own[key] != value
    ]
    return judge(tolerance, losses, checkpoints, "optimizer" not in spec["missing"], differs)


def incomparable(spec: Mapping[str, Any]) -> str | None:
    """Why a job cannot be compared with the run at all; None where it can."""
    if spec["data"]["kind"] != "original":
        return "It was trained on rows of its own choice, so nothing of the run can be compared with it."
    changed = [c["key"] for c in spec["changes"] if c["key"] not in HARMLESS and c["from"] is not None]
    if changed:
        return f"It was trained with other settings ({', '.join(changed)}), so nothing of the run can be compared."
    return None


def _losses(
    facts: ReleaseFacts, settings: Settings, spec: Mapping[str, Any], points: Sequence[JobPoint], tolerance: Tolerance
) -> LossComparison | None:
    name = next((n for n in LOSSES if n in facts.series_by_name), None)
    if name is None:
        return None
    series = open_series(metrics_root(settings), facts.series_by_name[name].location)
    published = {}
    for step in range(spec["first_step"], spec["last_step"] + 1):
        value = series.value_at(step)
        if value is not None:
            published[step] = value
    found = {
        p.step: p.value if p.value is not None else SPECIAL.get(p.special or "", math.nan)
        for p in points
        if p.name == "loss"
    }
    return compare_losses(name, published, found, tolerance)


@dataclass(frozen=True)
class _Published:
    """Files of a published checkpoint by what they hold; ``trouble`` where they cannot be found."""

    weights: Sequence[ReadableFile] = ()
    optimizer: Sequence[ReadableFile] = ()
    state: Sequence[ReadableFile] = ()
    far: int = 0
    """Bytes of its weights that lie elsewhere."""
    trouble: str = ""


def _find_published(session: Session, settings: Settings, facts: ReleaseFacts, step: int) -> _Published:
    try:
        rows = find_base(session, facts, step).rows
        files = [(row, readable_file(session, settings, row)) for row in rows]
    except PortalError as error:
        return _Published(trouble=error.message)
    return _Published(
        weights=[file for row, file in files if is_weights(_last(row.path))],
        optimizer=[file for row, file in files if _last(row.path) == "optimizer.safetensors"],
        state=[file for row, file in files if _last(row.path) == STATE],
        far=sum(row.size or 0 for row in rows if row.local is None and is_weights(_last(row.path))),
    )


def _checkpoint(
    settings: Settings, step: int, published: _Published, files: Sequence[Mapping[str, Any]]
) -> CheckpointComparison:
    if published.trouble:
        return CheckpointComparison(step, None, None, f"It could not be read: {published.trouble}")
    if published.far > MAX_FAR_BYTES:
        told = f"The published checkpoint lies elsewhere and has {published.far:,} bytes."
        return CheckpointComparison(step, None, None, told)
    mine = {"weights": [f for f in files if is_weights(str(f["path"]))]}
    mine["optimizer"] = [f for f in files if f["path"] == "optimizer.safetensors"]
    try:
        kinds = {
            kind: _tensors(open_tensors(tensor_files(settings, mine[kind])), open_readable(theirs))
            if mine[kind] and theirs
            else None
            for kind, theirs in (("weights", published.weights), ("optimizer", published.optimizer))
        }
    except PortalError as error:
        return CheckpointComparison(step, None, None, f"It could not be read: {error.message}")
    return CheckpointComparison(step, kinds["weights"], kinds["optimizer"])


def _tensors(found: Mapping[str, Stored], published: Mapping[str, Stored]) -> TensorComparison:
    unlike = sorted(found.keys() ^ published.keys())
    equal, most, worst, dot, squares = 0, 0.0, None, 0.0, [0.0, 0.0]
    both = sorted(found.keys() & published.keys())
    for name in both:
        if found[name].tensor.shape != published[name].tensor.shape:
            unlike.append(name)
            continue
        told = compare(found[name], published[name])
        equal += told.equal
        if math.isnan(told.max_abs) or told.max_abs > most:
            most, worst = (told.max_abs if not math.isnan(most) else most), name
        dot += told.dot
        squares[0] += told.norm_a
        squares[1] += told.norm_b
    cosine = dot / math.sqrt(squares[0] * squares[1]) if squares[0] > 0 and squares[1] > 0 else None
    return TensorComparison(len(both), equal, most, worst, cosine, unlike[:10])


def _stated_by_base(base: _Published) -> dict[str, Any]:
    """What the base's trainer_state.json says of the surroundings it was made in."""
    file = next((f for f in base.state if f.size and f.size <= MAX_STATE), None)
    if file is None:
        return {}
    try:
        return _environment(file.store.read_range(file.uri, 0, file.size or 0))
    except PortalError:
        return {}


def _stated_by_job(settings: Settings, outputs: Outputs) -> dict[str, Any]:
    files = outputs[max(outputs)] if outputs else []
    state = next((f for f in files if f["path"] == STATE and int(f["size"]) <= MAX_STATE), None)
    if state is None:
        return {}
    (file,) = tensor_files(settings, [state])
    return _environment(file.read(0, file.size))


def _environment(text: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    stated = document.get("environment") if isinstance(document, dict) else None
    return stated if isinstance(stated, dict) else {}


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]
