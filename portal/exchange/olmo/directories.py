"""Lists of checkpoint directories: ``Step,Checkpoint Directory``, read as they are and not as they should be."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

from portal.errors import DataFault, FileMissing
from portal.exchange.draft import Draft
from portal.exchange.labels import parse_name
from portal.exchange.olmo.runs import Run, find_file
from portal.exchange.patterns import escape, step_patterns
from portal.exchange.sources import read_table, refuse_lines, whole_numbers

_DIRECTORY_STEP = re.compile(r"/step(\d+)(?:-[^/]*)?/?$")
_CONTAINS = {"contains": ["weights", "optimizer", "rng", "config"], "dtype": "float32"}
"""What docs/Checkpoints.md says an unsharded directory holds; directories cannot be listed to check it."""


@dataclass(frozen=True)
class Row:
    """One row of a list."""

    line: int
    step: int
    directory: str

    @property
    def directory_step(self) -> int | None:
        """The step that the directory's own name speaks of."""
        found = _DIRECTORY_STEP.search(self.directory)
        return int(found[1]) if found else None

    @property
    def segment(self) -> str:
        """The folder that holds the checkpoint: one Weights & Biases run, or the whole run."""
        return self.directory.rstrip("/").rsplit("/", 2)[-2] if self.directory.count("/") > 1 else ""


def read_list(source: Path, run: Run) -> list[Row]:
    """Rows of the run's list by step; DataFault for rows that cannot be read, FileMissing without a list."""
    path = find_file(source, run.listing)
    if path is None:
        raise FileMissing(
            f"{source} holds no {run.listing}, the list of checkpoints of {run.name}.",
            "Give a checkout of allenai/OLMo that has it.",
        )
    rows = read_table(path, ("Step", "Checkpoint Directory", *(("Ingredient",) if run.ingredient else ())))
    if run.ingredient:
        numbers = whole_numbers(path, rows, "Ingredient")
        rows = [row for row, number in zip(rows, numbers, strict=True) if number == run.ingredient]
    steps = whole_numbers(path, rows, "Step")
    refuse_lines(
        path,
        [
            f"line {row.line}: {row['Checkpoint Directory']!r} is no address"
            for row in rows
            if "://" not in row["Checkpoint Directory"]
        ],
    )
    if not rows:
        raise DataFault(f"{path} lists no checkpoint of {run.name}.", "Check that this is the right list.")
    listed = [Row(row.line, step, row["Checkpoint Directory"]) for row, step in zip(rows, steps, strict=True)]
    return sorted(listed, key=lambda row: (row.step, row.line))


def last_listed_step(rows: Sequence[Row]) -> int:
    """The last step of the list."""
    return max(row.step for row in rows)


def add_checkpoints(draft: Draft, run: Run, rows: list[Row], last_step: int) -> None:
    """List every directory once, as patterns, with everything the list contradicts itself in."""
    rows = _drop_repeated(draft, rows)
    _find_shared_steps(draft, rows)
    _find_other_directories(draft, rows)
    named = {branch.step: branch.name for branch in run.branches}
    for template, steps in _by_template([row for row in rows if row.step not in named]):
        for pattern in step_patterns(steps):
            draft.add("checkpoints", {"steps": pattern, "location": template, **_CONTAINS})
    for row in rows:
        if row.step in named:
            draft.add(
                "checkpoints",
                {
                    "step": row.step,
                    "labels": [named[row.step]],
                    "location": escape(row.directory),
                    **_CONTAINS,
                    "note": f"On the Hub: hf://{run.repository}@{named[row.step]} (converted weights).",
                },
            )
    _add_ends(draft, run, rows, last_step)
    _find_rounded_labels(draft, run)
    _add_segments(draft, rows)


def _drop_repeated(draft: Draft, rows: list[Row]) -> list[Row]:
    kept: dict[tuple[int, str], Row] = {}
    for row in rows:
        first = kept.setdefault((row.step, row.directory), row)
        if first is not row:
            draft.find(
                "row-listed-twice",
                f"The list names step {row.step:,} twice with the same directory (lines {first.line} and {row.line}).",
                "info",
                row.step,
                directory=row.directory,
            )
    return list(kept.values())


def _find_shared_steps(draft: Draft, rows: list[Row]) -> None:
    by_step: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_step[row.step].append(row)
    for step, shared in by_step.items():
        if len(shared) > 1:
            draft.find(
                "step-in-two-directories",
                f"The list gives step {step:,} {len(shared)} directories; both are kept, which one is meant is "
                "not said.",
                "warning",
                step,
                directories=[row.directory for row in shared],
                lines=[row.line for row in shared],
            )


def _find_other_directories(draft: Draft, rows: list[Row]) -> None:
    for row in rows:
        if row.directory_step is not None and row.directory_step != row.step:
            draft.find(
                "directory-names-other-step",
                f"The list says step {row.step:,}, its directory is named step{row.directory_step} (line "
                f"{row.line}); the list's step is used.",
                "warning",
                row.step,
                directory=row.directory,
                directory_step=row.directory_step,
            )


def _by_template(rows: list[Row]) -> list[tuple[str, list[int]]]:
    """Locations with ``{step}`` filled in for many rows; a step stands at most once in each."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        groups[_template(row)].append(row.step)
    return sorted(groups.items(), key=lambda group: group[1][0])


def _template(row: Row) -> str:
    if row.directory_step != row.step:
        return escape(row.directory)
    head, _, tail = row.directory.rpartition(f"step{row.step}")
    return f"{escape(head)}step{{step}}{escape(tail)}"


def _add_ends(draft: Draft, run: Run, rows: list[Row], last_step: int) -> None:
    """The final state where the list stops short of it, and the soup made of later stages."""
    listed = last_listed_step(rows)
    if listed < last_step:
        name = next((branch.name for branch in run.branches if branch.step == last_step), None)
        entry: dict[str, Any] = {"step": last_step, "note": "Not in the list; the stage-2 configs load it."}
        if name:
            entry |= {
                "labels": [name],
                "location": f"hf://{run.repository}@{name}",
                "contains": ["weights", "config", "tokenizer"],
            }
        draft.add("checkpoints", entry)
        draft.find(
            "list-ends-early",
            f"The list ends at step {listed:,}; training went on to {last_step:,}.",
            "info",
            listed,
            last_listed=listed,
            last_step=last_step,
        )
    if run.soup:
        draft.add(
            "checkpoints",
            {
                "labels": ["main"],
                "location": f"hf://{run.repository}@main",
                "contains": ["weights", "config", "tokenizer"],
                "parents": [{"run": parent, "step": step} for parent, step in run.soup],
                "note": "Average of the three stage-2 anneals.",
            },
        )


def _find_rounded_labels(draft: Draft, run: Run) -> None:
    tokens_per_step = draft.document["training"].get("tokens_per_step")
    rounded = []
    for branch in run.branches:
        name = parse_name(branch.name)
        if name and name.tokens and tokens_per_step and branch.step * tokens_per_step != name.tokens:
            exact = branch.step * tokens_per_step
            rounded.append(
                {"label": branch.name, "tokens": exact, "rounded_up": ceil(exact / 1e9) * 10**9 == name.tokens}
            )
    if rounded:
        draft.find(
            "labels-round-tokens",
            f"Tokens in Hub labels are rounded (e.g. {rounded[0]['label']}: {rounded[0]['tokens']:,} tokens); "
            "counts here come from steps and batch.",
            "info",
            None,
            labels=rounded,
        )


def _add_segments(draft: Draft, rows: list[Row]) -> None:
    """Where the folder changes, training went on as another Weights & Biases run."""
    changes = [(before, after) for before, after in pairwise(rows) if before.segment != after.segment]
    for before, after in changes:
        draft.add(
            "events",
            {
                "step": after.step,
                "kind": "restart",
                "note": f"Checkpoints move from {before.segment} (last at step {before.step:,}) to "
                f"{after.segment}; training was restarted somewhere between.",
            },
        )
