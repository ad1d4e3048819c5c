"""Bring compose.yaml up on this machine's engine and use it as a visitor and an operator would: ``make compose-check``.

``bridges`` as an argument looks at .compose/bridges.yaml (nginx in front, a worker on Ray) instead.
"""

from __future__ import annotations

import sys

from tests.compose.bridges import check_bridges
from tests.compose.engine import missing, tell
from tests.compose.plain import check_plain

CHECKS = {"plain": check_plain, "bridges": check_bridges}


def main(wanted: list[str]) -> int:
    """0 where all that could be looked at is right."""
    lacking = missing()
    if lacking:
        tell(f"skipped: {lacking}")
        return 0
    for name in wanted or ["plain"]:
        CHECKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
