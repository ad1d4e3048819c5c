"""What a search found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchHit:
    """One thing that was found."""

    kind: str
    """``run``, ``step``, ``checkpoint``, ``chunk``, ``file``, ``series``, ``config``, ``event`` or ``finding``."""
    run: str
    name: str
    detail: str
    """One line about it."""
    step: int | None = None
    key: str = ""
    """What its page is found by: step or label of a checkpoint, name of a chunk, id of a finding."""
    owner: str = ""
    """What ``key`` names for a file: ``checkpoint`` or ``chunk``; empty for files of the run itself."""
    exact: bool = False
    """True where the query is its whole name, number or hash."""


@dataclass(frozen=True)
class SearchGroup:
    """What was found of one kind, exact matches first."""

    kind: str
    hits: list[SearchHit]
    """The first of them."""
    found: int
    """How many there are, or how many had been counted when counting stopped."""
    complete: bool
    """False where counting stopped, so that there may be more than ``found``."""


@dataclass(frozen=True)
class SearchAnswer:
    """Everything found, by kind."""

    query: str
    run: str | None
    """The run that was searched; None for all of them."""
    groups: list[SearchGroup]
    notes: list[str]
    """What could not be looked up, and why."""
