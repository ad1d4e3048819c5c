"""What a job needs of memory, disk and network, by rule of thumb."""

from __future__ import annotations

from dataclasses import dataclass

from portal.catalog.jobs.fitting import Needs
from portal.jobs.specs import Draft

LIBRARIES = 512 << 20
"""Bytes that torch and transformers take by themselves."""
_BYTES = {"float32": 4, "bf16-mixed": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Estimate:
    """In bytes."""

    memory: int
    """Of the trainer, on each GPU or in the machine: weights, gradients, moments, activations of one micro-batch."""
    disk: int
    """Of the worker: checkpoint, chunks, rows, and every checkpoint to be written."""
    download: int
    of_workers: Needs


def estimate(draft: Draft) -> Estimate:
    """The needs of a request that was looked up."""
    values = {c.key: c.value for c in draft.settings.chosen}
    parameters, width = _parameters(draft), _BYTES.get(str(values.get("precision")), 4)
    tokens = int(values.get("micro_batch") or 1) * int(values.get("sequence_length") or 1)
    vocabulary = int(draft.facts.head.model.get("vocabulary") or 50_000)
    # Weights and gradients in their own width, two moments in float32, logits and their gradient, the libraries.
    memory = parameters * (2 * width + 8) + tokens * vocabulary * 8 + LIBRARIES
    checkpoint = parameters * (width + 8) + (1 << 20)
    chunks = sum(int(f["size"] or 0) for f in draft.chunk_files)
    rows = draft.plan.interval.rows * int(values.get("row_length") or 0) * 4 if draft.plan else 0
    download = draft.base.bytes + chunks + len(draft.plan_bytes)
    every = max(draft.request.save_every or (draft.facts.head.cadence or 2) // 2, 1)
    saves = (draft.last_step - draft.first_step + 1) // every + 1
    disk = download + rows + checkpoint * saves
    gpus = draft.request.gpus
    # Every process reads the whole model into the machine's memory before its GPU has it.
    host = gpus * (parameters * width + LIBRARIES)
    return Estimate(memory, disk, download, Needs(gpus, draft.request.labels, memory, host, disk))


def _parameters(draft: Draft) -> int:
    weights = (f for f in draft.base.files if f["role"] == "weights" or f["path"].startswith("model"))
    return int(draft.facts.head.model.get("parameters") or 0) or sum(int(f["size"] or 0) for f in weights) // 4
