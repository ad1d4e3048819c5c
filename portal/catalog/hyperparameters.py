"""Configs as flat settings: one dotted name for every value, however deep it was written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def flatten(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """``{"optimizer": {"lr": 1}}`` as ``{"optimizer.lr": 1}``; lists stay whole, empty objects too."""
    return dict(_walk(values, before))


def written(value: Any) -> str:
    """A value as it is shown and compared: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _walk(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{before}.{key}" if before else str(key)
        if isinstance(value, Mapping) and value:
            yield from _walk(value, name)
        else:
            yield name, value
