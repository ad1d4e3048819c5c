"""Before anything is queued: what a job would read and change, what it needs, what it lacks, and who could run it now."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session

from portal.catalog.accounts import Caller
from portal.catalog.jobs.fitting import Fit, list_fits
from portal.catalog.jobs.queue import NewJob, enqueue
from portal.catalog.jobs.rules import JobRules
from portal.catalog.referenced import keeping
from portal.database import Engine, open_session
from portal.errors import PreflightRefused
from portal.jobs.estimates import estimate
from portal.jobs.requests import JobRequest
from portal.jobs.settings_of_runs import beyond_the_trainer
from portal.jobs.specs import Draft, draft_job, make_spec, request_body
from portal.settings import Settings
from portal.storage.blobs import open_blobs

SHOWN_STEPS = 3
SHOWN_ROWS = 8


@dataclass(frozen=True)
class CheckLine:
    """One thing that was looked at."""

    code: str
    level: str
    """``ok``, ``warning`` (it will run, and this is what it costs) or ``error`` (it cannot be submitted)."""
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class PlanPreview:
    """What will be read."""

    kind: str
    first_step: int
    last_step: int
    steps: int
    rows: int
    rows_per_step: int
    tokens: int | None
    confidence: str
    reason: str
    notes: list[str]
    chunks: dict[str, int]
    """Rows of each chunk."""
    sources: dict[str, int]
    """Rows of each source, where the plan knows them."""
    batches: list[dict[str, Any]]
    """The first rows of the first steps and of the last one."""
    sha256: str
    """Of the file that would be stored."""
    size: int


@dataclass(frozen=True)
class SettingLine:
    """One hyper-parameter of the job."""

    key: str
    value: Any
    origin: str
    changed: bool
    changed_from: Any


@dataclass(frozen=True)
class Preview:
    """Everything a person should see before they submit."""

    kind: str
    run: str
    version: int
    step: int
    first_step: int
    last_step: int
    settings: list[SettingLine]
    unknown: list[dict[str, str]]
    """Settings that are neither published nor given: ``{key, means}``."""
    plan: PlanPreview | None
    checks: list[CheckLine]
    fidelity: str
    """The most that can be proven: ``exact`` or ``weights-only``."""
    memory: int
    """Bytes the trainer needs, by rule of thumb: weights, gradients, two moments, and activations of one micro-batch."""
    disk: int
    """Bytes a worker needs: checkpoint, chunks, rows, and every checkpoint to be written."""
    download: int
    workers: list[str]
    """Those that are attached, alive and fit."""
    unfit: list[Fit]
    """The others that are there, with what each lacks."""
    submittable: bool


def preview_job(session: Session, settings: Settings, request: JobRequest, rules: JobRules) -> Preview:
    """Look at a request without keeping anything. Errors of the catalog; BadRequest; OrderUnknown."""
    return _preview(session, draft_job(session, settings, request), rules)


def submit_job(
    engine: Engine, settings: Settings, request: JobRequest, caller: Caller, rules: JobRules, key: str | None
) -> tuple[int, bool]:
    """Queue a job: (its number, whether it is new). Raises PreflightRefused with everything that speaks against it,
    Forbidden for a token that is bound to other runs."""
    if caller.runs:
        caller.check_organisation(request.run)
    with open_session(engine) as session:
        draft = draft_job(session, settings, request)
        preview = _preview(session, draft, rules)
    refused = [line for line in preview.checks if line.level == "error"]
    if refused or preview.plan is None:
        raise PreflightRefused([(line.code, line.message, line.remedy) for line in refused], preview.unknown)
    spec = make_spec(draft, preview.plan.sha256, preview.memory, preview.disk)
    digest = hashlib.sha256(request_body(request)).hexdigest()
    with keeping(engine, settings.data):
        _keep_plan(settings, draft.plan_bytes, preview.plan.sha256)
        return enqueue(engine, NewJob(spec, caller.name, request.priority, key, digest), rules)


def _preview(session: Session, draft: Draft, rules: JobRules) -> Preview:
    request, base = draft.request, draft.base
    rough = estimate(draft)
    fits = list_fits(session, rules, rough.of_workers)
    workers = [fit.worker for fit in fits if not fit.lacks]
    unfit = [fit for fit in fits if fit.lacks]
    checks = [*_base_checks(draft), *_settings_checks(draft), *_data_checks(draft)]
    checks.append(_worker_check(draft, workers, unfit))
    return Preview(
        kind=request.kind,
        run=draft.facts.run,
        version=draft.facts.head.version,
        step=request.step,
        first_step=draft.first_step,
        last_step=draft.last_step,
        settings=[SettingLine(c.key, c.value, c.origin, c.changed, c.changed_from) for c in draft.settings.chosen],
        unknown=[{"key": u.key, "means": u.means} for u in draft.settings.unknown],
        plan=_plan_preview(draft),
        checks=checks,
        fidelity="weights-only" if "optimizer" in base.missing else "exact",
        memory=rough.memory,
        disk=rough.disk,
        download=rough.download,
        workers=workers,
        unfit=unfit,
        submittable=draft.plan is not None and all(line.level != "error" for line in checks),
    )


def _plan_preview(draft: Draft) -> PlanPreview | None:
    plan = draft.plan
    if plan is None:
        return None
    sequence = next((c.value for c in draft.settings.chosen if c.key == "sequence_length"), None)
    return PlanPreview(
        kind=plan.kind,
        first_step=plan.interval.first,
        last_step=plan.interval.last,
        steps=plan.interval.steps,
        rows=plan.interval.rows,
        rows_per_step=plan.interval.rows_per_step,
        tokens=plan.interval.rows * sequence if sequence else None,
        confidence=plan.confidence,
        reason=plan.reason,
        notes=plan.notes,
        chunks=plan.rows_by_chunk(),
        sources=plan.rows_by_source(),
        batches=_batches(draft),
        sha256=hashlib.sha256(draft.plan_bytes).hexdigest(),
        size=len(draft.plan_bytes),
    )


def _batches(draft: Draft) -> list[dict[str, Any]]:
    plan = draft.plan
    assert plan is not None  # noqa: S101 - the caller looked
    per_step, steps = plan.interval.rows_per_step, plan.interval.steps
    shown = sorted({*range(min(SHOWN_STEPS, steps)), steps - 1})
    return [
        {
            "step": plan.interval.first + k,
            "rows_total": per_step,
            "rows": [_row(plan, k * per_step + p, p) for p in range(min(SHOWN_ROWS, per_step))],
        }
        for k in shown
    ]


def _row(plan: Any, place: int, position: int) -> dict[str, Any]:
    source = None
    if plan.source is not None and plan.source[place] >= 0:
        source = plan.sources[plan.source[place]]
    chunk = plan.chunks[plan.chunk[place]]
    return {"position": position, "chunk": chunk, "row": int(plan.row[place]), "source": source}


def _base_checks(draft: Draft) -> list[CheckLine]:
    base = draft.base
    found = [CheckLine("checkpoint", "error", problem, "Choose another checkpoint.") for problem in base.problems]
    if not found:
        found.append(
            CheckLine("checkpoint", "ok", f"{len(base.files)} files, {base.bytes:,} bytes, each pinned by its sha256.")
        )
    if "optimizer" in base.missing:
        pickled = [name for name in base.left_out if "optim" in name.rsplit("/", 1)[-1].lower()]
        there = f" ({pickled[0]} is there, in a form the trainer does not read)" if pickled else ""
        message = (
            f"No optimizer state{there}: its moments start at zero, so the first steps differ from the original run's "
            "and the result can be compared by its weights only."
        )
        found.append(
            CheckLine("optimizer-missing", "warning", message, "Nothing to do: this is stated with the result.")
        )
    else:
        found.append(CheckLine("optimizer", "ok", "Optimizer state is there."))
    if "rng" in base.missing and "optimizer" not in base.missing:
        message = "No state of random numbers: it matters only where the model drops out."
        found.append(CheckLine("rng-missing", "warning", message))
    return found


def _settings_checks(draft: Draft) -> list[CheckLine]:
    found = []
    if draft.settings.unknown:
        names = ", ".join(u.key for u in draft.settings.unknown)
        message = f"The run has not published {names}, and nothing is guessed."
        remedy = "Say them: " + "; ".join(f"{u.key} ({u.means})" for u in draft.settings.unknown)
        found.append(CheckLine("settings-unknown", "error", message, remedy))
    if beyond := beyond_the_trainer(draft.facts, draft.first_step):
        message = f"The run was trained with {', and '.join(beyond)}, which this trainer does not do."
        found.append(CheckLine("beyond-the-trainer", "warning", message, "The result differs from the run in this."))
    changes = [c for c in draft.settings.chosen if c.changed]
    if changes and draft.request.kind == "resume":
        names = ", ".join(f"{c.key} {c.changed_from!r} -> {c.value!r}" for c in changes)
        found.append(CheckLine("settings-changed", "ok", f"Differs from the run in {names}."))
    return found


def _data_checks(draft: Draft) -> list[CheckLine]:
    plan = draft.plan
    found = [CheckLine("data", "error", problem, "Choose other chunks.") for problem in draft.problems]
    if plan is None:
        return [*found, CheckLine("data", "error", "How many rows a step reads is not known.", "Set rows_per_step.")]
    chunks = len(plan.used_chunks())
    source = f"{chunks:,} {'chunk' if chunks == 1 else 'chunks'}"
    told = f"{plan.interval.rows:,} rows of {source} for {plan.interval.steps:,} steps. {plan.reason}"
    level = "ok" if plan.confidence in ("exact", "chosen") else "warning"
    found.append(CheckLine("order", level, told))
    found += _row_length_checks(draft)
    if draft.facts.tokenizer is None:
        found.append(CheckLine("tokenizer-missing", "warning", "The run has no tokenizer; rows are token ids already."))
    return found


def _row_length_checks(draft: Draft) -> list[CheckLine]:
    lengths = {f["row_length"] for f in draft.chunk_files}
    wanted = next((c.value for c in draft.settings.chosen if c.key == "row_length"), None)
    odd = sorted(str(length) for length in lengths if length not in (None, wanted))
    if not odd or wanted is None:
        return []
    message = f"Rows of these chunks have {', '.join(odd)} ids; the run trains on rows of {wanted}."
    return [CheckLine("row-length", "error", message, "Choose chunks of the run's own row length.")]


def _worker_check(draft: Draft, workers: list[str], unfit: list[Fit]) -> CheckLine:
    request = draft.request
    if workers:
        shown = ", ".join(workers[:3]) + (f" and {len(workers) - 3} more" if len(workers) > 3 else "")
        return CheckLine("worker", "ok", f"{shown} could run it.")
    if unfit:
        told = "; ".join(f"{fit.worker}: {', '.join(fit.lacks)}" for fit in unfit[:3])
        more = f"; and {len(unfit) - 3} more" if len(unfit) > 3 else ""
        message = f"No worker that is there could run it now ({told}{more}); it waits until one comes."
        return CheckLine("no-worker", "warning", message, "Ask for less, or attach another one: see /workers.")
    wanted = [f"{request.gpus} GPUs"] * bool(request.gpus) + [f"{k}={v}" for k, v in request.labels.items()]
    told = f" with {' and '.join(wanted)}" if wanted else ""
    return CheckLine(
        "no-worker",
        "warning",
        f"No attached worker{told} could run it now; it waits until one comes.",
        "Attach one: portal worker --url … --token …",
    )


def _keep_plan(settings: Settings, data: bytes, sha256: str) -> None:
    blobs = open_blobs(settings)
    if blobs.has(sha256) is not None:
        return
    with tempfile.TemporaryDirectory(prefix="portal-plan-") as folder:
        path = Path(folder) / "plan.parquet"
        path.write_bytes(data)
        blobs.put_file(path, sha256)
