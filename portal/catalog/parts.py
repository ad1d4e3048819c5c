"""Parts of a pair's checkpoint: weights alone, with the optimizer, or only the config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlmodel import Session

from portal.catalog.answers import Pair
from portal.catalog.release import load_facts
from portal.client.plan import ROLES_OF_PART
from portal.errors import BadRequest

PARTS = tuple(ROLES_OF_PART)


@dataclass(frozen=True)
class PairLimits:
    """How many steps of data each direction can have at a step; 0 where there is no such pair."""

    next: int
    previous: int
    batch: int


def pair_limits(session: Session, run: str, step: int) -> PairLimits:
    """What can be paired at ``step``; all 0 where no checkpoint lies before it."""
    facts = load_facts(session, run)
    holder, before = facts.checkpoint_before(step), facts.checkpoint_before(step - 1)
    here = holder.row.step or 0 if holder else 0
    return PairLimits(max((facts.last_step or 0) - here, 0) if holder else 0, here, 1 if step > 0 and before else 0)


def choose_parts(pair: Pair, parts: Sequence[str]) -> Pair:
    """The pair with only these parts of its checkpoint among its files and sums; none means all.

    The checkpoint itself stays described whole. BadRequest for a word that names no part.
    """
    unknown = next((part for part in parts if part not in ROLES_OF_PART), None)
    if unknown is not None:
        raise BadRequest(
            f"There is no part {unknown[:50]!r} of a checkpoint.", f"Parts are {', '.join(PARTS)}.", parameter="parts"
        )
    chosen = [part for part in PARTS if part in parts]
    if not chosen or len(chosen) == len(PARTS):
        return pair
    roles = set().union(*(ROLES_OF_PART[part] for part in chosen))
    left_out = {file.path for file in pair.checkpoint.files if file.role not in roles}
    files = [file for file in pair.files if file.path not in left_out]
    return replace(
        pair,
        files=files,
        total_bytes=sum(f.size for f in files if f.size is not None),
        unknown_sizes=sum(f.size is None for f in files),
        unhashed=sum(f.sha256 is None for f in files),
        parts=chosen,
    )


def parts_of(pair: Pair) -> list[str]:
    """Parts of which the checkpoint lists a file."""
    roles = {file.role for file in pair.checkpoint.files}
    return [part for part in PARTS if ROLES_OF_PART[part] & roles]
