"""Runs the browser looks at: one with long curves, one whose every text is hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, insert
from tokenizers import pre_tokenizers

from portal.catalog.answers import FoundFinding
from portal.catalog.release import load_facts
from portal.database import open_session
from portal.exchange.publish import publish
from portal.exchange.sign_release import sign_release
from portal.models import Evaluation
from portal.settings import Settings
from portal.signing.keys import make_key
from tests.builders import byte_tokenizer, record, series_data

STEPS = 40_000
WIDE, DEEP = (2240, 2049), (2, 32_768)
"""Rows and token ids of the two batches of ``lab/wide``."""
SPIKE, NAN, INF = 23_456, 9_001, 31_000
ATTACKS = [
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<svg/onload=window.hit=1>",
    '"><iframe srcdoc="<script>parent.hit=1</script>">',
    "'-(window.hit=1)-'",
    "{{ 7*7 }}${7*7}<%= 7*7 %>",
    "javascript:window.hit=1",
    "</title></textarea></style><script>window.hit=1</script>",
    '" autofocus onfocus="window.hit=1',
    "<details open ontoggle=window.hit=1>x</details>",
    "</pre></b><a href=javascript:window.hit=1 id=trap>press</a>",
    "\u202egnirts\u2066 \u200b\ufeff\x1b]8;;http://evil.example\x07link\x1b]8;;\x07 \x1b[31mred",
]
EVERYTHING = " ".join(ATTACKS)
EQUAL = FoundFinding("equal-weights", "error", "Two checkpoints hold the same bytes.", 5000, {"steps": [5000, 6000]})
"""What was found in ``lab/long``."""
SHORT = " ".join(ATTACKS[:4])
"""Where the manifest limits the length."""


def long_run(engine: Engine, settings: Settings) -> int:
    """``lab/long``: 40,000 steps, three series with a spike, a NaN and an infinity, 40 checkpoints, 40 chunks."""
    random = np.random.default_rng(3)
    steps = np.arange(1, STEPS + 1)
    loss = 2 + 8 / (1 + steps / 200) ** 0.6 + random.normal(0, 0.02, STEPS)
    loss[SPIKE - 1], loss[NAN - 1], loss[INF - 1] = 7.5, np.nan, np.inf
    norm = 0.5 + random.gamma(2, 0.05, STEPS)
    rate = 3e-4 * np.minimum(steps / 500, 1)
    document: dict[str, Any] = {
        "format": "llm360-portal/release/1",
        "run": "lab/long",
        "title": "A long run",
        "description": "Forty thousand steps.",
        "synthetic": True,
        "model": {"architecture": "LlamaForCausalLM", "parameters": 7_000_000},
        "cadence": 1000,
        "training": {
            "last_step": STEPS,
            "sequence_length": 16,
            "row_length": 17,
            "rows_per_step": 4,
            "tokens_per_step": 64,
        },
        "checkpoints": [
            {
                "steps": {"first": 1000, "every": 1000, "count": 40},
                "labels": ["ckpt_{index:03d}"],
                "contains": ["weights"],
            }
            | {"location": "hf://lab/long@ckpt_{index:03d}"}
        ],
        "data": {
            "chunks": [
                {"names": {"pattern": "c{index:03d}", "count": 40}, "format": "jsonl", "rows": 4000}
                | {
                    "files": [{"path": "hf://datasets/lab/long@main/c{index:03d}.jsonl"}],
                    "sources": {"web": 0.7, "code": 0.3},
                }
            ],
            "order": [
                {
                    "first_step": 1,
                    "last_step": STEPS,
                    "chunks": {"pattern": "c{index:03d}", "count": 40},
                    "kind": "sequential",
                }
            ],
        },
        "events": [
            {"step": SPIKE, "kind": "spike", "note": "It came back by itself."},
            {"step": NAN, "kind": "nan_loss"},
        ],
        "configs": [{"values": {"lr": 0.0003, "seed": 1}, "first_step": 1}],
    }
    series = [
        series_data("train/loss", steps, loss, unit="nats"),
        series_data("train/grad_norm", steps, norm),
        series_data("train/lr", steps, rate),
        series_data("system/temperature", steps[::10], random.normal(70, 1, STEPS // 10), group="system"),
    ]
    findings = [EQUAL]
    return record(engine, settings, document, None, series, findings)


def wide_run(engine: Engine, settings: Settings, folder: Path) -> int:
    """``lab/wide``: step 1 reads a batch of Amber's size, step 2 two rows of 32,768 tokens; no step after has bytes."""
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(byte_tokenizer().to_str())
    random = np.random.default_rng(5)
    shapes = {"wide": WIDE, "deep": DEEP}
    for name, shape in shapes.items():
        ids = random.integers(33, 90, shape).astype("<u2")
        ids[:, 5::6] = 220
        ids[:, 400::700] = 258
        ids.tofile(folder / f"{name}.bin")
    chunks = [
        {"name": name, "files": [{"path": f"{name}.bin"}], "format": "flat", "dtype": "u16"}
        | {"rows": shape[0], "row_length": shape[1]}
        for name, shape in shapes.items()
    ]
    chunks.append({"name": "far", "files": [{"path": "hf://datasets/lab/far@main/far.jsonl"}], "format": "jsonl"})
    batches = [("wide", 1, WIDE), ("deep", 2, DEEP), ("far", 3, DEEP)]
    document: dict[str, Any] = {
        "run": "lab/wide",
        "tokenizer": "tokenizer.json",
        "training": {"last_step": 3},
        "stages": [
            {"name": name, "first_step": step, "last_step": step, "rows_per_step": shape[0]}
            | {"sequence_length": 2048 if name == "wide" else shape[1], "row_length": shape[1]}
            | {"tokens_per_step": shape[0] * (2048 if name == "wide" else shape[1])}
            for name, step, shape in batches
        ],
        "data": {
            "chunks": [*chunks[:2], chunks[2] | {"rows": DEEP[0]}],
            "order": [
                {"first_step": step, "last_step": step, "chunks": [name], "kind": "sequential"}
                for name, step, _ in batches
            ],
        },
    }
    return record(engine, settings, document, folder)


def hostile_run(engine: Engine, settings: Settings, folder: Path) -> int:
    """``lab/hostile``: markup, scripts and control characters wherever a release may put text."""
    folder.mkdir(parents=True)
    tokenizer = byte_tokenizer()
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    rows = [tokenizer.encode(text, add_special_tokens=False).ids for text in ATTACKS]
    length = max(map(len, rows))
    lines = [json.dumps({"token_ids": row + [260] * (length - len(row)), "source": EVERYTHING}) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    order = {"first_step": 1, "last_step": 1, "chunks": ["rows"], "kind": "sequential", "assumption": EVERYTHING}
    document: dict[str, Any] = {
        "run": "lab/hostile",
        "title": SHORT,
        "description": EVERYTHING,
        "license": {"code": EVERYTHING},
        "links": {"paper": "javascript:window.hit=1", "code": EVERYTHING},
        "tokenizer": "tokenizer.json",
        "training": {"last_step": 1, "sequence_length": length, "row_length": length, "rows_per_step": len(rows)},
        "stages": [{"name": SHORT, "first_step": 1, "last_step": 1, "note": EVERYTHING}],
        "checkpoints": [
            {"step": 1, "labels": [ATTACKS[1]], "dtype": EVERYTHING, "note": EVERYTHING, "contains": ["weights"]}
        ],
        "data": {
            "chunks": [
                {"name": "rows", "files": [{"path": "rows.jsonl"}], "format": "jsonl", "rows": len(rows)}
                | {"sources": {EVERYTHING: 1.0}, "note": EVERYTHING}
            ],
            "order": [order],
        },
        "configs": [
            {"values": {EVERYTHING: EVERYTHING}, "first_step": 1, "note": EVERYTHING, "code": {"repo": EVERYTHING}}
        ],
        "events": [{"step": 1, "kind": "note", "note": EVERYTHING, "evidence": "javascript:window.hit=1"}],
    }
    series = [
        series_data(ATTACKS[1], [1, 2], [1.0, 2.0], unit=EVERYTHING, description=EVERYTHING, reduction=EVERYTHING)
    ]
    findings = [FoundFinding("made-up", "warning", EVERYTHING, 1, {"what": EVERYTHING})]
    return record(engine, settings, document, folder, series, findings)


def child_run(engine: Engine, settings: Settings) -> int:
    """``lab/child``: goes on from ``lab/long`` with batches twice as large; the same loss and an evaluation."""
    steps = np.arange(1, 10_001)
    document: dict[str, Any] = {
        "run": "lab/child",
        "kind": "finetune",
        "parent": {"run": "lab/long", "step": STEPS},
        "synthetic": True,
        "training": {"last_step": 10_000, "row_length": 17, "sequence_length": 16, "rows_per_step": 8}
        | {"tokens_per_step": 128},
        "checkpoints": [{"step": 10_000, "files": [], "location": "hf://lab/child@main"}],
    }
    series = [
        series_data("train/loss", steps, 2 + 3 / steps),
        series_data("eval/arc", steps[999::1000], np.linspace(0.2, 0.5, 10), group="eval"),
        *(series_data(f"layer/{k:03d}/norm", steps[::1000], np.full(10, k * 1.0), group="layer") for k in range(400)),
        series_data("broken", steps[:50], np.full(50, np.nan)),
        series_data("once", [5], [1.5]),
    ]
    return record(engine, settings, document, None, series)


def measured_run(engine: Engine, settings: Settings, folder: Path) -> None:
    """``lab/measured``: published and signed, with evaluations under several shots and versions."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    document = {
        "format": "llm360-portal/release/1",
        "run": "lab/measured",
        "training": {"last_step": 40},
        "checkpoints": [{"step": 40, "files": [{"path": "model.safetensors"}]}],
    }
    (folder / "release.yaml").write_text(json.dumps(document))
    publish(folder, settings, engine)
    sign_release(folder, "lab/measured", settings, engine, make_key(folder.parent / "measured.key"))
    with open_session(engine) as session:
        release = load_facts(session, "lab/measured").head.id
        common = {"release_id": release, "suite": "harness", "by": "authors", "source": "e.json"}
        rows = [
            common | {"task": task, "metric": metric, "step": step, "value": 0.2 + shots / 100 + step / 200}
            | {"shots": shots, "version": version, "stderr": 0.01}
            for task, metric in (("arc", "acc"), ("hellaswag", "acc_norm"), ("wikitext", "word_perplexity"))
            for shots, version in ((0, "1"), (25, "1"), (25, "2"))
            for step in (10, 20, 30, 40)
        ]  # fmt: skip
        session.connection().execute(insert(Evaluation.__table__), rows)
        session.commit()
