"""``python -m tests.battery [--long | --short] [--only NAME ...] [--json FILE]``: run the battery and print its figures.

Exits with 1 when anything was wrong or lost.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from pathlib import Path

from tests.battery.figures import FULL, LONG, SHORT, Figures, Scale, as_document, print_table

PARTS = (
    "museum",
    "api",
    "paths",
    "traps",
    "readers",
    "bombs",
    "text",
    "permissions",
    "web_kills",
    "worker_kills",
    "database_kills",
    "disk",
    "wires",
    "bits",
    "clocks",
    "races",
)
"""Modules beside this one, in the order they are run."""


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.battery", description=__doc__)
    parser.add_argument("--long", action="store_true", help="everything, for an hour or more")
    parser.add_argument("--short", action="store_true", help="a few seconds of each part")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=PARTS, help=f"of {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    asked = parser.parse_args()
    scale = LONG if asked.long else SHORT if asked.short else FULL
    found = {name: run_part(name, scale) for name in asked.only or PARTS}
    print_table(found)
    if asked.json:
        asked.json.write_text(json.dumps(as_document(found, scale), indent=2) + "\n")
    sys.exit(0 if all(figures.passed for figures in found.values()) else 1)


def run_part(name: str, scale: Scale) -> Figures:
    """One part, timed; an error of its own counts as wrong."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    try:
        figures: Figures = importlib.import_module(f"tests.battery.{name}").run(scale)
    except Exception as error:
        traceback.print_exc()
        figures = Figures("broke off", wrong=[f"the part itself broke off: {error!r}"])
    figures.seconds = time.monotonic() - started
    return figures


if __name__ == "__main__":
    main()
