"""The tensors of a checkpoint, as the headers of its files describe them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorView:
    """One tensor; ``parameters`` is its number of elements."""

    name: str
    shape: list[int]
    dtype: str
    """As safetensors writes it: ``F32``, ``BF16``, ..."""
    parameters: int
    bytes: int
    file: str


@dataclass(frozen=True)
class TensorFile:
    """One file and what its header holds."""

    path: str
    role: str
    tensors: int
    parameters: int
    header_bytes: int
    metadata: dict[str, str]
    fault: str | None
    """Why its tensors are not listed, where they are not."""


@dataclass(frozen=True)
class TensorTable:
    """A page of tensors by name, with the sums over all that were asked for."""

    run: str
    step: int | None
    label: str | None
    role: str
    """Files looked at: ``weights``, ``optimizer``, ..."""
    roles: list[str]
    """Roles this checkpoint has files of."""
    files: list[TensorFile]
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    """Parameters by dtype."""
    disagreements: list[str]
    """Where the index of a sharded model and its shards contradict each other."""
    items: list[TensorView]
    total: int
    """Tensors whose name contains what was asked for."""
    next: str | None = None
