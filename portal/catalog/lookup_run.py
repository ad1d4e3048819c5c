"""Search inside one run: its facts are in memory, only hashes are asked of the database."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice

from sqlmodel import Session, col

from portal.catalog.answers import EventView, SearchHit
from portal.catalog.facts import CheckpointFact, ReleaseFacts
from portal.catalog.hyperparameters import flatten, written
from portal.catalog.lookup_all import event_name, find_files, shortened
from portal.catalog.wishes import Wish
from portal.models import File

VALUES_SHOWN = 3
_BEYOND = 2**62


def find(session: Session, facts: ReleaseFacts, wish: Wish, most: int) -> dict[str, list[SearchHit]]:
    """Hits by kind, at most ``most`` of each; one query, and that only for a hash."""
    wanted = wish.text.casefold()
    files = find_files(session, wish, most, col(File.release_id) == facts.head.id)
    return {
        "step": list(_steps(facts, wish)),
        "checkpoint": list(islice(_checkpoints(facts, wish, wanted), most)),
        "chunk": list(islice(_chunks(facts, wanted), most)),
        "file": files,
        "series": list(islice(_series(facts, wanted), most)),
        "config": list(islice(config_hits(facts, wanted), most)),
        "event": list(islice(_events(facts, wish, wanted), most)),
        "finding": list(islice(_findings(facts, wanted), most)),
    }


def missed(facts: ReleaseFacts, wish: Wish) -> list[str]:
    """Why a step or an amount of tokens that was asked for is not among the hits."""
    if wish.tokens is not None and _step_of(facts, wish.tokens) is None:
        total = facts.head.tokens
        if total is not None and wish.tokens > total:
            return [f"{facts.run} read {total:,} tokens in all."]
        return [f"The tokens of each step of {facts.run} are not recorded, so none can be tied to an amount of them."]
    if wish.step is not None and wish.step > facts.last_step:
        return [f"{facts.run} has steps 0 to {facts.last_step:,}."]
    return []


def config_hits(facts: ReleaseFacts, wanted: str) -> Iterator[SearchHit]:
    """Settings whose dotted name contains ``wanted`` (in lower case), each once with its values over the steps."""
    values: dict[str, list[tuple[int, str]]] = {}
    for config in facts.configs:
        for name, value in flatten(config.values).items():
            if wanted in name.casefold():
                known = values.setdefault(name, [])
                if not known or known[-1][1] != written(value):
                    known.append((config.first_step, written(value)))
    for name, changes in values.items():
        exact = wanted in (name.casefold(), name.casefold().rpartition(".")[2])
        yield SearchHit("config", facts.run, name, told_values(changes), changes[0][0], exact=exact)


def told_values(changes: list[tuple[int, str]]) -> str:
    """``0.1 from step 1; 0.05 from step 500``, cut after a few."""
    if len(changes) == 1:
        return shortened(changes[0][1])
    told = [f"{shortened(value, 40)} from step {step:,}" for step, value in changes[:VALUES_SHOWN]]
    rest = len(changes) - len(told)
    return "; ".join(told) + (f"; and {rest:,} more changes" if rest else "")


def _steps(facts: ReleaseFacts, wish: Wish) -> Iterator[SearchHit]:
    if wish.step is not None and wish.step <= facts.last_step:
        yield _step(facts, wish.step)
    if wish.tokens is not None:
        step = _step_of(facts, wish.tokens)
        if step is not None:
            yield _step(facts, step)


def _step(facts: ReleaseFacts, step: int) -> SearchHit:
    tokens, checkpoint = facts.tokens_after(step), facts.checkpoint_at(step)
    parts = [f"{tokens:,} tokens read"] if tokens is not None else []
    if checkpoint is not None and not checkpoint.row.missing:
        parts.append(f"checkpoint {checkpoint.row.labels[0]}" if checkpoint.row.labels else "a checkpoint lies here")
    return SearchHit("step", facts.run, f"step {step:,}", ", ".join(parts), step, exact=True)


def _step_of(facts: ReleaseFacts, tokens: int) -> int | None:
    """The first step by whose end so many tokens had been read."""

    def read(step: int) -> int:
        found = facts.tokens_after(step)
        return _BEYOND if found is None else found

    step = bisect_left(range(facts.last_step + 1), tokens, key=read)
    return step if step <= facts.last_step and read(step) < _BEYOND else None


def _checkpoints(facts: ReleaseFacts, wish: Wish, wanted: str) -> Iterator[SearchHit]:
    for fact in facts.checkpoints:
        labels = [label for label in fact.row.labels if wanted in label.casefold()]
        at_step = wish.step is not None and fact.row.step == wish.step
        if labels or at_step:
            yield _checkpoint(facts, fact, labels, wish.text in fact.row.labels)


def _checkpoint(facts: ReleaseFacts, fact: CheckpointFact, labels: list[str], exact: bool) -> SearchHit:
    row = fact.row
    name = labels[0] if labels else row.labels[0] if row.labels else f"step {row.step:,}"
    parts = [f"state after step {row.step:,}" if row.step is not None else "merged, without a step"]
    if row.tokens is not None:
        parts.append(f"{row.tokens:,} tokens")
    if row.missing:
        parts.append("missing")
    key = str(row.step) if row.step is not None else name
    return SearchHit("checkpoint", facts.run, name, ", ".join(parts), row.step, key, exact=exact)


def _chunks(facts: ReleaseFacts, wanted: str) -> Iterator[SearchHit]:
    for name, fact in facts.chunks.items():
        if wanted in name.casefold():
            spans = fact.row.spans
            read = f"read in steps {spans[0].first_step:,} to {spans[0].last_step:,}" if spans else "not tied to steps"
            if len(spans) > 1:
                read += f" and {len(spans) - 1:,} more times"
            yield SearchHit("chunk", facts.run, name, read, key=name, exact=wanted == name.casefold())


def _series(facts: ReleaseFacts, wanted: str) -> Iterator[SearchHit]:
    for fact in facts.series:
        view = fact.view
        if wanted in view.name.casefold() or wanted in view.description.casefold():
            detail = ", ".join(part for part in (f"{view.points:,} points", view.unit, view.reduction) if part)
            yield SearchHit("series", facts.run, view.name, detail, exact=wanted == view.name.casefold())


def _events(facts: ReleaseFacts, wish: Wish, wanted: str) -> Iterator[SearchHit]:
    for event in facts.events:
        if event.kind in wish.events or (len(wanted) > 2 and wanted in event.note.casefold()):
            yield SearchHit("event", facts.run, event_name(event.kind), _event(event), event.step)


def _event(event: EventView) -> str:
    where = "step not recorded" if event.step is None else f"step {event.step:,}"
    if event.step is not None and event.last_step not in (None, event.step):
        where += f" to {event.last_step:,}"
    return shortened(f"{where}. {event.note}" if event.note else where)


def _findings(facts: ReleaseFacts, wanted: str) -> Iterator[SearchHit]:
    for finding in facts.findings:
        if any(wanted in text.casefold() for text in (finding.code, finding.severity, finding.message)):
            name = f"{finding.severity}: {finding.code}"
            yield SearchHit("finding", facts.run, name, shortened(finding.message), finding.step, finding.id)
