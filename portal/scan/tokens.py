"""Tokens that do not add up: declared counts against batch shape times steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ScanInput
from portal.manifest import chunks_of, stages_of
from portal.manifest.expand import tokens_after

MOST_OF_SOURCES = 1.02
"""What shares of sources may add up to, rounded as people round."""


def find_token_disagreements(scanned: ScanInput) -> list[FoundFinding]:
    """Declared tokens of checkpoints, stages and chunks that their own arithmetic contradicts."""
    return [*_checkpoints(scanned), *_decreasing(scanned), *_stages(scanned), *_chunks(scanned), *_sources(scanned)]


def _checkpoints(scanned: ScanInput) -> Iterator[FoundFinding]:
    stages = stages_of(scanned.manifest)
    for checkpoint in (c.checkpoint for c in scanned.checkpoints):
        if not checkpoint.tokens_declared or checkpoint.step is None:
            continue
        expected = tokens_after(checkpoint.step, stages)
        if expected is not None and expected != checkpoint.tokens:
            yield FoundFinding(
                "tokens-disagree",
                "warning",
                f"Step {checkpoint.step:,} declares {checkpoint.tokens:,} tokens; its stages add up to {expected:,}.",
                checkpoint.step,
                {"declared": checkpoint.tokens, "computed": expected},
            )


def _decreasing(scanned: ScanInput) -> Iterator[FoundFinding]:
    known = [c.checkpoint for c in scanned.checkpoints if c.step is not None and c.checkpoint.tokens is not None]
    for before, after in itertools.pairwise(known):
        if (after.tokens or 0) < (before.tokens or 0):
            yield FoundFinding(
                "tokens-decrease",
                "error",
                f"Step {after.step:,} has seen fewer tokens ({after.tokens:,}) than step {before.step:,} ({before.tokens:,}).",
                after.step,
                {"before": before.tokens, "after": after.tokens},
            )


def _stages(scanned: ScanInput) -> Iterator[FoundFinding]:
    for stage in stages_of(scanned.manifest):
        if not (stage.tokens_per_step and stage.rows_per_step and stage.sequence_length):
            continue
        product = stage.rows_per_step * stage.sequence_length
        if product != stage.tokens_per_step:
            yield FoundFinding(
                "batch-disagrees",
                "warning",
                f"Stage {stage.name} declares {stage.tokens_per_step:,} tokens a step; {stage.rows_per_step:,} rows of "
                f"{stage.sequence_length:,} tokens are {product:,}.",
                stage.first_step,
                {"declared": stage.tokens_per_step, "computed": product},
                stage.name,
            )


def _chunks(scanned: ScanInput) -> Iterator[FoundFinding]:
    for chunk in (c.chunk for c in scanned.chunks):
        if chunk.tokens is None or chunk.rows is None or chunk.row_length is None:
            continue
        product = chunk.rows * chunk.row_length
        if product != chunk.tokens:
            yield FoundFinding(
                "chunk-tokens-disagree",
                "warning",
                f"Chunk {chunk.name} declares {chunk.tokens:,} tokens; {chunk.rows:,} rows of {chunk.row_length:,} are {product:,}.",
                None,
                {"chunk": chunk.name, "declared": chunk.tokens, "computed": product},
                chunk.name,
            )


def _sources(scanned: ScanInput) -> Iterator[FoundFinding]:
    sums = {c.name: sum(c.sources.values()) for c in chunks_of(scanned.manifest) if c.sources}
    beyond = {name: total for name, total in sums.items() if total > MOST_OF_SOURCES}
    if beyond:
        name, total = next(iter(beyond.items()))
        yield FoundFinding(
            "sources-disagree",
            "warning",
            f"Sources of {len(beyond):,} chunks add up to more than the whole, first {name}: {total:.1%}.",
            None,
            {"chunks": list(beyond)[:100], "count": len(beyond)},
        )
