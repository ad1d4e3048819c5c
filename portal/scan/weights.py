"""What a checkpoint lacks: weights that are no weights, shards that their own names count, state that its neighbours have."""

from __future__ import annotations

import re
from collections.abc import Iterator

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ScanInput, ScannedCheckpoint
from portal.scan.dtypes import Dtypes

RESUMED_WITH = ("optimizer",)
"""Roles without which training cannot go on as it was."""
ENOUGH_TO_EXPECT = 3
"""Fewer checkpoints with a part do not show that the others should have it."""

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.[A-Za-z0-9.]+)")


def find_incomplete_checkpoints(scanned: ScanInput, dtypes: Dtypes) -> list[FoundFinding]:
    """Broken weight files, missing shards, and states lost at some steps; ``dtypes`` are the headers as read."""
    released = [c for c in scanned.checkpoints if not c.checkpoint.missing]
    found = [f for c in released for f in (*_unreadable(c, dtypes), *_missing_shards(c))]
    return found + [f for role in RESUMED_WITH for f in _missing_state(role, released)]


def _unreadable(checkpoint: ScannedCheckpoint, dtypes: Dtypes) -> Iterator[FoundFinding]:
    for file in checkpoint.files:
        fault = dtypes.get(file.uri)
        if isinstance(fault, str):
            yield FoundFinding(
                "weights-unreadable",
                "error",
                f"Weights of {_where(checkpoint)} cannot be loaded: {fault}",
                checkpoint.step,
                {"path": file.path, "sha256": file.sha256},
                file.uri,
            )


def _missing_shards(checkpoint: ScannedCheckpoint) -> Iterator[FoundFinding]:
    sets: dict[tuple[str, int, str], set[int]] = {}
    for file in checkpoint.files:
        shard = _SHARD.fullmatch(file.path)
        if shard:
            sets.setdefault((shard["stem"], int(shard["count"]), shard["ending"]), set()).add(int(shard["number"]))
    for (stem, count, ending), held in sets.items():
        # Names are not believed to the end: one could count to 99,999.
        first = next((number for number in range(1, count + 1) if number not in held), None)
        if first is None:
            continue
        name = f"{stem}-{first:05d}-of-{count:05d}{ending}"
        yield FoundFinding(
            "shard-missing",
            "error",
            f"Of {_where(checkpoint)} there are {len(held):,} of {count:,} shards; {name} is not among its files.",
            checkpoint.step,
            {"held": len(held), "count": count, "first_missing": name},
            f"{stem}{ending}",
        )


def _missing_state(role: str, released: list[ScannedCheckpoint]) -> Iterator[FoundFinding]:
    known = [c for c in released if c.step is not None and (c.files or c.checkpoint.contains)]
    lacking = [c for c in known if role not in _parts(c)]
    having = len(known) - len(lacking)
    if not lacking or having < ENOUGH_TO_EXPECT or having <= len(lacking):
        return
    steps = sorted({c.step for c in lacking if c.step is not None})
    shown = ", ".join(f"{s:,}" for s in steps[:6]) + (f" and {len(steps) - 6:,} more" if len(steps) > 6 else "")
    yield FoundFinding(
        "state-missing",
        "warning",
        f"{having:,} checkpoints hold {role} state; {len(steps):,} do not, at step {shown}: training cannot go on from there as it was.",
        steps[0],
        {"role": role, "steps": steps[:1000], "count": len(steps), "having": having},
        role,
    )


def _parts(checkpoint: ScannedCheckpoint) -> set[str]:
    return set(checkpoint.checkpoint.contains or ()) | {f.role for f in checkpoint.files}


def _where(checkpoint: ScannedCheckpoint) -> str:
    if checkpoint.step is not None:
        return f"step {checkpoint.step:,}"
    return ", ".join(checkpoint.checkpoint.labels) or "a checkpoint without a step"
