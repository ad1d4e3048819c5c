"""Words every part of a manifest is written in: counts, names, files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_INT = 2**53 - 1
"""Largest step, token or byte count: exact in JSON, JavaScript and 64-bit databases alike."""


Count = Annotated[int, Field(ge=0, le=MAX_INT, strict=True)]
Positive = Annotated[int, Field(ge=1, le=MAX_INT, strict=True)]
RunName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,95}/[a-z0-9][a-z0-9._-]{0,95}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(max_length=20_000)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Confidence = Literal["exact", "reconstructed", "chunk", "unknown"]
Role = Literal[
    "weights",
    "optimizer",
    "scheduler",
    "rng",
    "data_position",
    "config",
    "tokenizer",
    "code",
    "data",
    "index",
    "metrics",
    "evaluation",
    "other",
]


class Part(BaseModel):
    """Base of every manifest part: no unknown keys, immutable once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shards(Part):
    """``{shard}`` in a path runs from ``first`` for ``count`` files."""

    first: Count = 0
    count: Positive


class File(Part):
    """One file: path relative to the manifest, or a URI (``hf://``, ``s3://``, ``https://``).

    With ``shards`` it stands for many, in order: ``{shard}`` in the path is filled in as by
    ``str.format``; size and digest are then not known.
    """

    path: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    size: Count | None = None
    sha256: Sha256 | None = None
    role: Role | None = None
    shards: Shards | None = None


class NamePattern(Part):
    """``pattern.format(index=first + k)`` for ``k < count``."""

    pattern: Label
    first: Count = 0
    count: Positive
