"""Bodies of the routes of workers and jobs, with their limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from portal.manifest.schema import MAX_INT, Role, Sha256

Word = Annotated[str, StringConstraints(max_length=200)]
Sentence = Annotated[str, StringConstraints(max_length=20_000)]
Number = Annotated[int, Field(ge=0, le=MAX_INT, strict=True)]
Few = Annotated[int, Field(ge=0, le=100_000, strict=True)]
Labels = Annotated[dict[str, Annotated[str, StringConstraints(max_length=100)]], Field(max_length=50)]


class Lenient(BaseModel):
    """What workers send: keys of later versions are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class DeviceBody(Lenient):
    """A GPU of a worker."""

    name: Word = ""
    memory: Number | None = None
    """Bytes."""


class MachineBody(Lenient):
    """What a worker's machine has, in bytes."""

    devices: Annotated[list[DeviceBody], Field(max_length=1024)] = []
    memory: Number | None = None
    disk: Number | None = None


class AttachBody(Lenient):
    """A worker that comes."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    executor: Word = "process"
    gpus: Few = 0
    labels: Labels = {}
    version: Word = ""
    trainer: Annotated[dict[str, Any], Field(max_length=50)] = {}
    machine: MachineBody = MachineBody()
    host: Word = ""


class LeaseBody(Lenient):
    """A worker that asks for a job."""

    free_gpus: Few = 0
    free_slots: Few = 1
    wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """Seconds; more than 30 are 30."""
    draining: bool = False
    registration: Number | None = None
    """As POST /workers answered: an agent in whose place another one came is refused."""


class BeatBody(Lenient):
    """An attempt that is alive."""

    fence: Number
    phase: Literal["preparing", "engine_pending", "running", "publishing"]
    step: Number | None = None
    ext_ref: Word | None = None
    message: Sentence | None = None
    host: Word | None = None


class PointBody(Lenient):
    """One number of one step; what is not finite comes by name."""

    step: Any
    name: Any
    value: Any


class MetricsBody(Lenient):
    """Numbers of an attempt."""

    fence: Number
    points: Annotated[list[PointBody], Field(max_length=10_000)]


class OutputFile(Lenient):
    """A file of a checkpoint, uploaded before."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    size: Number
    sha256: Sha256
    role: Role = "other"


class OutputsBody(Lenient):
    """A checkpoint that is handed in."""

    fence: Number
    step: Number
    kind: Literal["partial", "final"]
    files: Annotated[list[OutputFile], Field(min_length=1, max_length=10_000)]


class CompleteBody(Lenient):
    """How an attempt ended."""

    fence: Number
    outcome: Literal["succeeded", "failed", "preempted", "cancelled", "lost"]
    exit_code: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    retryable: bool = False
    message: Sentence = ""
    environment: Annotated[dict[str, Any], Field(max_length=500)] = {}
    log_sha256: Sha256 | None = None
