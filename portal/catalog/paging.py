"""Pages of lists: limits and cursors, checked in one place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from portal.catalog.answers import Page
from portal.errors import BadRequest

Item = TypeVar("Item")

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_CURSOR = re.compile(r"^(\d{1,12})\.(\d{1,12})$")


def check_limit(limit: int) -> int:
    """The limit itself; BadRequest outside 1 to 1000."""
    if not 1 <= limit <= MAX_LIMIT:
        raise BadRequest(
            f"limit is {limit}, outside 1 to {MAX_LIMIT}.", "Ask for several pages with `cursor`.", parameter="limit"
        )
    return limit


def slice_page(items: Sequence[Item], version: int, limit: int, cursor: str | None) -> Page[Item]:
    """One page of a list that is complete in memory; cursors hold for one version of the run."""
    start = read_cursor(version, cursor)
    end = start + check_limit(limit)
    return Page(list(items[start:end]), len(items), make_cursor(version, end) if end < len(items) else None)


def check_text(text: str, parameter: str) -> str:
    """The text itself; BadRequest for a NUL, which PostgreSQL cannot store or compare."""
    if "\0" in text:
        raise BadRequest(f"{parameter} contains a NUL character.", "Leave it out.", parameter=parameter)
    return text


def make_cursor(version: int, offset: int) -> str:
    """Where the next page begins, tied to the version it was made for."""
    return f"{version}.{offset}"


def read_cursor(version: int, cursor: str | None) -> int:
    """The offset in ``cursor``; BadRequest when it is malformed or was made for another version."""
    if not cursor:
        return 0
    found = _CURSOR.match(cursor)
    if found is None:
        raise BadRequest(
            "The cursor is not one this portal handed out.", "Start again without `cursor`.", parameter="cursor"
        )
    if int(found[1]) != version:
        raise BadRequest(
            "The run was published again since this cursor was handed out.",
            "Start again without `cursor`.",
            parameter="cursor",
        )
    return int(found[2])
