"""Whose list is it: checkpoint directories name the run they were written by."""

from __future__ import annotations

from portal.exchange.draft import Draft
from portal.exchange.olmo.directories import Row
from portal.exchange.olmo.runs import RUNS, Run


def find_foreign_list(draft: Draft, run: Run, rows: list[Row]) -> bool:
    """True, with a finding, when the list's directories are those of another run.

    A run is recognised by Weights & Biases ids that only its directories carry. Rows of another run are not
    attributed to this one: the manifest then has no checkpoints.
    """
    segments = {row.segment for row in rows}
    owners = [other for other in RUNS.values() if other.segments and other.segments <= segments]
    foreign = [other for other in owners if other.name != run.name]
    if not foreign:
        return False
    owner = foreign[0]
    draft.find(
        "list-of-another-run",
        f"{run.listing} lists the checkpoints of {owner.name}, not of this run: its {len(rows)} directories lie "
        f"in that run's folders ({', '.join(sorted(owner.segments))}). None of them is attributed to {run.name}.",
        "error",
        None,
        owner=owner.name,
        rows=len(rows),
        folders=len(segments),
        first=rows[0].directory,
        last=rows[-1].directory,
    )
    draft.notes.append(f"{run.listing} belongs to {owner.name}; import it as --run {owner.name}.")
    return True
