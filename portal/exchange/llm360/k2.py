"""K2-65B: 360 chunks read in an order of its own, two of them postponed to the end.

Sources: LLM360/k2-train at 869fbb9 (``main.py``, ``scripts/pretrain_65b.sh``), LLM360/k2-data-prep at f69878c,
the card of LLM360/K2 and the K2 report (arXiv 2501.07124).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portal.errors import DataFault
from portal.exchange.draft import Draft
from portal.exchange.llm360.local_chunks import chunk_entries
from portal.exchange.sources import read_json

ORDER_FILE = "derived/chunk_order.json"
CHUNKS = 360
STAGE_2_CHUNKS = 20
STEPS_PER_CHUNK = 941
ROWS_PER_STEP = 2040
LAST_STEP = CHUNKS * STEPS_PER_CHUNK
REPORT = "https://arxiv.org/abs/2501.07124"
TRAINER = "https://github.com/LLM360/k2-train"


def import_k2(source: Path) -> Draft:
    """The manifest of llm360/k2-65b; the chunk order is read from ``derived/chunk_order.json``."""
    positions = _read_order(source / ORDER_FILE)
    draft = Draft(
        "llm360/k2-65b",
        {
            "kind": "pretrain",
            "title": "K2 65B",
            "description": "65 B English model trained by LLM360 on 1.4 T tokens; stage 1 is described here, of "
            "stage 2 (context extension, chunks 360 to 379) only the chunks. Metrics are on "
            "Weights & Biases only.",
            "license": {"code": "apache-2.0", "weights": "apache-2.0", "data": "odc-by"},
            "links": {
                "report": REPORT,
                "code": TRAINER,
                "model": "https://huggingface.co/LLM360/K2",
                "data": "https://huggingface.co/datasets/LLM360/K2Datasets",
                "data_preparation": "https://github.com/LLM360/k2-data-prep",
            },
            "model": {"architecture": "LlamaForCausalLM", "vocabulary": 32_032},
            "training": {
                "sequence_length": 2048,
                "row_length": 2048,
                "rows_per_step": ROWS_PER_STEP,
                "tokens_per_step": ROWS_PER_STEP * 2048,
                "last_step": LAST_STEP,
            },
            "cadence": STEPS_PER_CHUNK,
            "stages": [{"name": "stage1", "first_step": 1, "last_step": LAST_STEP}],
        },
    )
    _add_checkpoints(draft)
    _add_data(draft, source, positions)
    _add_config(draft)
    _add_postponed(draft, positions)
    return draft


def _read_order(path: Path) -> list[int]:
    """Chunk number by training position; every chunk of stage 1 exactly once."""
    document = read_json(path)
    order = document.get("chunk_at_position") if isinstance(document, dict) else None
    if not isinstance(order, list) or not all(isinstance(k, int) for k in order):
        raise DataFault(
            f"{path} has no list chunk_at_position of chunk numbers.", "Fetch or derive it again from k2-train main.py."
        )
    if sorted(order) != list(range(CHUNKS)):
        twice = sorted({k for k in order if order.count(k) > 1})
        absent = sorted(set(range(CHUNKS)) - set(order))
        raise DataFault(
            f"{path} is no order of the {CHUNKS} chunks: {len(order)} entries, repeated {twice[:10]}, absent "
            f"{absent[:10]}.",
            "Each of chunk 0 to 359 stands in it exactly once; derive it again from k2-train main.py.",
        )
    return order


def _add_checkpoints(draft: Draft) -> None:
    draft.add(
        "checkpoints",
        {
            "steps": {"first": STEPS_PER_CHUNK, "every": STEPS_PER_CHUNK, "count": CHUNKS},
            "index_from": 1,
            "labels": ["ckpt_{index:03d}"],
            "location": "hf://LLM360/K2@ckpt_{index:03d}",
            "note": "Named by rule, not looked at: 140 of 380 saved checkpoints are said to be uploaded, with "
            "optimizer states; which ones is not listed.",
        },
    )
    draft.find(
        "checkpoints-not-listed",
        "Of 380 checkpoints that were saved 140 are said to be public; the branches were not enumerated, so a "
        "location listed here may lead nowhere.",
        saved=380,
        uploaded=140,
        listed=CHUNKS,
        evidence_at=REPORT,
    )


def _add_config(draft: Draft) -> None:
    draft.add(
        "configs",
        {
            "first_step": 1,
            "values": {
                "learning_rate": 1.5e-4,
                "min_learning_rate": 1.5e-5,
                "lr_schedule": "cosine",
                "warmup_steps": 2000,
                "seed": 22238,
                "train_iters": LAST_STEP,
                "save_interval": STEPS_PER_CHUNK,
                "tensor_parallel": 8,
                "pipeline_parallel": 4,
            },
            "code": {"repo": TRAINER, "commit": "869fbb9", "path": "scripts/pretrain_65b.sh"},
            "note": "Arguments of the launch script.",
        },
    )


def _add_data(draft: Draft, source: Path, positions: list[int]) -> None:
    pattern = "chunk_{index}"
    shared: dict[str, Any] = {"format": "jsonl", "row_length": 2048}
    chunks, local = chunk_entries(
        source,
        ((k, f"chunk_{k}") for k in range(CHUNKS + STAGE_2_CHUNKS)),
        pattern,
        "hf://datasets/LLM360/K2Datasets/{name}.jsonl",
        shared,
    )
    draft.in_place = local > 0
    draft.document["data"] = {
        "chunks": chunks,
        "order": [
            {
                "first_step": 1,
                "last_step": LAST_STEP,
                "chunks": [f"chunk_{k}" for k in positions],
                "kind": "sequential",
                "per_chunk": True,
                "steps_per_chunk": STEPS_PER_CHUNK,
                "confidence": "chunk",
                "assumption": "the order of chunks is the one of the released trainer, which reads rows in file "
                "order; that one chunk feeds exactly 941 steps (1,919,640 rows) is inferred from "
                "train_iters = 360 x 941, the rows per chunk were not published",
            }
        ],
    }


def _add_postponed(draft: Draft, positions: list[int]) -> None:
    """Chunks that stand at the end although their number belongs further up."""
    tail = [k for k in positions[-2:] if k < CHUNKS - 2]
    for chunk in tail:
        follower = positions.index(chunk + 1)
        first = STEPS_PER_CHUNK * positions.index(chunk) + 1
        draft.add(
            "events",
            {
                "step": STEPS_PER_CHUNK * follower + 1,
                "kind": "chunk_postponed",
                "chunk": f"chunk_{chunk}",
                "note": f"Chunk {chunk} is not read here but at steps {first} to {first + STEPS_PER_CHUNK - 1}, "
                "at the end of stage 1; the report speaks of two loss spikes.",
                "evidence": f"{TRAINER}/blob/main/main.py",
            },
        )
    moved = sum(1 for position, chunk in enumerate(positions) if position != chunk)
    draft.find(
        "chunk-order-differs",
        f"{moved} of {CHUNKS} chunks were not read at the position of their number; "
        f"{' and '.join(str(k) for k in tail) or 'none'} were postponed to the end.",
        "info",
        moved=moved,
        postponed=tail,
    )
