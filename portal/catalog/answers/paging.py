"""One page of any list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page(Generic[Item]):
    """One page of a list; ``next`` is the cursor of the following one, None at the end."""

    items: list[Item]
    total: int
    next: str | None = None
