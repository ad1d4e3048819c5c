"""Hostile text in a real browser: nothing of it runs, asks for anything, or breaks out of its place."""

from __future__ import annotations

from tests.battery.figures import Figures, Scale
from tests.battery.gathered import gather


def run(scale: Scale) -> Figures:
    """The browser's own battery, and the files that are made of hostile text."""
    tests = ["tests/browser/test_hostile_text.py", "tests/web/test_hostile_answers.py"]
    return gather("hostile texts on pages and in files", tests, {"payloads": "tried", "": "tried"})
