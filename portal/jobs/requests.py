"""What somebody asks for when they submit a job: checked in form, not yet looked up."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from portal.manifest.schema import MAX_INT, Label, RunName

Whole = Annotated[int, Field(ge=0, le=MAX_INT, strict=True)]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Strict(BaseModel):
    """A misspelt key would ask for something else than was meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataRequest(Strict):
    """Which rows to train on."""

    kind: Literal["original", "chunks", "mix"] = "original"
    chunks: Annotated[list[Label], Field(max_length=10_000)] = []
    """Of ``chunks``: those to read. Of ``mix``: those to draw from; empty: those the run reads in these steps."""
    weights: Annotated[dict[Label, Weight], Field(max_length=1000)] = {}
    """Of ``mix``: how much more often a source comes than it lies there; others count 1."""
    seed: Whole = 17
    shuffle: bool = True
    repeat: bool = False
    """Of ``chunks``: whether rows may be read again when all were read."""


class JobRequest(Strict):
    """A job as it is asked for."""

    kind: Literal["resume", "replay"] = "resume"
    run: RunName
    step: Whole
    """Of the checkpoint to go on from."""
    steps: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] | None = None
    """How many steps to train; default: up to the next checkpoint."""
    data: DataRequest = DataRequest()
    set: Annotated[dict[Annotated[str, StringConstraints(max_length=100)], Any], Field(max_length=100)] = {}
    """Hyper-parameters that are to differ from the run's (and those the run has not published)."""
    labels: Annotated[dict[str, str], Field(max_length=10)] = {}
    """What the worker must be labelled with."""
    priority: Annotated[int, Field(ge=-100, le=100, strict=True)] = 0
    gpus: Annotated[int, Field(ge=0, le=1024, strict=True)] = 0
    save_every: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] | None = None
    """Partial checkpoints at multiples of this step; default: half the distance of the run's checkpoints."""
    seconds: Annotated[int, Field(ge=1, le=365 * 86400, strict=True)] = 86_400
    """The longest an attempt may take."""
