"""Small runs for tests: a manifest with its files on disk, or a manifest alone, recorded in a catalog."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from portal.catalog.answers import FoundFinding
from portal.catalog.record import record_findings, record_release
from portal.catalog.recorded import RecordedConfig, RecordedFile, ReleaseRecord
from portal.database import open_session
from portal.manifest import Manifest, checkpoints_of, chunks_of, orders_of, stages_of
from portal.manifest.expand import FileEntry
from portal.metrics.series import SeriesData, write_series
from portal.settings import Settings
from portal.tokens.orders import chunk_spans
from tests.snapshots import Snapshot, is_untouched, put_back, take_snapshot

VOCABULARY = 260
ROW_LENGTH = 16
ROWS_PER_STEP = 4
MINIMAL = {"format": "llm360-portal/release/1", "run": "lab/run", "training": {"last_step": 100}}


@dataclass(frozen=True)
class SmallRun:
    """What `small_run` made: 20 steps of 4 rows, checkpoints every 5 steps, two chunks of 40 rows read in order."""

    run: str
    release_id: int
    folder: Path
    rows: np.ndarray
    """uint16[80, 16]: row ``4 * (step - 1) + k`` is row ``k`` of the step's batch."""
    loss: np.ndarray
    """float64[20]: NaN at step 7, infinite at step 13."""


def small_run(engine: Engine, settings: Settings, folder: Path, run: str = "lab/small", **changes: Any) -> SmallRun:
    """A run with all its bytes in ``folder``; ``changes`` replace parts of the manifest.

    Recorded once in a process; into the empty databases of later tests its rows and files are put back as they were.
    """
    key = (engine.dialect.name, run, repr(changes))
    store = settings.data / "store"
    made = _MADE.get(key)
    if made is not None and is_untouched(engine):
        put_back(made.snapshot, engine, folder, store, _words(made.text, settings, folder))
        return replace(made.run, folder=folder, rows=made.run.rows.copy(), loss=made.run.loss.copy())
    untouched = made is None and not folder.exists() and not store.exists() and is_untouched(engine)
    first = _small_run(engine, settings, folder, run, changes)
    if untouched:
        text = Manifest.model_validate(MINIMAL | SMALL | {"run": run} | changes).model_dump_json()
        _MADE[key] = _Made(take_snapshot(engine, folder, store, _words(text, settings, folder)), first, text)
    return first


@dataclass(frozen=True)
class _Made:
    snapshot: Snapshot
    run: SmallRun
    text: str
    """Of its manifest."""


_MADE: dict[tuple[str, str, str], _Made] = {}


def _words(text: str, settings: Settings, folder: Path) -> dict[str, str]:
    return {"folder": str(folder), "data": str(settings.data), "fingerprint": _fingerprint(text, folder)}


def _small_run(engine: Engine, settings: Settings, folder: Path, run: str, changes: Mapping[str, Any]) -> SmallRun:
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(7).integers(0, 256, (80, ROW_LENGTH)).astype(np.uint16)
    rows[::5, 0] = 257
    for k in range(2):
        lines = [json.dumps({"token_ids": row.tolist(), "source": f"s{k}"}) for row in rows[40 * k : 40 * k + 40]]
        (folder / f"chunk_{k}.jsonl").write_text("\n".join(lines) + "\n")
    for step in range(0, 21, 5):
        (folder / f"step{step}").mkdir(exist_ok=True)
        (folder / f"step{step}" / "model.safetensors").write_bytes(bytes([step]) * (1000 + step))
        (folder / f"step{step}" / "optimizer.bin").write_bytes(bytes([step + 1]) * 2000)
    (folder / "tokenizer.json").write_text(byte_tokenizer().to_str())
    (folder / "train.yaml").write_text("lr: 0.001\n")
    loss = np.linspace(4, 2, 20)
    loss[6], loss[12] = np.nan, np.inf
    document = SMALL | {"run": run} | changes
    series = [
        series_data("train/loss", range(1, 21), loss, unit="nats"),
        series_data("lr", range(1, 21, 2), [0.1] * 10),
    ]
    release_id = record(engine, settings, document, folder, series)
    return SmallRun(run, release_id, folder, rows, loss)


SMALL: dict[str, Any] = {
    "format": "llm360-portal/release/1",
    "title": "A small run",
    "license": {"code": "apache-2.0", "weights": "apache-2.0", "data": "odc-by"},
    "links": {"paper": "https://example.org/paper"},
    "model": {"architecture": "LlamaForCausalLM", "parameters": 1000, "vocabulary": VOCABULARY},
    "tokenizer": "tokenizer.json",
    "cadence": 5,
    "training": {
        "last_step": 20,
        "sequence_length": ROW_LENGTH,
        "row_length": ROW_LENGTH,
        "rows_per_step": ROWS_PER_STEP,
        "tokens_per_step": ROW_LENGTH * ROWS_PER_STEP,
    },
    "stages": [
        {"name": "warmup", "first_step": 1, "last_step": 10},
        {"name": "main", "first_step": 11, "last_step": 20},
    ],
    "checkpoints": [
        {
            "steps": {"first": 0, "every": 5, "count": 5},
            "labels": ["ckpt_{index:03d}"],
            "contains": ["weights", "optimizer"],
            "dtype": "float32",
            "files": [
                {"path": "step{step}/model.safetensors", "role": "weights"},
                {"path": "step{step}/optimizer.bin", "role": "optimizer"},
            ],
        }
    ],
    "data": {
        "chunks": [
            {"name": f"chunk_{k}", "files": [{"path": f"chunk_{k}.jsonl"}], "format": "jsonl", "rows": 40}
            for k in range(2)
        ],
        "order": [{"first_step": 1, "last_step": 20, "chunks": ["chunk_0", "chunk_1"], "kind": "sequential"}],
    },
    "configs": [
        {"file": "train.yaml", "values": {"lr": 0.001}, "first_step": 1, "code": {"repo": "https://example.org/code"}}
    ],
    "events": [
        {"step": 7, "kind": "nan_loss", "note": "The loss was not a number."},
        {"step": 12, "last_step": 14, "kind": "spike", "chunk": "chunk_1"},
        {"step": None, "kind": "note", "note": "Nobody wrote down when."},
    ],
}


def byte_tokenizer() -> Tokenizer:
    """A byte-level tokenizer of 260 ids; id 257 begins a document."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: k for k, char in enumerate(alphabet)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", "<pad>"])
    return tokenizer


def many_checkpoints(engine: Engine, settings: Settings, run: str, count: int, **changes: Any) -> int:
    """A run of ``count`` remote checkpoints and as many chunks, each read for ten steps; no bytes."""
    order = {
        "first_step": 1,
        "last_step": 10 * count,
        "chunks": {"pattern": "c{index:05d}", "count": count},
        "kind": "permutation",
        "rng": "numpy-RandomState",
        "seed": 1,
        "per_chunk": True,
        "steps_per_chunk": 10,
    }
    chunk_file = {"path": "hf://datasets/lab/data/c{index:05d}.jsonl"}
    document = {
        "format": "llm360-portal/release/1",
        "run": run,
        "cadence": 10,
        "training": {"last_step": 10 * count, "row_length": 16, "rows_per_step": 4, "tokens_per_step": 64},
        "checkpoints": [
            {
                "steps": {"first": 10, "every": 10, "count": count},
                "labels": ["c_{index}"],
                "contains": ["weights"],
                "files": [{"path": "hf://lab/model@c_{index}/model.safetensors", "size": 1000, "role": "weights"}],
            }
        ],
        "data": {
            "chunks": [
                {
                    "names": {"pattern": "c{index:05d}", "count": count},
                    "files": [chunk_file],
                    "format": "jsonl",
                    "rows": 40,
                }
            ],
            "order": [order],
        },
    } | changes
    return record(engine, settings, document)


def record(
    engine: Engine,
    settings: Settings,
    document: Mapping[str, Any],
    folder: Path | None = None,
    series: Sequence[SeriesData] = (),
    findings: Sequence[FoundFinding] = (),
) -> int:
    """Record a manifest as a release; paths that exist below ``folder`` become local, hashed files."""
    release = replace(release_of(settings, document, folder, series), reason="Corrected.")
    with open_session(engine) as session:
        recorded = record_release(session, release)
        assert recorded is not None
        if findings:
            record_findings(session, recorded[0], findings)
        session.commit()
        return recorded[0]


def release_of(
    settings: Settings,
    document: Mapping[str, Any],
    folder: Path | None = None,
    series: Sequence[SeriesData] = (),
) -> ReleaseRecord:
    """The release that `record` records, without a reason."""
    manifest = Manifest.model_validate(MINIMAL | dict(document))
    text = manifest.model_dump_json()
    chunks = chunks_of(manifest)
    rows = {c.name: c.rows for c in chunks}
    stages = stages_of(manifest)
    per_step = stages[0].rows_per_step if stages else None
    loose = [FileEntry(manifest.tokenizer, role="tokenizer")] if manifest.tokenizer else []
    loose += [FileEntry(c.file, role="config") for c in manifest.configs if c.file]
    loose += [o.file for o in orders_of(manifest) if o.file]
    key = f"{manifest.run}/{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return ReleaseRecord(
        manifest=manifest,
        manifest_json=text,
        fingerprint=_fingerprint(text, folder),
        root=folder.as_uri() if folder else "",
        checkpoints=[(c, [_file(f, folder, "weights") for f in c.files]) for c in checkpoints_of(manifest)],
        chunks=[(c, [_file(f, folder, "data") for f in c.files]) for c in chunks],
        files=[_file(f, folder, "index") for f in loose],
        orders=[(o, chunk_spans(o, per_step, rows)) for o in orders_of(manifest)],
        configs=[RecordedConfig(c, c.file, c.values) for c in manifest.configs],
        series=write_series(settings.data / "store" / "metrics", key, list(series)) if series else [],
    )


def series_data(name: str, steps: Any, values: Any, **about: str) -> SeriesData:
    """A series of one's own numbers."""
    known = {
        "group": "train",
        "unit": "",
        "reduction": "rank 0",
        "description": "",
        "column": name,
        "source": "log.csv",
    }
    return SeriesData(
        name,
        **(known | about),
        x_kind="step",
        steps=np.asarray(list(steps), np.int64),
        values=np.asarray(values, np.float64),
    )


def _fingerprint(text: str, folder: Path | None) -> str:
    return hashlib.sha256(text.encode() + str(folder).encode()).hexdigest()


def _file(entry: FileEntry, folder: Path | None, role: str) -> RecordedFile:
    path = folder / entry.path if folder else None
    role = entry.role or role
    if path is None or not path.is_file():
        return RecordedFile(entry.path, entry.path, role, entry.size, entry.sha256, None, "unverified")
    body, about = path.read_bytes(), path.stat()
    digest = hashlib.sha256(body).hexdigest()
    return RecordedFile(entry.path, path.as_uri(), role, about.st_size, digest, about.st_mtime_ns, "verified")
