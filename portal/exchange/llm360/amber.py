"""Amber 7B: 360 checkpoints, 360 chunks, an order rebuilt from the released trainer, and what went wrong on the way.

Sources: LLM360/amber-train at 64bc595 (``main.py``, ``main_utils.py``), the LLM360 paper (arXiv 2312.06550,
sections 4.1.1, 4.1.3 and 4.1.5, table 2), the cards of LLM360/Amber and LLM360/AmberDatasets.
"""

from __future__ import annotations

from pathlib import Path

from portal.exchange.draft import Draft
from portal.exchange.llm360.local_chunks import chunk_entries

CHUNKS = 360
STEPS_PER_CHUNK = 762
ROWS_PER_STEP = 2240
ROWS_PER_CHUNK = 1_706_976
LAST_STEP = CHUNKS * STEPS_PER_CHUNK
SEED = 11111

PAPER = "https://arxiv.org/abs/2312.06550"
TRAINER = "https://github.com/LLM360/amber-train"
MARKS = ("train/train_*.jsonl*", "train_[0-9]*.jsonl*", "good_sample.jsonl", "analysis/memorization/data/train_*.jsonl")
"""Files by which a folder is recognised: downloaded chunks, or data of amber-data-prep and Analysis360."""

TOKENS_BY_SOURCE = {
    "arxiv": 30.00,
    "book": 28.86,
    "c4": 197.67,
    "refinedweb": 665.01,
    "starcoderdata": 291.92,
    "stackexchange": 21.75,
    "wikipedia": 23.90,
}
"""Billions of token ids, table 2 of the paper; keys as rows spell their ``source``."""


ASSUMPTION = (
    "the released trainer seeds numpy with 11111 + chunk once per process start and draws one "
    "permutation per chunk, so this holds if training was restarted before every chunk; restart points "
    "were never published. It also takes chunk k to be the k-th read, which the four skipped chunks "
    "contradict from the first skip on. 96 rows of every chunk are dropped, which ones depends on the "
    "shuffle"
)
"""On which the reconstructed order rests."""


def step_of_checkpoint(index: int) -> int:
    """The step after which ``ckpt_<index>`` was saved: chunk ``index`` (from 0) had been read."""
    return STEPS_PER_CHUNK * (index + 1)


def import_amber(source: Path) -> Draft:
    """The manifest of llm360/amber; chunks that lie in ``source`` are listed as local files."""
    draft = Draft(
        "llm360/amber",
        {
            "kind": "pretrain",
            "title": "Amber 7B",
            "description": "English LLaMA-7B architecture trained from scratch on 1.26 T tokens by LLM360; 360 "
            "checkpoints and 360 data chunks are released. Training metrics are on the project's "
            "Weights & Biases pages only and are not part of this manifest.",
            "license": {"code": "apache-2.0", "weights": "apache-2.0", "data": "odc-by"},
            "links": {
                "paper": PAPER,
                "code": TRAINER,
                "model": "https://huggingface.co/LLM360/Amber",
                "data": "https://huggingface.co/datasets/LLM360/AmberDatasets",
                "data_preparation": "https://github.com/LLM360/amber-data-prep",
                "metrics": "https://wandb.ai/llm360/projects",
                "analysis": "https://github.com/LLM360/Analysis360",
            },
            "model": {"architecture": "LlamaForCausalLM", "parameters": 6_738_415_616, "vocabulary": 32_000},
            "training": {
                "sequence_length": 2048,
                "row_length": 2049,
                "rows_per_step": ROWS_PER_STEP,
                "tokens_per_step": ROWS_PER_STEP * 2048,
                "last_step": LAST_STEP,
            },
            "cadence": STEPS_PER_CHUNK,
        },
    )
    _add_checkpoints(draft)
    _add_data(draft, source)
    _add_config(draft)
    _add_events(draft)
    _add_findings(draft)
    return draft


def _add_checkpoints(draft: Draft) -> None:
    shared = {"contains": ["weights", "config", "tokenizer"]}
    draft.add(
        "checkpoints",
        {
            "steps": {"first": STEPS_PER_CHUNK, "every": STEPS_PER_CHUNK, "count": CHUNKS - 1},
            "labels": ["ckpt_{index:03d}"],
            "location": "hf://LLM360/Amber@ckpt_{index:03d}",
            **shared,
        },
        {
            "step": LAST_STEP,
            "labels": ["ckpt_359", "main"],
            "location": "hf://LLM360/Amber@main",
            "note": "The card calls branch main ckpt_359.",
            **shared,
        },
    )


def _add_data(draft: Draft, source: Path) -> None:
    total = sum(TOKENS_BY_SOURCE.values())
    pattern = "train_{index:03d}"
    shared = {
        "format": "jsonl",
        "rows": ROWS_PER_CHUNK,
        "row_length": 2049,
        "sources": {name: round(tokens / total, 5) for name, tokens in TOKENS_BY_SOURCE.items()},
        "note": "Source shares are those of the whole mix (paper, table 2). The file is sorted by source, not in "
        "training order.",
    }
    chunks, local = chunk_entries(
        source,
        ((k, pattern.format(index=k)) for k in range(CHUNKS)),
        pattern,
        "hf://datasets/LLM360/AmberDatasets/train/{name}.jsonl",
        shared,
    )
    draft.in_place = local > 0
    draft.document["data"] = {
        "chunks": chunks,
        "order": [
            {
                "first_step": 1,
                "last_step": LAST_STEP,
                "chunks": {"pattern": pattern, "first": 0, "count": CHUNKS},
                "kind": "permutation",
                "rng": "numpy-RandomState",
                "seed": SEED,
                "per_chunk": True,
                "steps_per_chunk": STEPS_PER_CHUNK,
                "confidence": "reconstructed",
                "assumption": ASSUMPTION,
                "repeats": "Chunks 0 to 3 were read again at the end in place of the four skipped ones (paper, 4.1.5).",
            }
        ],
    }


def _add_config(draft: Draft) -> None:
    draft.add(
        "configs",
        {
            "first_step": 1,
            "values": {
                "optimizer": "AdamW",
                "learning_rate": 3e-4,
                "min_learning_rate": 3e-5,
                "lr_schedule": "cosine",
                "warmup_steps": 2000,
                "beta1": 0.9,
                "beta2": 0.95,
                "weight_decay": 0.1,
                "gradient_clipping": 1.0,
                "gpus": 224,
                "rows_per_gpu": 10,
                "seed": "11111 + index of the next checkpoint, at every process start",
            },
            "code": {"repo": TRAINER, "commit": "64bc595", "path": "main.py"},
            "note": "Constants of main.py and the paper's section 4.1.1; there is no config file.",
        },
    )


def _add_events(draft: Draft) -> None:
    """What section 4.1.5 of the paper tells; when it happened was never published."""
    told = [
        (
            "nan_loss",
            "The loss became NaN on four of the 360 chunks, wherever in training they were tried; when and on "
            "which was not published.",
        ),
        ("chunk_skipped", "Those four chunks were skipped whole; their numbers are in no repository."),
        (
            "restart",
            "Every resume began with a new optimizer state: only model weights were saved. When it was resumed "
            "was not published.",
        ),
        (
            "precision_change",
            "Early checkpoints were saved in BF16, later ones in FP32; at which one it changed was not published.",
        ),
    ]
    draft.add(
        "events",
        *({"step": None, "kind": kind, "note": f"{note} (Section 4.1.5.)", "evidence": PAPER} for kind, note in told),
    )
    again = "One of the first four chunks, trained on again to complete the learning-rate schedule."
    draft.add(
        "events",
        *(
            {
                "step": None,
                "kind": "chunk_repeated",
                "chunk": f"train_{k:03d}",
                "note": f"{again} (Section 4.1.5.)",
                "evidence": PAPER,
            }
            for k in range(4)
        ),
    )


def _add_findings(draft: Draft) -> None:
    draft.find(
        "order-unconfirmed",
        "Four chunks were skipped and the first four read again, so from the first skip on checkpoint k need not "
        "follow chunk k; the skipped numbers were never published.",
        chunks_skipped=4,
        evidence_at=f"{PAPER} section 4.1.5",
    )
    draft.find(
        "chunk-order-differs",
        "Published chunk files are sorted by source (arxiv, book, c4, refinedweb, stackexchange, starcoderdata, "
        "wikipedia); the trainer shuffled each chunk. Lines in file order are not what the model read in order.",
        "info",
        checked_on=["train_143", "train_355"],
    )
    draft.find(
        "rows-dropped",
        f"{ROWS_PER_CHUNK - STEPS_PER_CHUNK * ROWS_PER_STEP} of the {ROWS_PER_CHUNK:,} rows of every chunk were "
        "not trained on.",
        "info",
        rows_per_chunk=ROWS_PER_CHUNK,
        rows_read=STEPS_PER_CHUNK * ROWS_PER_STEP,
    )
    draft.find(
        "tokens-counted-differently",
        "The card's 1,259.13 B tokens count every stored id (rows x 2049); the model was trained on 1,258.45 B "
        "(steps x batch x 2048).",
        "info",
        stored=CHUNKS * ROWS_PER_CHUNK * 2049,
        trained=LAST_STEP * ROWS_PER_STEP * 2048,
    )
    draft.find(
        "optimizer-state-lost",
        "No optimizer state was kept at any checkpoint; the released trainer saves one, so it is not the code "
        "that ran.",
        "info",
        evidence_at=f"{PAPER} section 4.1.5",
        code="amber-train main_utils.py save_checkpoint",
    )
    draft.find("license-contradicts", "The data card says Apache 2.0 in its text and ODC-By in its metadata.", "info")
