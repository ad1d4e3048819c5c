"""Unmodified clients of the Hub, old and new, read runs from the portal: every call is one test."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import SETS


def _names() -> Iterator[str]:
    """Names of the calls, read from the sources: the packages they need are not in this environment."""
    for path in sorted(Path(__file__).parent.glob("calls_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and [getattr(d, "id", "") for d in node.decorator_list] == ["call"]:
                yield node.name


PLACES = ("here", "s3")
"""Where the bytes lie: on the portal's own machine, or on an S3 server whose signed addresses clients are sent to."""
CASES = [
    pytest.param(each, place, name, marks=pytest.mark.xdist_group(f"clients-{each}"), id=f"{each}-{place}-{name}")
    for each in SETS
    for place in PLACES
    for name in _names()
]


# The first of a set waits for all of them, and for the environment where everything is required.
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("clients", "place", "name"), CASES)
def test_call(calls: Callable[[str, str], dict[str, dict[str, Any]]], clients: str, place: str, name: str) -> None:
    done = calls(clients, place)[name]
    assert done["passed"], done.get("why")
