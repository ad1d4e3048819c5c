"""trainer.json: what to train, on which rows, how; read strictly, so that nothing in it is silently ignored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portal.trainer.errors import BadInput
from portal.trainer.schedule import KINDS, check_schedule

FORMAT = "llm360-portal/trainer/1"
_MISSING = object()


@dataclass(frozen=True)
class Optimizer:
    """Adam's numbers; ``no_decay``: ``vectors`` spares parameters of one dimension from weight decay, ``none`` none."""

    name: str
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    no_decay: str


@dataclass(frozen=True)
class Numerics:
    """What results may depend on: threads (None: all cores), deterministic kernels, one instruction set for all CPUs."""

    threads: int | None
    deterministic: bool
    portable: bool


@dataclass(frozen=True)
class Training:
    """How each step is made; lengths in token ids, ``micro_batch`` in rows per forward pass and process."""

    sequence_length: int
    row_length: int
    rows_per_step: int
    micro_batch: int
    pad_id: int | None
    loss: str
    precision: str
    attention: str
    optimizer: Optimizer
    clip: float | None
    schedule: dict[str, Any]
    when_not_finite: str
    seed: int
    numerics: Numerics


@dataclass(frozen=True)
class Rows:
    """The row file: rows of ``first_step``, then of the next step, each ``row_length`` ids of ``dtype``."""

    file: Path
    dtype: str
    row_length: int
    lengths: Path | None
    source_names: tuple[str, ...]
    sources: Path | None


@dataclass(frozen=True)
class Settings:
    """A whole trainer.json; its paths resolved against its folder."""

    checkpoint: Path
    first_step: int
    last_step: int
    rows: Rows
    training: Training
    save_every: int | None
    output: Path
    resume: Path | None
    parallel: str
    device: str


class Fields:
    """One JSON object while it is read; every key has to be taken, every fault names its place."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise BadInput(f"`{where}` has to be a JSON object, it is {json.dumps(value)[:80]}.")
        self._left: dict[str, Any] = dict(value)
        self._where = where

    def take(
        self,
        key: str,
        kind: type | tuple[type, ...],
        default: object = _MISSING,
        *,
        allowed: Callable[[Any], bool] | Sequence[object] | None = None,
        means: str = "",
    ) -> Any:
        """The value of ``key``, of ``kind`` and ``allowed`` (a test or a list); ``means`` says what it has to be."""
        if key not in self._left:
            if default is _MISSING:
                raise BadInput(f"`{self._where}.{key}` is missing.")
            return default
        value = self._left.pop(key)
        if value is None and default is None:
            return None
        kinds = kind if isinstance(kind, tuple) else (kind,)
        # JSON's true is an int to Python, and a whole number is as good a float.
        fits = isinstance(value, kinds) or (float in kinds and type(value) is int)
        if not fits or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(k.__name__ for k in kinds)
            raise BadInput(f"`{self._where}.{key}` has to be {means or names}, it is {json.dumps(value)[:80]}.")
        if allowed is not None and not (allowed(value) if callable(allowed) else value in allowed):
            wanted = means or ("one of " + ", ".join(map(str, allowed)) if not callable(allowed) else "allowed")
            raise BadInput(f"`{self._where}.{key}` has to be {wanted}, it is {json.dumps(value)[:80]}.")
        return value

    def count(self, key: str, default: object = _MISSING, least: int = 1) -> Any:
        """A whole number of at least ``least``."""
        return self.take(key, int, default, allowed=lambda v: v >= least, means=f"a whole number from {least}")

    def number(self, key: str, default: object = _MISSING, least: float = 0.0) -> Any:
        """A finite number of at least ``least``, as float."""
        value = self.take(
            key,
            float,
            default,
            allowed=lambda v: math.isfinite(v) and v >= least,
            means=f"a number from {least:g}",
        )
        return None if value is None else float(value)

    def inner(self, key: str) -> Fields:
        """The object under ``key``."""
        return Fields(self.take(key, dict), f"{self._where}.{key}")

    def done(self) -> None:
        """Refuse what nobody took: a setting that is ignored would make the result a lie."""
        if self._left:
            raise BadInput(f"`{self._where}` has settings that this trainer does not know: {', '.join(self._left)}.")


def read_settings(path: Path) -> Settings:
    """Read and check ``path``; ``BadInput`` names the first thing that is wrong."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise BadInput(f"{path} is no JSON: {error}.") from None
    return parse_settings(document, path.parent.resolve())


def parse_settings(document: object, folder: Path) -> Settings:
    """The settings in ``document``; relative paths are taken from ``folder``."""
    top = Fields(document, "trainer")
    top.take("format", str, allowed=(FORMAT,))
    resume = top.take("resume", str, None)
    training = _training(top.inner("training"))
    settings = Settings(
        checkpoint=folder / top.take("checkpoint", str),
        first_step=top.count("first_step"),
        last_step=top.count("last_step"),
        rows=_rows(top.inner("rows"), folder),
        training=training,
        save_every=top.count("save_every", None),
        output=folder / top.take("output", str),
        resume=None if resume is None else folder / resume,
        parallel=top.take("parallel", str, "none", allowed=("none", "ddp", "fsdp")),
        device=top.take("device", str, "auto", allowed=("auto", "cpu", "cuda")),
    )
    top.done()
    if settings.last_step < settings.first_step:
        raise BadInput(f"`trainer.last_step` {settings.last_step} is before `first_step` {settings.first_step}.")
    if settings.rows.row_length != training.row_length:
        raise BadInput(
            f"`trainer.rows.row_length` {settings.rows.row_length} is not `trainer.training.row_length` {training.row_length}."
        )
    return settings


def parse_schedule(document: object, where: str = "schedule") -> dict[str, Any]:
    """A checked schedule: its kind and exactly the numbers that this kind has."""
    fields = Fields(document, where)
    kind = fields.take("kind", str, allowed=tuple(KINDS))
    schedule: dict[str, Any] = {"kind": kind}
    for key, default in KINDS[kind].items():
        take = fields.number if key in ("peak", "floor") else lambda k, d=_MISSING: fields.count(k, d, 0)
        schedule[key] = take(key) if default is None else take(key, default)
    fields.done()
    if fault := check_schedule(schedule):
        raise BadInput(f"`{where}`: {fault}.")
    return schedule


def _training(fields: Fields) -> Training:
    training = Training(
        sequence_length=fields.count("sequence_length"),
        row_length=fields.count("row_length", least=2),
        rows_per_step=fields.count("rows_per_step"),
        micro_batch=fields.count("micro_batch"),
        pad_id=fields.count("pad_id", None, 0),
        loss=fields.take("loss", str, allowed=("mean-of-rows", "mean-of-tokens")),
        precision=fields.take("precision", str, allowed=("float32", "bf16-mixed", "bfloat16")),
        attention=fields.take("attention", str, "sdpa", allowed=("sdpa", "eager")),
        optimizer=_optimizer(fields.inner("optimizer")),
        clip=fields.number("clip", None),
        schedule=parse_schedule(fields.take("schedule", dict), "trainer.training.schedule"),
        when_not_finite=fields.take("when_not_finite", str, allowed=("skip", "stop")),
        seed=fields.count("seed", least=0),
        numerics=_numerics(fields.inner("numerics")),
    )
    fields.done()
    if training.clip == 0:
        raise BadInput("`trainer.training.clip` 0 would erase every gradient; null clips nothing.")
    if training.row_length not in (training.sequence_length, training.sequence_length + 1):
        raise BadInput(
            f"`trainer.training.row_length` {training.row_length} has to be `sequence_length` "
            f"{training.sequence_length} or one more, the shifted targets."
        )
    return training


def _optimizer(fields: Fields) -> Optimizer:
    betas = fields.take(
        "betas",
        list,
        allowed=lambda v: len(v) == 2 and all(isinstance(b, int | float) and 0 <= b < 1 for b in v),
        means="two numbers from 0 to below 1",
    )
    made = Optimizer(
        name=fields.take("class", str, allowed=("AdamW", "Adam")),
        betas=(float(betas[0]), float(betas[1])),
        eps=fields.number("eps"),
        weight_decay=fields.number("weight_decay"),
        no_decay=fields.take("no_decay", str, allowed=("vectors", "none")),
    )
    fields.done()
    return made


def _numerics(fields: Fields) -> Numerics:
    made = Numerics(
        threads=fields.count("threads", None),
        deterministic=fields.take("deterministic", bool),
        portable=fields.take("portable", bool),
    )
    fields.done()
    return made


def _rows(fields: Fields, folder: Path) -> Rows:
    lengths = fields.take("lengths", str, None)
    given = fields.take("sources", dict, None)
    names, sources = (), None
    if given is not None:
        inner = Fields(given, "trainer.rows.sources")
        names = tuple(
            inner.take(
                "names",
                list,
                allowed=lambda v: 0 < len(v) <= 256 and all(isinstance(n, str) for n in v) and len(set(v)) == len(v),
                means="up to 256 different names",
            )
        )
        sources = folder / inner.take("file", str)
        inner.done()
    rows = Rows(
        file=folder / fields.take("file", str),
        dtype=fields.take("dtype", str, allowed=("u16", "u32")),
        row_length=fields.count("row_length", least=2),
        lengths=None if lengths is None else folder / lengths,
        source_names=names,
        sources=sources,
    )
    fields.done()
    return rows
