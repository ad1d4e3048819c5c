"""Labels: what a job asks of a worker, and which questions a worker's own labels answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations

from portal.errors import BadRequest

MAX_LABELS = 10
"""A worker's labels answer every subset of them, and all subsets go into one query."""
_KEY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")
_VALUE = re.compile(r"^[A-Za-z0-9._/:@+-]{0,100}$")


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels themselves; BadRequest for too many, or names and values that are none."""
    if len(labels) > MAX_LABELS:
        raise BadRequest(f"{len(labels)} labels are too many.", f"Use at most {MAX_LABELS}.", parameter="labels")
    for key, value in labels.items():
        if not _KEY.match(key) or not _VALUE.match(value):
            raise BadRequest(
                f"{f'{key}={value}'[:200]!r} cannot be a label.",
                "Write name=value in letters, digits and . _ - / : @ +.",
                parameter="labels",
            )
    return dict(labels)


def written_labels(labels: Mapping[str, str]) -> str:
    """One text per set of labels, whatever order they came in."""
    return "\n".join(f"{key}={labels[key]}" for key in sorted(labels))


def read_labels(text: str) -> dict[str, str]:
    """The labels of a `written_labels` text."""
    return dict(line.split("=", 1) for line in text.split("\n")) if text else {}


def answered_by(labels: Mapping[str, str]) -> list[str]:
    """Every text of needs that a worker with these labels meets."""
    keys = sorted(labels)
    return [
        written_labels({key: labels[key] for key in chosen})
        for size in range(len(keys) + 1)
        for chosen in combinations(keys, size)
    ]
