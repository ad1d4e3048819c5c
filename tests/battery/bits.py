"""Bits that flip at rest: every one is found."""

from __future__ import annotations

from tests.battery.figures import Figures, Scale
from tests.battery.gathered import gather


def run(scale: Scale) -> Figures:
    """100 flips here and 100 elsewhere, on both databases."""
    tests = ["tests/scan/test_fixity.py", "-k", "100 or flipped"]
    return gather("bits flipped at rest, all found", tests, {"flipped": "injected", "": "tried"})
