"""The permission matrix: every route by every role, and without a token."""

from __future__ import annotations

from tests.battery.figures import Figures, Scale
from tests.battery.gathered import gather


def run(scale: Scale) -> Figures:
    """Routes that are open to nobody but some."""
    tests = ["tests/web/test_permissions.py", "-k", "role or token or secret"]
    return gather("requests by role", tests, {"asked": "tried", "": "tried"})
