"""Hyper-parameters of a job: the run's own, changed where asked, complete and checked, with every change marked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portal.errors import BadRequest
from portal.jobs.settings_of_runs import Setting

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Key:
    """One setting of the trainer."""

    means: str
    """What it has to be, for people."""
    check: Check
    choice: Any = ...
    """What the portal chooses where nothing is published, because the result's meaning does not hang on it."""


def _whole(least: int, most: int = 2**31) -> Check:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most


def _number(least: float = 0.0, below: float = math.inf) -> Check:
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) and least <= v < below


def _one_of(*words: Any) -> Check:
    return lambda v: v in words and type(v) in {type(w) for w in words}


def _betas(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_number(0, 1)(b) for b in value)


def _or_none(check: Check) -> Check:
    return lambda v: v is None or check(v)


KEYS: dict[str, Key] = {
    "sequence_length": Key("tokens a row is trained on", _whole(1)),
    "row_length": Key("token ids a stored row has", _whole(2)),
    "rows_per_step": Key("rows of one step, from 1", _whole(1, 10**7)),
    "micro_batch": Key("rows of one forward pass, from 1", _whole(1, 10**7), None),
    "pad_id": Key("the token id that is not counted, or null where every target counts", _or_none(_whole(0))),
    "loss": Key("mean-of-rows or mean-of-tokens", _one_of("mean-of-rows", "mean-of-tokens")),
    "precision": Key("float32, bf16-mixed or bfloat16", _one_of("float32", "bf16-mixed", "bfloat16")),
    "attention": Key("sdpa or eager", _one_of("sdpa", "eager"), "sdpa"),
    "optimizer.class": Key("AdamW or Adam", _one_of("AdamW", "Adam")),
    "optimizer.betas": Key("two numbers from 0 to below 1", _betas),
    "optimizer.eps": Key("a number above 0", _number(1e-300)),
    "optimizer.weight_decay": Key("a number from 0", _number()),
    "optimizer.no_decay": Key(
        "vectors (norms and biases are not decayed) or none (all are)", _one_of("vectors", "none")
    ),
    "clip": Key("the largest norm of a gradient, or null for none", _or_none(_number(1e-300))),
    "schedule.kind": Key(
        "warmup-stable-decay, cosine, linear or constant",
        _one_of("warmup-stable-decay", "cosine", "linear", "constant"),
    ),
    "schedule.peak": Key("the highest learning rate", _number()),
    "schedule.floor": Key("the lowest learning rate after the warm-up", _number()),
    "schedule.warmup_steps": Key("steps of the warm-up", _whole(0)),
    "schedule.decay_from": Key("the step at which the rate begins to fall", _whole(0)),
    "schedule.decay_to": Key("the step at which the rate is at its lowest", _whole(0)),
    "schedule.start_step": Key("the step the others are counted from", _whole(0), 0),
    "when_not_finite": Key("skip (the update) or stop", _one_of("skip", "stop"), "stop"),
    "seed": Key("a whole number from 0", _whole(0, 2**63), 0),
    "numerics.threads": Key("threads of the CPU, or null for all", _or_none(_whole(1, 4096)), None),
    "numerics.deterministic": Key("true or false", _one_of(True, False), True),
    "numerics.portable": Key("true or false", _one_of(True, False), True),
}
_OF_KIND = {
    "warmup-stable-decay": {"peak", "floor", "warmup_steps", "decay_from", "decay_to", "start_step"},
    "cosine": {"peak", "floor", "warmup_steps", "decay_to", "start_step"},
    "linear": {"peak", "floor", "warmup_steps", "decay_to", "start_step"},
    "constant": {"peak", "warmup_steps", "start_step"},
}
ALIASES = {
    "lr": "schedule.peak",
    "learning_rate": "schedule.peak",
    "min_lr": "schedule.floor",
    "warmup": "schedule.warmup_steps",
    "weight_decay": "optimizer.weight_decay",
    "betas": "optimizer.betas",
    "eps": "optimizer.eps",
    "threads": "numerics.threads",
}
FIXED = ("sequence_length", "row_length")
"""They follow from the data: rows have the length they have."""
HARMLESS = ("micro_batch", "numerics.threads", "numerics.deterministic", "numerics.portable", "attention")
"""What may differ in a replay: the same sums in another order."""


@dataclass(frozen=True)
class Chosen:
    """One setting of the job."""

    key: str
    value: Any
    origin: str
    changed_from: Any = None
    changed: bool = False


@dataclass(frozen=True)
class Unknown:
    """A setting that is neither published nor given."""

    key: str
    means: str


@dataclass(frozen=True)
class Hyperparameters:
    """All settings of a job, and those that are still to be given."""

    chosen: list[Chosen]
    unknown: list[Unknown]

    def training(self) -> dict[str, Any]:
        """As the trainer reads them: nested."""
        nested: dict[str, Any] = {}
        for one in self.chosen:
            place = nested
            *outer, last = one.key.split(".")
            for name in outer:
                place = place.setdefault(name, {})
            place[last] = one.value
        return nested

    def changes(self) -> list[dict[str, Any]]:
        """What differs from the run."""
        return [{"key": c.key, "from": c.changed_from, "to": c.value} for c in self.chosen if c.changed]


def resolve(known: Mapping[str, Setting], given: Mapping[str, Any]) -> Hyperparameters:
    """The run's settings with what is ``given`` (name or alias to value) in their place.

    BadRequest names every given setting that cannot be used, not only the first.
    """
    wanted = _read_given(given)
    values: dict[str, Chosen] = {}
    for key in KEYS:
        if key in wanted:
            before = known.get(key)
            changed = before is None or before.value != wanted[key]
            values[key] = Chosen(key, wanted[key], "given", before.value if before else None, changed)
        elif key in known and KEYS[key].check(known[key].value):
            values[key] = Chosen(key, known[key].value, known[key].origin)
        elif key in known and isinstance(known[key].value, str) and _as_number(known[key].value) is not None:
            values[key] = Chosen(key, _as_number(known[key].value), known[key].origin)
        elif KEYS[key].choice is not ...:
            values[key] = Chosen(key, KEYS[key].choice, "not published: the portal's choice")
    kind = values["schedule.kind"].value if "schedule.kind" in values else None
    if kind is not None:
        unused = {f"schedule.{n}" for n in _OF_KIND["warmup-stable-decay"] - _OF_KIND[kind]}
        if refused := sorted(unused & wanted.keys()):
            raise BadRequest(f"A {kind} schedule has no {', '.join(refused)}.", "Leave it out.", parameter="set")
        values = {key: value for key, value in values.items() if key not in unused}
        needed = {f"schedule.{name}" for name in _OF_KIND[kind]}
    else:
        needed = {"schedule.peak"}
    _fill_micro_batch(values)
    required = [k for k in KEYS if not k.startswith("schedule.") or k in needed or k == "schedule.kind"]
    unknown = [Unknown(key, KEYS[key].means) for key in required if key not in values]
    chosen = [values[key] for key in KEYS if key in values]
    if not unknown and (fault := _fault({c.key: c.value for c in chosen})):
        raise BadRequest(fault, "Change the settings, or leave them as the run has them.", parameter="set")
    return Hyperparameters(chosen, unknown)


def _read_given(given: Mapping[str, Any]) -> dict[str, Any]:
    faults, wanted = [], {}
    for name, value in given.items():
        key = ALIASES.get(name, name)
        if key not in KEYS:
            faults.append({"key": name, "message": "is no setting of the trainer"})
        elif key in FIXED:
            faults.append({"key": name, "message": "follows from the data and cannot be changed"})
        elif not KEYS[key].check(value):
            shown = json.dumps(value, default=str)[:80]
            faults.append({"key": name, "message": f"has to be {KEYS[key].means}, not {shown}"})
        elif key in wanted:
            faults.append({"key": name, "message": f"is given twice, also as {key}"})
        else:
            wanted[key] = value
    if faults:
        told = "; ".join(f"{f['key'][:100]} {f['message']}" for f in faults)
        raise BadRequest(f"Settings cannot be used: {told}.", f"There are {', '.join(KEYS)}.", faults=faults)
    return wanted


def _fill_micro_batch(values: dict[str, Chosen]) -> None:
    rows = values.get("rows_per_step")
    if values["micro_batch"].value is None and rows is not None:
        values["micro_batch"] = Chosen("micro_batch", rows.value, "not published: the portal's choice")


def _fault(values: Mapping[str, Any]) -> str | None:
    """What does not go together, in a sentence."""
    if values["row_length"] not in (values["sequence_length"], values["sequence_length"] + 1):
        return (
            f"The run's rows have {values['row_length']} ids and are trained on {values['sequence_length']}: the trainer "
            "takes rows of as many ids, or one more for the shifted targets."
        )
    floor, kind = values.get("schedule.floor", 0), values["schedule.kind"]
    if floor > values["schedule.peak"]:
        return f"schedule.floor {floor:g} is above schedule.peak {values['schedule.peak']:g}."
    if kind == "constant":
        return None
    warmup = values["schedule.warmup_steps"]
    begin = values["schedule.decay_from"] if kind == "warmup-stable-decay" else warmup
    if warmup > begin:
        return f"schedule.decay_from {begin} is before the warm-up ends at {warmup}."
    if values["schedule.decay_to"] <= begin:
        return (
            f"schedule.decay_to {values['schedule.decay_to']} is not after step {begin}, where the rate begins to fall."
        )
    return None


def _as_number(text: str) -> float | None:
    """YAML 1.1 reads 1e-8 as text."""
    try:
        return float(text)
    except ValueError:
        return None
