"""``portal submit``, ``portal jobs``, ``portal logs``, ``portal cancel``: jobs from the terminal."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from portal.cli.portals import AsJson, RunArgument, StepArgument, Url, checked_step
from portal.cli.terminal import complain, number, print_json, print_table, say, size, visible
from portal.client import Portal
from portal.client.jobs import cancel_job, get_job, list_jobs, preview_job, read_log, submit_job, watch_job
from portal.errors import UsageError
from portal.settings import Settings

Token = Annotated[
    str, typer.Option("--token", envvar="PORTAL_TOKEN", help="Token of role publisher; default PORTAL_TOKEN.")
]
JobNumber = Annotated[int, typer.Argument(metavar="JOB", min=1, help="Number of the job.")]
SHOWN_ROWS = 4


def add_to(application: typer.Typer) -> None:
    """Register the commands."""
    application.command("submit")(submit)
    application.command("jobs")(show_jobs)
    application.command("logs")(show_logs)
    application.command("cancel")(cancel)


def submit(  # noqa: PLR0913 - the command line is read from the signature
    run: RunArgument,
    step: StepArgument,
    kind: Annotated[
        str, typer.Option(help="resume, or replay: train over the run's own data and compare with what is published.")
    ] = "resume",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps to train; default: up to the next checkpoint.")
    ] = None,
    data: Annotated[
        str, typer.Option(help="original; chunks by commas (a,b); or sources with weights (wikipedia=2.0,books=0).")
    ] = "original",
    chunks: Annotated[str, typer.Option(help="Chunks to draw a mix from, by commas.")] = "",
    repeat: Annotated[bool, typer.Option(help="Let rows of chunks be read again when all were read.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the shuffle of chosen rows.")] = 17,
    set_: Annotated[list[str] | None, typer.Option("--set", help="name=value, e.g. lr=0.001; may be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="k=v that the worker must have; may be repeated.")] = None,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs the worker must have free.")] = 0,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher comes first.")] = 0,
    key: Annotated[str, typer.Option(help="Sent again with the same key, the same request is the same job.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would do; queue nothing.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch it until it ends.")] = False,
    token: Token = "",
    url: Url = "",
    as_json: AsJson = False,
) -> int:
    """Queue training that goes on from a checkpoint, on a worker attached to the portal."""
    body: dict[str, Any] = {
        "kind": kind,
        "run": run,
        "step": int(checked_step(step)),
        "data": _data(data, chunks, seed, repeat),
        "set": _settings(set_ or []),
        "labels": _labels(label or []),
        "gpus": gpus,
        "priority": priority,
    }
    if steps is not None:
        body["steps"] = steps
    with _open(url, token) as portal:
        if dry_run:
            shown = preview_job(portal, body)
            print_json(shown) if as_json else _print_preview(shown)
            return 0 if shown["submittable"] else 1
        job = submit_job(portal, body, key or None)
        if as_json:
            print_json(job)
        else:
            say(
                f"Job {job['id']}: {job['kind']} of {run} from step {job['step']}, steps {job['first_step']} to {job['last_step']}."
            )
        return _follow(portal, job["id"]) if follow else 0


def show_jobs(
    state: Annotated[str, typer.Option(help="live, or states by commas, e.g. queued,running.")] = "",
    run: Annotated[str, typer.Option(help="Only jobs from this run.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 50,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    with _open(url, "") as portal:
        page = list_jobs(portal, state, run, limit)
    if as_json:
        print_json(page["items"])
        return
    headings = ["job", "kind", "from", "steps", "state", "at", "worker", "verdict", "result"]
    print_table(headings, [_job_row(job) for job in page["items"]], right=["job", "at"])
    if not page["total"]:
        say("There is no job. Try `portal submit RUN STEP`.")
    elif page["total"] > len(page["items"]):
        complain(f"{len(page['items'])} of {page['total']} jobs; ask for more with --limit.")


def show_logs(
    job: JobNumber,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Only this attempt's.")] = None,
    url: Url = "",
) -> int:
    """Print a job's log; with -f as it comes, and what happens to the job on stderr."""
    if follow and attempt is not None:
        raise UsageError("--follow shows every attempt.", "Leave --attempt out.")
    with _open(url, "") as portal:
        if follow:
            return _follow(portal, job)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for piece in read_log(portal, job, attempt):
            _write(decoder.decode(piece))
        _write(decoder.decode(b"", True))
    return 0


def cancel(
    job: JobNumber,
    force: Annotated[bool, typer.Option(help="Without time to save its state.")] = False,
    token: Token = "",
    url: Url = "",
) -> None:
    """End a job: at once while it is queued; a running one saves its state first."""
    with _open(url, token) as portal:
        told = cancel_job(portal, job, force)
    say(f"Job {job} is {told['state']}. {told['message']}")


@contextmanager
def _open(url: str, token: str) -> Iterator[Portal]:
    """The portal at ``url`` or PORTAL_URL; the local catalog's operator needs no token."""
    settings = Settings()
    address = url or settings.url
    if address:
        with Portal(address, token or None) as portal:
            yield portal
        return
    from portal.cli.local import LocalCatalog  # noqa: PLC0415 - asking a portal elsewhere needs no database

    local = LocalCatalog(settings.model_copy(update={"anonymous_jobs": True}))
    with Portal("http://local-catalog", transport=local) as portal:
        yield portal


def _follow(portal: Portal, job: int) -> int:
    for event in watch_job(portal, job):
        if event.kind == "log":
            _write(event.data["text"])
        elif event.kind in ("state", "note"):
            told = event.data.get("message") or ""
            complain(f"[{event.data.get('state') or event.kind}] {told}".rstrip())
        elif event.kind == "end":
            break
    ended = get_job(portal, job)
    if ended["verdict"]:
        complain(f"[{ended['verdict']}] {ended['fidelity'].get('sentence', '')}")
    return 0 if ended["state"] == "succeeded" else 1


def _write(text: str) -> None:
    """Log text: line breaks break lines, everything else that could drive a terminal is shown."""
    for part in text.splitlines(keepends=True):
        line = part.rstrip("\r\n")
        sys.stdout.write(visible(line) + ("\n" if len(part) > len(line) else ""))
    sys.stdout.flush()


def _data(text: str, chunks: str, seed: int, repeat: bool) -> dict[str, Any]:
    named = [name for name in chunks.split(",") if name]
    if text == "original":
        if named or repeat:
            raise UsageError("--chunks and --repeat go with chosen data.", "Say which with --data.")
        return {"kind": "original"}
    parts = [part for part in text.split(",") if part]
    if not any("=" in part for part in parts):
        return {"kind": "chunks", "chunks": [*parts, *named], "seed": seed, "repeat": repeat}
    weights = {}
    for part in parts:
        source, _, weight = part.rpartition("=")
        try:
            weights[source] = float(weight)
        except ValueError:
            raise UsageError(f"{part!r} gives no weight.", "Write source=number, e.g. wikipedia=2.0.") from None
    return {"kind": "mix", "weights": weights, "chunks": named, "seed": seed}


def _settings(pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in map(_pair, pairs):
        try:
            found[name] = json.loads(text, parse_constant=str)
        except ValueError:
            found[name] = text
    return found


def _labels(pairs: list[str]) -> dict[str, str]:
    return dict(map(_pair, pairs))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{text!r} sets nothing.", "Write name=value.")
    return name, value


def _job_row(job: dict[str, Any]) -> list[object]:
    state = f"{job['state']} (cancelling)" if job["cancelling"] else job["state"]
    steps = f"{job['first_step']}-{job['last_step']}"
    result = job["derived_run"] or ""
    origin = f"{job['run']}@{job['step']}"
    reached = number(job["progress_step"]) if job["progress_step"] is not None else ""
    return [job["id"], job["kind"], origin, steps, state, reached, job["worker"] or "", job["verdict"] or "", result]


def _print_preview(shown: dict[str, Any]) -> None:
    plan = shown["plan"]
    if plan is not None:
        say(
            f"Steps {plan['first_step']} to {plan['last_step']}: {number(plan['rows'])} rows, {number(plan['tokens'])} tokens."
        )
        for note in plan["notes"]:
            say(f"  {note}")
        for batch in plan["batches"]:
            rows = ", ".join(f"{row['chunk']}:{row['row']}" for row in batch["rows"][:SHOWN_ROWS])
            say(f"  step {batch['step']}: {rows}{', …' if batch['rows_total'] > SHOWN_ROWS else ''}")
    lines = [(s["key"], s["value"], "changed" if s["changed"] else "", s["origin"]) for s in shown["settings"]]
    print_table(["setting", "value", "", "from"], lines)
    for line in shown["checks"]:
        say(f"{line['level']:<8} {line['message']} {line['remedy'] if line['level'] != 'ok' else ''}".rstrip())
    say(f"Memory {size(shown['memory'])}, disk {size(shown['disk'])}, download {size(shown['download'])}.")
