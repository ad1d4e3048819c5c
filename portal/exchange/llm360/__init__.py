"""The LLM360 releases: Amber and its fine-tunes, CrystalCoder, K2-65B.

What the public repositories fix in code (batch, seed, chunk and checkpoint names) is written here with its
source; what a folder holds (chunk order, phase parameters, downloaded chunks, branch lists) is read from it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from portal.errors import UsageError
from portal.exchange.draft import Draft
from portal.exchange.llm360 import amber, crystalcoder, finetunes, k2

RUNS: dict[str, Callable[[Path], Draft]] = {
    "llm360/amber": amber.import_amber,
    "llm360/amberchat": finetunes.import_amberchat,
    "llm360/ambersafe": finetunes.import_ambersafe,
    "llm360/crystalcoder": crystalcoder.import_crystalcoder,
    "llm360/k2-65b": k2.import_k2,
}


def import_layout(source: Path, run: str | None) -> Draft:
    """The manifest draft of ``run``, or of the run that ``source`` is recognised as."""
    name = run or _recognise(source)
    if name not in RUNS:
        raise UsageError(f"The llm360 layout has no run {name!r}.", f"Runs are {', '.join(RUNS)}.")
    return RUNS[name](source)


def _recognise(source: Path) -> str:
    """The run whose files lie in ``source``."""
    found = [
        name
        for name, marks in (
            ("llm360/k2-65b", (k2.ORDER_FILE,)),
            ("llm360/crystalcoder", (crystalcoder.parameters_file(1),)),
            ("llm360/amber", amber.MARKS),
        )
        if any(next(source.glob(mark), None) for mark in marks)
    ]
    if len(found) != 1:
        told = f"It could be {' or '.join(found)}." if found else "None of the files of an LLM360 release lies in it."
        raise UsageError(f"Cannot tell which LLM360 run {source} is. {told}", f"Name it with --run: {', '.join(RUNS)}.")
    return found[0]
