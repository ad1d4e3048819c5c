"""Stores whose answers are spoilt on their way: the fault proxy's cells over S3, a Hub and a web server."""

from __future__ import annotations

from tests.battery.figures import Figures, Scale
from tests.battery.gathered import gather


def run(scale: Scale) -> Figures:
    """Every fault over every way of reading, on every kind of store."""
    return gather(
        "answers spoilt on their way, each read right or refused", ["tests/storage/test_faults.py"], {"": "injected"}
    )
