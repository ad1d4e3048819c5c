"""The same bytes at different steps: two checkpoints cannot both be what they claim.

A run whose weights do not change between two steps has not trained in between, so equal
weights at different steps mean that one of them was served under the wrong name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ScanInput, ScannedCheckpoint, ScannedChunk

STATE_ROLES = ("weights", "optimizer")


def find_duplicates(scanned: ScanInput) -> list[FoundFinding]:
    """Equal weights or optimizer state at different steps, single shards shared between steps, and equal chunks."""
    found = [finding for role in STATE_ROLES for finding in _duplicates_of(role, scanned.checkpoints)]
    return found + list(_same_chunks(scanned.chunks))


def _duplicates_of(role: str, checkpoints: list[ScannedCheckpoint]) -> Iterator[FoundFinding]:
    whole: dict[tuple[str, ...], list[ScannedCheckpoint]] = defaultdict(list)
    shards: dict[str, list[ScannedCheckpoint]] = defaultdict(list)
    for checkpoint in checkpoints:
        digests = sorted(f.sha256 for f in checkpoint.files if f.role == role and f.sha256)
        if digests and checkpoint.step is not None:
            whole[tuple(digests)].append(checkpoint)
            for digest in set(digests):
                shards[digest].append(checkpoint)
    reported: set[str] = set()
    for whole_state, group in whole.items():
        if len({c.step for c in group}) > 1:
            reported.update(whole_state)
            yield _same(role, whole_state, group)
    for digest, group in shards.items():
        if digest not in reported and len({c.step for c in group}) > 1:
            yield _shared_shard(role, digest, group)


def _same(role: str, digests: tuple[str, ...], group: list[ScannedCheckpoint]) -> FoundFinding:
    steps = _steps(group)
    return FoundFinding(
        code=f"same-{role}",
        severity="error",
        message=f"The {role} files at steps {_listed(steps)} are byte for byte the same; at most one of these steps is what it claims.",
        step=steps[0],
        evidence={"steps": steps, "sha256": list(digests)},
        subject="".join(digests),
    )


def _shared_shard(role: str, digest: str, group: list[ScannedCheckpoint]) -> FoundFinding:
    steps = _steps(group)
    return FoundFinding(
        code=f"shared-{role}-file",
        severity="warning",
        message=f"One {role} file is the same at steps {_listed(steps)} while others differ.",
        step=steps[0],
        evidence={"steps": steps, "sha256": [digest]},
        subject=digest,
    )


def _same_chunks(chunks: list[ScannedChunk]) -> Iterator[FoundFinding]:
    by_bytes: dict[tuple[str | None, ...], list[str]] = defaultdict(list)
    for chunk in chunks:
        digests = tuple(f.sha256 for f in chunk.files)
        if digests and None not in digests:
            by_bytes[digests].append(chunk.chunk.name)
    for digests, names in by_bytes.items():
        if len(names) > 1:
            shown = ", ".join(names[:6]) + (f" and {len(names) - 6:,} more" if len(names) > 6 else "")
            yield FoundFinding(
                "same-chunk",
                "warning",
                f"Chunks {shown} are byte for byte the same: who reads them all reads these rows again.",
                None,
                {"chunks": names[:100], "count": len(names)},
                "".join(d or "" for d in digests)[:640],
            )


def _steps(group: list[ScannedCheckpoint]) -> list[int]:
    return sorted({c.step for c in group if c.step is not None})


def _listed(steps: list[int]) -> str:
    shown = ", ".join(f"{s:,}" for s in steps[:6])
    return shown if len(steps) <= 6 else f"{shown} and {len(steps) - 6} more"
