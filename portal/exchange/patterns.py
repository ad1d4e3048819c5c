"""From long lists to the patterns a manifest line stands for; expanding them gives the lists back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

SHORTEST_RUN = 4
"""Fewer steps in a regular distance are listed one by one."""


def step_patterns(steps: Sequence[int]) -> list[dict[str, Any]]:
    """Step patterns that together name exactly ``steps`` (ascending, each once).

    Regular runs become ``{first, every, count}``, what lies between them ``{values}``.
    """
    patterns: list[dict[str, Any]] = []
    single: list[int] = []
    start = 0
    while start < len(steps):
        length = _regular_length(steps, start)
        if length >= SHORTEST_RUN:
            patterns += _values(single)
            single = []
            patterns.append({"first": steps[start], "every": steps[start + 1] - steps[start], "count": length})
            start += length
        else:
            single.append(steps[start])
            start += 1
    return patterns + _values(single)


def file_patterns(paths: Sequence[str]) -> list[dict[str, Any]]:
    """File entries that expand to exactly ``paths``, in order, repeats included.

    Neighbours that differ in one number counting up by one share an entry with ``shards``.
    """
    entries: list[dict[str, Any]] = []
    start = 0
    while start < len(paths):
        end, template, first = _counting_run(paths, start)
        if template is None:
            entries.append({"path": escape(paths[start])})
        else:
            entries.append({"path": template, "shards": {"first": first, "count": end - start}})
        start = end
    return entries


def escape(text: str) -> str:
    """Text as it must stand in a pattern so that expanding gives it back."""
    return text.replace("{", "{{").replace("}", "}}")


def _regular_length(steps: Sequence[int], start: int) -> int:
    if start + 1 >= len(steps):
        return 1
    every = steps[start + 1] - steps[start]
    end = start + 1
    while end + 1 < len(steps) and steps[end + 1] - steps[end] == every:
        end += 1
    return end - start + 1


def _values(steps: list[int]) -> list[dict[str, Any]]:
    return [{"values": steps}] if steps else []


def _counting_run(paths: Sequence[str], start: int) -> tuple[int, str | None, int]:
    """(end of the run, its template, its first number); no template for a run of one."""
    place = _counting_place(paths[start], paths[start + 1]) if start + 1 < len(paths) else None
    if place is None:
        return start + 1, None, 0
    parts = re.split(r"(\d+)", paths[start])
    width, first = len(parts[place]), int(parts[place])
    head, tail = "".join(parts[:place]), "".join(parts[place + 1 :])
    end = start
    while end < len(paths) and paths[end] == f"{head}{first + end - start:0{width}d}{tail}":
        end += 1
    number = f"{{shard:0{width}d}}" if width > 1 else "{shard}"
    return end, f"{escape(head)}{number}{escape(tail)}", first


def _counting_place(one: str, two: str) -> int | None:
    """Which number of ``one`` is one smaller in ``two``, everything else being equal."""
    left, right = re.split(r"(\d+)", one), re.split(r"(\d+)", two)
    if len(left) != len(right):
        return None
    differing = [k for k, (a, b) in enumerate(zip(left, right, strict=True)) if a != b]
    if len(differing) != 1 or not differing[0] % 2 or not left[differing[0]].isascii():
        return None
    place = differing[0]
    return place if f"{int(left[place]) + 1:0{len(left[place])}d}" == right[place] else None
