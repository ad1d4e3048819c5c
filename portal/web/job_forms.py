"""The form of a job: its fields as text, what they mean as a request, and what of them differs from the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError
from starlette.datastructures import QueryParams

from portal.catalog.facts import ReleaseFacts
from portal.catalog.steps import order_at
from portal.errors import BadRequest, PortalError
from portal.jobs.hyperparameters import KEYS, resolve
from portal.jobs.requests import JobRequest
from portal.jobs.settings_of_runs import settings_of

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Learning rate", tuple(k for k in KEYS if k.startswith("schedule."))),
    ("Optimizer", (*(k for k in KEYS if k.startswith("optimizer.")), "clip")),
    ("Batch and precision", ("rows_per_step", "micro_batch", "pad_id", "loss", "precision", "attention")),
    ("How it runs", ("when_not_finite", "seed", *(k for k in KEYS if k.startswith("numerics.")))),
)
NAMES = {
    "schedule.kind": "shape",
    "schedule.peak": "highest rate",
    "schedule.floor": "lowest rate",
    "schedule.warmup_steps": "warm-up steps",
    "schedule.decay_from": "falls from step",
    "schedule.decay_to": "lowest at step",
    "schedule.start_step": "counted from step",
    "optimizer.class": "optimizer",
    "optimizer.betas": "betas",
    "optimizer.eps": "epsilon",
    "optimizer.weight_decay": "weight decay",
    "optimizer.no_decay": "not decayed",
    "clip": "gradient clipping",
    "rows_per_step": "rows of a step",
    "micro_batch": "rows of a forward pass",
    "pad_id": "padding token",
    "loss": "loss",
    "precision": "precision",
    "attention": "attention",
    "when_not_finite": "at a loss that is not finite",
    "seed": "seed of the model",
    "numerics.threads": "threads",
    "numerics.deterministic": "deterministic",
    "numerics.portable": "same on every CPU",
}
CHOICES = {
    "schedule.kind": ("warmup-stable-decay", "cosine", "linear", "constant"),
    "optimizer.class": ("AdamW", "Adam"),
    "optimizer.no_decay": ("vectors", "none"),
    "loss": ("mean-of-rows", "mean-of-tokens"),
    "precision": ("float32", "bf16-mixed", "bfloat16"),
    "attention": ("sdpa", "eager"),
    "when_not_finite": ("skip", "stop"),
    "numerics.deterministic": ("true", "false"),
    "numerics.portable": ("true", "false"),
}
KINDS, DATA = ("resume", "replay"), ("original", "chunks", "mix")
MOST_CHUNKS = 400
"""Chunks with a box to tick; others are named."""
MOST_SOURCES = 60
_PLAIN = ("steps", "seed", "labels", "gpus", "priority", "save_every", "hours", "chunks")
_USUAL = {"kind": "resume", "data": "original", "seed": "17", "gpus": "0", "priority": "0", "hours": "24"}


@dataclass(frozen=True)
class Field:
    """One hyper-parameter in the form."""

    key: str
    name: str
    means: str
    usual: str
    """As the run has it, or the portal's choice; empty where nobody says."""
    origin: str
    value: str
    choices: tuple[str, ...]
    unknown: bool
    """Neither published nor chosen: it has to be said."""

    @property
    def changed(self) -> bool:
        """Whether the job is to differ from the run here."""
        return self.value != self.usual


@dataclass(frozen=True)
class Wish:
    """A form as it was filled in, every field as text."""

    kind: str
    data: str
    plain: Mapping[str, str]
    ticked: tuple[str, ...]
    weights: Mapping[str, str]
    settings: Mapping[str, str]
    unshuffled: bool
    repeat: bool

    def query(self, usual: Mapping[str, str]) -> str:
        """The address's query that fills the form in the same way; what is usual is left out."""
        pairs = [("kind", self.kind), ("data", self.data), *self.plain.items()]
        kept = [(k, v) for k, v in pairs if v and v != _USUAL.get(k, "")]
        kept += [("chunk", name) for name in self.ticked]
        kept += [(f"weight:{k}", v) for k, v in self.weights.items() if v not in ("", "1")]
        kept += [(f"set:{k}", v) for k, v in self.settings.items() if v and v != usual.get(k, "")]
        kept += [("unshuffled", "1")] * self.unshuffled + [("repeat", "1")] * self.repeat
        return urlencode(kept)


@dataclass(frozen=True)
class FormFacts:
    """What the form offers for one checkpoint."""

    groups: list[tuple[str, list[Field]]]
    usual: dict[str, str]
    chunks: list[tuple[str, int | None]]
    """Names and rows, those that come next first; at most 400."""
    chunks_total: int
    sources: list[str]
    """Of the chunks the run reads here, as they are declared."""
    next_step: int | None
    """Of the next checkpoint."""


def read_wish(fields: QueryParams) -> Wish:
    """The form as an address or a submission fills it in; unknown words fall back to what is usual."""
    kind, data = fields.get("kind", ""), fields.get("data", "")
    return Wish(
        kind if kind in KINDS else "resume",
        data if data in DATA and kind != "replay" else "original",
        {name: fields.get(name, _USUAL.get(name, "")).strip() for name in _PLAIN},
        tuple(dict.fromkeys(name for name in fields.getlist("chunk") if name)),
        {k.removeprefix("weight:"): v.strip() for k, v in fields.multi_items() if k.startswith("weight:")},
        {k.removeprefix("set:"): v.strip() for k, v in fields.multi_items() if k.startswith("set:")},
        bool(fields.get("unshuffled")),
        bool(fields.get("repeat")),
    )


def form_facts(facts: ReleaseFacts, step: int, wish: Wish) -> FormFacts:
    """What can be chosen from ``step`` on, filled in as ``wish`` says."""
    known = settings_of(facts, step + 1)
    usual, origins = _usual(known)
    groups = [(title, [_field(key, usual, origins, wish) for key in keys]) for title, keys in GROUPS]
    following = facts.checkpoint_after(step)
    next_step = following.row.step if following else None
    coming = [s.chunk for s in facts.spans.over(step + 1, next_step or facts.last_step)]
    names = list(dict.fromkeys([*coming, *facts.chunks]))
    order = order_at(facts, step + 1) or order_at(facts, facts.last_step)
    read = order.entry.chunks if order else facts.chunks
    sources = dict.fromkeys(s for name in read if name in facts.chunks for s in facts.chunks[name].row.sources)
    return FormFacts(
        groups,
        usual,
        [(name, facts.chunk_rows.get(name)) for name in names[:MOST_CHUNKS]],
        len(names),
        list(sources)[:MOST_SOURCES],
        next_step,
    )


def request_of(wish: Wish, run: str, step: int, usual: Mapping[str, str]) -> JobRequest:
    """The job that the form asks for. BadRequest names every field that cannot be read."""
    body = {"kind": wish.kind, "run": run, "step": step, **_numbers(wish)}
    data = _data(wish)
    if data != {"kind": "original"}:
        body["data"] = data
    changed = {k: _value(v) for k, v in wish.settings.items() if v and v != usual.get(k, "")}
    if changed:
        body["set"] = changed
    if wish.plain["labels"]:
        body["labels"] = _labels(wish.plain["labels"])
    try:
        return JobRequest.model_validate(body)
    except ValidationError as error:
        faults = [{"key": ".".join(str(p) for p in f["loc"]), "message": f["msg"]} for f in error.errors()[:20]]
        told = "; ".join(f"{f['key']}: {f['message']}" for f in faults)
        raise BadRequest(f"The form cannot be used as it is: {told}.", "Correct these fields.", faults=faults) from None


def request_json(request: JobRequest) -> dict[str, Any]:
    """The request as short as it can be written: what is usual is left out."""
    return {"kind": request.kind, "run": request.run, "step": request.step} | request.model_dump(
        mode="json", exclude_defaults=True
    )


def _usual(known: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    try:
        chosen = resolve(known, {}).chosen
    except PortalError:
        # What the run says of itself does not go together: the preflight tells it, the form is still there.
        return {k: _text(s.value) for k, s in known.items() if k in KEYS}, {k: s.origin for k, s in known.items()}
    return {c.key: _text(c.value) for c in chosen}, {c.key: c.origin for c in chosen}


def _field(key: str, usual: Mapping[str, str], origins: Mapping[str, str], wish: Wish) -> Field:
    there = usual.get(key, "")
    kind = usual.get("schedule.kind", "")
    silent = key not in usual and key.startswith("schedule.") and bool(kind)
    return Field(
        key, NAMES[key], KEYS[key].means, there, origins.get(key, ""),
        wish.settings.get(key, "") or there, CHOICES.get(key, ()), key not in usual and not silent,
    )  # fmt: skip


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _value(text: str) -> Any:
    """JSON where it is some, else the text itself."""
    try:
        return json.loads(text, parse_constant=lambda word: word)
    except ValueError:
        return text


def _numbers(wish: Wish) -> dict[str, int]:
    found = {k: _whole(k, wish.plain[k]) for k in ("steps", "gpus", "priority", "save_every") if wish.plain[k]}
    if wish.plain["hours"] not in ("", _USUAL["hours"]):
        try:
            found["seconds"] = round(float(wish.plain["hours"]) * 3600)
        except (ValueError, OverflowError):
            raise BadRequest(f"hours is {wish.plain['hours'][:40]!r}.", "Write a number.", parameter="hours") from None
    return found


def _whole(name: str, text: str) -> int:
    try:
        if len(text) > 18:
            raise ValueError
        return int(text)
    except ValueError:
        raise BadRequest(f"{name} is {text[:40]!r}.", "Write a whole number.", parameter=name) from None


def _data(wish: Wish) -> dict[str, Any]:
    """Only what the chosen kind of data asks for."""
    if wish.data == "original":
        return {"kind": "original"}
    named = [name.strip() for name in wish.plain["chunks"].replace("\n", ",").split(",") if name.strip()]
    data: dict[str, Any] = {"kind": wish.data, "chunks": list(dict.fromkeys([*wish.ticked, *named]))}
    if wish.plain["seed"]:
        data["seed"] = _whole("seed", wish.plain["seed"])
    if wish.data == "chunks":
        return data | ({"shuffle": False} if wish.unshuffled else {}) | ({"repeat": True} if wish.repeat else {})
    weights = {name: _weight(name, text) for name, text in wish.weights.items() if text not in ("", "1")}
    return data | {"weights": weights}


def _weight(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadRequest(
            f"The weight of {name[:100]} is {text[:40]!r}.", "Write a number from 0; 1 leaves it as it is."
        ) from None


def _labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    pieces: Sequence[str] = [piece.strip() for piece in text.replace("\n", ",").split(",") if piece.strip()]
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if not equals:
            raise BadRequest(f"{piece[:60]!r} is no label.", "Write name=value, several by commas.", parameter="labels")
        labels[key.strip()] = value.strip()
    return labels
