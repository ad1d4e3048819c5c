"""The derived run: what a job made, as a release manifest that goes through the same door as everybody's.

It names the parent run and step, the job and its attempts, the row plan (an index over the parent's chunks), the settings,
the numbers by step, and every checkpoint handed in.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from portal.catalog.answers.jobs import AttemptView, JobDetail, JobPoint
from portal.catalog.facts import ReleaseFacts
from portal.catalog.files import FileRow
from portal.errors import BadRequest
from portal.exchange.places import REMOTE
from portal.manifest.canonical import canonical_digest
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.blobs import BlobStore, open_blobs
from portal.storage.local import path_of

ORGANISATION = "derived"
"""Not `jobs`: /jobs/17 is a page, and runs are reached as /org/name by clients of a Hub."""
MAX_COPIED = 1 << 30
"""Bytes of the parent's chunks on this machine that are kept with the derived run; larger ones stay the parent's."""
_SPECIAL = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}

Sent = dict[str, tuple[str, int]]


def derived_name(job: JobDetail) -> str:
    """``derived/tiny-s300-j17``."""
    base = re.sub(r"[^a-z0-9._-]", "-", job.run.rpartition("/")[2].lower())[:60]
    return f"{ORGANISATION}/{base}-s{job.step}-j{job.id}"


@dataclass(frozen=True)
class Parent:
    """The run that a job trained from, looked up before: files are copied without a session of the database."""

    facts: ReleaseFacts
    chunks: Mapping[str, Sequence[FileRow]]
    """Files of the chunks that the job read."""


def derive(
    settings: Settings, parent: Parent, job: JobDetail, points: Sequence[JobPoint], verdict: Mapping[str, Any]
) -> tuple[dict[str, Any], Sent]:
    """The manifest of what a job made, and its files in the portal's store. Doing it again gives the same."""
    facts = parent.facts
    sent: Sent = {}
    kept = _Keeper(settings, sent)
    checkpoints = _checkpoints(job, sent)
    data = _data(settings, parent, job, kept)
    kept.text("metrics/train.csv", _table(points))
    if facts.tokenizer is not None and _can_copy(facts.tokenizer):
        kept.file("tokenizer.json", facts.tokenizer)
    manifest: dict[str, Any] = {
        "format": "llm360-portal/release/1",
        "run": derived_name(job),
        "kind": "resume",
        "title": f"{facts.run} from step {job.step}, {'replayed' if job.kind == 'replay' else 'trained on'} by job {job.id}",
        "description": _description(job, verdict),
        "synthetic": facts.head.synthetic,
        "parent": {"run": facts.run, "step": job.step},
        "license": dict(facts.head.license),
        "model": _model(facts, sent),
        "training": _training(job),
        "checkpoints": checkpoints,
        "data": data,
        "metrics": [
            {"file": "metrics/train.csv", "x": "step", "series": _series(facts, points), "format": "csv"},
        ],
        "configs": [{"first_step": job.first_step, "values": _config(job, verdict)}],
        "events": _events(job),
    }
    if "tokenizer.json" in sent:
        manifest["tokenizer"] = "tokenizer.json"
    return manifest, sent


class _Keeper:
    """Puts files into the portal's store, and into the table of what is sent."""

    def __init__(self, settings: Settings, sent: Sent) -> None:
        self.blobs: BlobStore = open_blobs(settings)
        self._sent = sent

    def text(self, path: str, data: bytes) -> None:
        """A file made here."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self.blobs.has(sha256) is None:
            with tempfile.TemporaryDirectory(prefix="portal-derived-") as folder:
                made = Path(folder) / "made"
                made.write_bytes(data)
                self.blobs.put_file(made, sha256)
        self._sent[path] = (sha256, len(data))

    def holds(self, row: FileRow) -> bool:
        """Whether a catalogued file lies in the store already, be that a folder or a bucket."""
        return row.sha256 is not None and any(p.uri == self.blobs.location(row.sha256) for p in row.places)

    def file(self, path: str, row: FileRow) -> None:
        """A catalogued file of this machine or of the store."""
        if row.sha256 is None or (row.local is None and not self.holds(row)):
            raise BadRequest(f"{row.path} is not on this machine.", "Nothing was copied.")
        if row.local is not None and self.blobs.has(row.sha256) is None:
            self.blobs.put_file(path_of(row.local.uri), row.sha256)
        self._sent[path] = (row.sha256, row.size or 0)


def _checkpoints(job: JobDetail, sent: Sent) -> list[dict[str, Any]]:
    """One of each step that was handed in: the last one, of the attempt that went on furthest."""
    entries = []
    for step, output in sorted(newest_outputs(job).items()):
        folder = f"checkpoints/step-{step:07d}"
        for file in output:
            sent[f"{folder}/{file['path']}"] = (file["sha256"], file["size"])
        files = [{"path": f["path"], "size": f["size"], "sha256": f["sha256"]} for f in output]
        entries.append({"step": step, "location": folder, "files": files})
    return entries


def newest_outputs(job: JobDetail) -> dict[int, list[dict[str, Any]]]:
    """Files of each step's checkpoint: of several attempts' the last one's, and the final one before a partial one."""
    found: dict[int, list[dict[str, Any]]] = {}
    kept = [output for output in job.outputs if output.removed_at is None]
    for output in sorted(kept, key=lambda o: (o.attempt, o.kind == "final")):
        found[output.step] = output.files
    return found


def _data(settings: Settings, parent: Parent, job: JobDetail, kept: _Keeper) -> dict[str, Any]:
    spec = job.spec["data"]
    chunks: list[str] = list(spec["chunks"])
    starts = np.cumsum([0, *(parent.facts.chunk_rows[name] or 0 for name in chunks)])
    uri = kept.blobs.location(spec["plan"]["sha256"])
    with tempfile.NamedTemporaryFile(prefix="portal-plan-", suffix=".parquet") as copy:
        copy.write(open_store(uri, settings).read_range(uri, 0, spec["plan"]["size"]))
        copy.flush()
        table = pq.read_table(copy.name, columns=["chunk", "row"])
    chunk = table["chunk"].combine_chunks()
    named = chunk.dictionary.to_pylist() if hasattr(chunk, "dictionary") else None
    codes = chunk.indices.to_numpy(zero_copy_only=False) if named is not None else None
    if named is None or codes is None:
        chunk = chunk.dictionary_encode()
        named, codes = chunk.dictionary.to_pylist(), chunk.indices.to_numpy(zero_copy_only=False)
    places = {name: k for k, name in enumerate(chunks)}
    offsets = np.array([starts[places[name]] if name in places else -1 for name in named])
    index = offsets[codes] + table["row"].to_numpy()
    dtype = "u32" if starts[-1] < 2**32 else "u64"
    kept.text("data/row-plan." + dtype, index.astype("<u4" if dtype == "u32" else "<u8").tobytes())
    order = {
        "first_step": job.first_step,
        "last_step": job.last_step,
        "chunks": chunks,
        "kind": "index",
        "file": {"path": f"data/row-plan.{dtype}"},
        "dtype": dtype,
        "confidence": "exact",
        "assumption": f"the row plan of job {job.id}, written before it was trained",
    }
    return {"chunks": _chunks(parent, chunks, kept), "order": [order]}


def _chunks(parent: Parent, names: Sequence[str], kept: _Keeper) -> list[dict[str, Any]]:
    rows = [row for name in names for row in parent.chunks[name]]
    local = sum(row.size or 0 for row in rows if _can_copy(row) and not kept.holds(row))
    return [_chunk(parent.facts, name, parent.chunks[name], kept, local <= MAX_COPIED) for name in names]


def _chunk(facts: ReleaseFacts, name: str, rows: Sequence[FileRow], kept: _Keeper, copy: bool) -> dict[str, Any]:
    chunk = facts.chunks[name]
    about = {
        "name": name,
        "format": chunk.row.format,
        "dtype": chunk.dtype,
        "header": chunk.header,
        "dialect": chunk.dialect,
        "column": chunk.column,
        "rows": chunk.row.rows,
        "row_length": chunk.row.row_length,
        "tokens": chunk.row.tokens,
    }
    entry: dict[str, Any] = {key: value for key, value in about.items() if value is not None}
    entry |= {"sources": dict(chunk.row.sources), "note": f"Chunk {name} of {facts.run}.", "files": []}
    for row in rows:
        remote = next((p.uri for p in row.places if p.uri.partition("://")[0] in REMOTE), None)
        if kept.holds(row) or (copy and _can_copy(row)):
            path = f"data/chunks/{row.path.rsplit('/', 1)[-1]}"
            kept.file(path, row)
            entry["files"].append({"path": path, "size": row.size, "sha256": row.sha256})
        elif remote is not None:
            entry["files"].append({"path": remote, "size": row.size, "sha256": row.sha256})
    if len(entry["files"]) < len(rows):
        entry["files"] = []
        entry["note"] += " Its files are with that run."
    return entry


def _can_copy(row: FileRow) -> bool:
    return row.local is not None and row.sha256 is not None and row.size is not None


def _table(points: Sequence[JobPoint]) -> bytes:
    """The numbers as CSV; a step without a number has an empty cell, NaN is written as such."""
    names = sorted({p.name for p in points}, key=lambda n: (n != "loss", n))
    rows: dict[int, dict[str, str]] = {}
    for point in points:
        text = _SPECIAL.get(point.special or "", "nan") if point.value is None else repr(point.value)
        rows.setdefault(point.step, {})[point.name] = text
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["step", *names])
    writer.writerows([step, *(values.get(name, "") for name in names)] for step, values in sorted(rows.items()))
    return stream.getvalue().encode()


def _series(facts: ReleaseFacts, points: Sequence[JobPoint]) -> dict[str, dict[str, str]]:
    """Definitions as the parent has them, so that curves of both are known to measure the same."""
    found = {}
    for name in sorted({p.name for p in points}):
        known = facts.series_by_name.get(name)
        about = {"column": name, "group": known.view.group if known else "train"}
        if known:
            about |= {"unit": known.view.unit, "reduction": known.view.reduction}
        elif name == "loss":
            about |= {"unit": "nats"}
        elif name == "seconds":
            about |= {"group": "speed", "unit": "s", "reduction": "of this step, on the worker"}
        found[name] = about
    return found


def _training(job: JobDetail) -> dict[str, Any]:
    training = job.spec["training"]
    return {
        "sequence_length": training["sequence_length"],
        "row_length": training["row_length"],
        "rows_per_step": training["rows_per_step"],
        "tokens_per_step": training["rows_per_step"] * training["sequence_length"],
        "first_step": job.first_step,
        "last_step": job.last_step,
    }


def _model(facts: ReleaseFacts, sent: Sent) -> dict[str, Any]:
    head = facts.head.model
    model = {key: head[key] for key in ("architecture", "parameters", "vocabulary") if head.get(key) is not None}
    config = next((path for path in sorted(sent, reverse=True) if path.endswith("/config.json")), None)
    return {**model, **({"config": config} if config else {})}


def _config(job: JobDetail, verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and origin of the run; what a later job from here reads its own settings from."""
    data = job.spec["data"]
    config: dict[str, Any] = _plain(
        {
            "trainer": job.spec["trainer"],
            "training": job.spec["training"],
            "changes": {c["key"]: {"from": c["from"], "to": c["to"]} for c in job.spec["changes"]},
            "missing_state": job.spec["missing"],
            "job": {
                "id": job.id,
                "kind": job.kind,
                "submitted_by": job.submitted_by,
                "spec_sha256": job.spec_digest,
                "base": {"run": job.run, "version": job.version, "step": job.step},
            },
            "data": {
                "kind": data["kind"],
                "seed": data["seed"],
                "weights": data["weights"],
                "plan_sha256": data["plan"]["sha256"],
            },
            "attempts": [_attempt(a) for a in job.attempt_list],
            "fidelity": {"verdict": verdict.get("verdict"), "sentence": verdict.get("sentence")},
        }
    )
    return config


def _attempt(attempt: AttemptView) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "from_step": attempt.started_from,
        "to_step": attempt.reached_step,
        "executor": attempt.executor,
        "worker": attempt.worker,
        "host": attempt.host,
        "engine_ref": attempt.ext_ref,
        "environment_sha256": canonical_digest(_plain(attempt.environment)) if attempt.environment else None,
        "log_sha256": attempt.log_sha256,
    }


def _events(job: JobDetail) -> list[dict[str, Any]]:
    """Where one attempt ended and the next one went on: boundaries are provenance."""
    found = []
    for attempt in job.attempt_list[1:]:
        if job.first_step <= attempt.started_from + 1 <= job.last_step:
            note = f"Attempt {attempt.number} went on from step {attempt.started_from} on {attempt.worker}."
            found.append({"step": attempt.started_from + 1, "kind": "restart", "note": note})
    return found


def _description(job: JobDetail, verdict: Mapping[str, Any]) -> str:
    data = job.spec["data"]
    what = {"original": "the run's own data", "chunks": "chosen chunks", "mix": "a re-weighted mix of sources"}[
        data["kind"]
    ]
    changed = ", ".join(f"{c['key']} {c['from']} -> {c['to']}" for c in job.spec["changes"])
    parts = [
        f"Steps {job.first_step} to {job.last_step} from checkpoint {job.step} of {job.run}, over {what}.",
        f"Changed: {changed}." if changed else "No setting was changed.",
        str(verdict.get("sentence") or ""),
    ]
    return " ".join(part for part in parts if part)


def _plain(value: Any) -> Any:
    """As YAML and JSON both write it: no number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
