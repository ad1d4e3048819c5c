"""What SQLAlchemy made of statements, kept over all engines of one test process: each test has an engine of its own."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from functools import partial
from typing import Any

from sqlalchemy import create_engine

import portal.database

MOST = 5_000
"""Statements kept; some are made for a number of rows that never comes again."""


class Statements(MutableMapping[Any, Any]):
    """A cache of compiled statements that tells databases apart by their kind alone, not by their engine."""

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def __getitem__(self, key: Any) -> Any:
        return self._kept[_of_kind(key)]

    def __setitem__(self, key: Any, compiled: Any) -> None:
        if len(self._kept) >= MOST:
            self._kept.clear()
        self._kept[_of_kind(key)] = compiled

    def __delitem__(self, key: Any) -> None:
        del self._kept[_of_kind(key)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def share_statements() -> None:
    """Let every engine that the portal makes from now on keep its statements in one place."""
    portal.database.create_engine = partial(create_engine, execution_options={"compiled_cache": Statements()})


def _of_kind(key: Any) -> Any:
    dialect, *rest = key
    return dialect.name, dialect.driver, *rest
