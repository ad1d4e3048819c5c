"""Find a run's current release and read its facts, in a constant number of queries."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from typing import Any

from sqlalchemy import case, func
from sqlalchemy import select as core_select
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from portal.catalog.answers import CheckpointRow, ChunkRow, ChunkSpanView, EventView, OrderView, SeriesView
from portal.catalog.facts import (
    CheckpointFact,
    ChunkFact,
    ConfigFact,
    EventFact,
    OrderFact,
    ReleaseFacts,
    ReleaseHead,
    SeriesFact,
    SpanFact,
    Spans,
)
from portal.catalog.files import FileRow, load_files, place_in_reach
from portal.catalog.paging import check_text
from portal.catalog.reviewed import finding_views
from portal.catalog.revisions import clock_of, read_stamp
from portal.catalog.shelves import engine_of, shelf_of
from portal.catalog.sight import list_hidden
from portal.catalog.tombstones import find_withdrawn
from portal.catalog.veil import named_runs, seen_facts
from portal.errors import NotFound, RunNotFound
from portal.manifest.expand import FileEntry, OrderEntry, StageEntry
from portal.models import (
    Checkpoint,
    Chunk,
    ChunkSpan,
    Config,
    DataOrder,
    Event,
    File,
    FileLocation,
    Finding,
    MetricSeries,
    Release,
    Run,
    Stage,
)
from portal.tokens.orders import explain_order

CLOSE_MATCHES = 5


def load_facts(session: Session, run: str, version: int | None = None, withdrawn: bool = False) -> ReleaseFacts:
    """The facts of the current release of ``org/name``, or of an earlier ``version`` of it.

    No query when they are at hand and the catalog has not changed. RunNotFound names close matches,
    NotFound the versions there are, Withdrawn who withdrew it and why; with ``withdrawn`` a version is read all the same.
    """
    engine = engine_of(session)
    shelf = shelf_of(engine)
    key = run if version is None else f"{run}@{version}{'!' if withdrawn else ''}"
    facts = shelf.find(key, clock_of(engine).stamp(session))
    seen = seen_facts(facts) if facts is not None else None
    if seen is None:
        # Kept under what this session sees, which may be older than what is committed by now. What whoever asks may not
        # see is asked for as well, and is not found, by the same way and in the same time as what there is not.
        stamp = read_stamp(session)
        facts = _read(session, run, version, withdrawn)
        shelf.keep(key, stamp, facts)
        seen = seen_facts(facts)
    if seen is None:
        raise _unknown(session, run)
    return seen


def _read(session: Session, run: str, version: int | None, withdrawn: bool) -> ReleaseFacts:
    head, private_to = _head(session, run, version)
    if version is not None and not withdrawn and (gone := find_withdrawn(session, run, version)) is not None:
        raise gone
    findings = finding_views(session, head.id, _rows(session, Finding, head.id, Finding.step))
    orders = {o.id: _order(o) for o in _rows(session, DataOrder, head.id, DataOrder.first_step)}
    chunks = _rows(session, Chunk, head.id, Chunk.position)
    spans = _spans(session, head.id, {c.id: c.name for c in chunks}, orders)
    by_chunk: dict[str, list[ChunkSpanView]] = defaultdict(list)
    for span in spans:
        by_chunk[span.chunk].append(span.view)
    checkpoints = _checkpoints(session, head.id, Counter(f.step for f in findings if f.state == "open"))
    files = {f.id: f for f in _loose_files(session, head.id)}
    at_hand = _at_hand(session, head.id, {c.id: c.name for c in chunks})
    events = [_event(e) for e in _rows(session, Event, head.id, Event.step)]
    return _assemble(
        session,
        ReleaseFacts(
            run=run,
            head=head,
            stages=[_stage(s) for s in _rows(session, Stage, head.id, Stage.first_step)],
            checkpoints=checkpoints,
            chunks={c.name: _chunk(c, by_chunk[c.name]) for c in chunks},
            orders=Spans(list(orders.values())),
            spans=Spans(spans),
            configs=[_config(c, files) for c in _rows(session, Config, head.id, Config.first_step)],
            series=[_series(s) for s in _rows(session, MetricSeries, head.id, MetricSeries.id)],
            events=events,
            findings=findings,
            tokenizer=_tokenizer(list(files.values())),
            loose_files={f.path: f for f in files.values()},
            at_hand=at_hand,
            unknown_sizes=_unknown_sizes(session, head.id),
            private_to=private_to,
            elsewhere=_elsewhere(session, head.id, {c.id: c.name for c in chunks if c.name not in at_hand}),
        ),
    )


def _assemble(session: Session, facts: ReleaseFacts) -> ReleaseFacts:
    if named := named_runs(facts):
        facts.private_parents.update(list_hidden(session, named))
    facts.chunk_rows.update((name, c.row.rows) for name, c in facts.chunks.items())
    facts.steps.extend(c.row.step for c in facts.checkpoints if c.row.step is not None)
    facts.released.extend(c for c in facts.checkpoints if c.row.step is not None and not c.row.missing)
    facts.released_steps.extend(c.row.step for c in facts.released if c.row.step is not None)
    facts.events_by_step.__init__(  # type: ignore[misc]
        [EventFact(e.step, max(e.step, e.last_step or e.step), e) for e in facts.events if e.step is not None]
    )
    for finding in facts.findings:
        if finding.step is not None and finding.state != "fixed":
            facts.findings_by_step.setdefault(finding.step, []).append(finding)
    facts.series_by_name.update((s.view.name, s) for s in facts.series)
    for checkpoint in facts.checkpoints:
        for label in checkpoint.row.labels:
            facts.labels.setdefault(label, checkpoint)
    return facts


def _head(session: Session, run: str, version: int | None) -> tuple[ReleaseHead, str | None]:
    org, _, name = check_text(run, "run").partition("/")
    statement = (
        select(Release, Run.private_to)
        .join(Run, col(Release.run_id) == col(Run.id))
        .where(Run.org == org, Run.name == name)
        .where(col(Release.version) == (col(Run.version) if version is None else version))
        .options(defer(Release.manifest))  # type: ignore[arg-type]
    )
    found = session.exec(statement).first()
    if found is None:
        raise _unknown(session, run) if version is None else _no_version(session, run, version)
    release, private_to = found
    return ReleaseHead(**{name: getattr(release, name) for name in ReleaseHead.__dataclass_fields__}), private_to


def _no_version(session: Session, run: str, version: int) -> NotFound:
    current = _head(session, run, None)[0].version
    return NotFound(
        f"{run} has no version {version}; the current one is {current}.",
        f"Ask for version {current}, or leave the version out.",
        nearest=[current],
        replaces="v",
    )


def _unknown(session: Session, run: str) -> NotFound:
    if (gone := find_withdrawn(session, run)) is not None:
        return gone
    names = [
        f"{org}/{name}" for org, name in session.exec(select(Run.org, Run.name).where(Run.version > 0).limit(10_000))
    ]
    tails = {n.partition("/")[2]: n for n in names}
    close = difflib.get_close_matches(run.lower(), names, CLOSE_MATCHES, 0.5)
    close += [
        tails[t] for t in difflib.get_close_matches(run.lower().rpartition("/")[2], list(tails), CLOSE_MATCHES, 0.6)
    ]
    nearest = list(dict.fromkeys(close))[:CLOSE_MATCHES]
    remedy = f"Did you mean {' or '.join(nearest)}?" if nearest else "See /runs for what there is."
    return RunNotFound(f"There is no run {run[:200]!r}.", remedy, nearest=nearest)


def _rows(session: Session, table: Any, release_id: int, order: Any) -> list[Any]:
    # NULLs are put last by name: PostgreSQL and SQLite disagree about their place. Plain rows, because
    # making objects of ten thousand checkpoints takes three times as long.
    columns = table.__table__
    statement = core_select(columns).where(columns.c.release_id == release_id)
    return list(session.execute(statement.order_by(order.is_(None), order, columns.c.id)).all())


def _stage(s: Stage) -> StageEntry:
    return StageEntry(
        s.name,
        s.first_step,
        s.last_step,
        s.first_local_step,
        s.sequence_length,
        s.row_length,
        s.rows_per_step,
        s.tokens_per_step,
        s.note,
    )


def _order(o: DataOrder) -> OrderFact:
    spec = dict(o.spec)
    file = spec.get("file")
    entry = OrderEntry(**{**spec, "chunks": tuple(spec["chunks"]), "file": FileEntry(**file) if file else None})
    return OrderFact(o.id or 0, entry, OrderView(o.kind, o.confidence, o.assumption, explain_order(entry)))


def _spans(
    session: Session, release_id: int, names: dict[int | None, str], orders: dict[int, OrderFact]
) -> list[SpanFact]:
    found = []
    for span in _rows(session, ChunkSpan, release_id, ChunkSpan.first_step):
        order = orders[span.order_id]
        view = ChunkSpanView(span.first_step, span.last_step, span.repeat, order.view.kind, order.view.confidence)
        found.append(SpanFact(names[span.chunk_id], order, view))
    return found


def _checkpoints(session: Session, release_id: int, findings: Counter[int | None]) -> list[CheckpointFact]:
    return [
        CheckpointFact(
            c.id,
            CheckpointRow(
                step=c.step,
                stage=c.stage,
                local_step=c.local_step,
                tokens=c.tokens,
                tokens_declared=c.tokens_declared,
                labels=list(c.labels),
                dtype=c.dtype,
                contains=list(c.contains),
                missing=c.missing,
                files=c.file_count,
                total_bytes=c.total_bytes,
                location=_shown_location(c.location),
                note=c.note,
                findings=0 if c.step is None else findings[c.step],
            ),
            list(c.parents),
        )
        for c in _rows(session, Checkpoint, release_id, Checkpoint.step)
    ]


def _shown_location(location: str | None) -> str | None:
    """A folder of this machine is nobody's business."""
    return "local" if location and location.startswith("file://") else location


def _chunk(c: Chunk, spans: list[ChunkSpanView]) -> ChunkFact:
    row = ChunkRow(
        c.name, c.position, c.format, c.rows, c.row_length, c.tokens, c.total_bytes, dict(c.sources), c.skipped, spans
    )
    return ChunkFact(c.id or 0, row, c.dtype, c.header, c.dialect, c.column, c.note)


def _loose_files(session: Session, release_id: int) -> list[FileRow]:
    return load_files(session, release_id, col(File.checkpoint_id).is_(None), col(File.chunk_id).is_(None))


def _at_hand(session: Session, release_id: int, names: dict[int | None, str]) -> frozenset[str]:
    here = col(FileLocation.uri).like("file://%") & (col(FileLocation.state) != "missing")
    statement = (
        select(File.chunk_id, func.count(func.distinct(File.id)), func.count(func.distinct(case((here, File.id)))))
        .join(FileLocation, col(FileLocation.file_id) == col(File.id), isouter=True)
        .where(File.release_id == release_id, col(File.chunk_id).is_not(None))
        .group_by(col(File.chunk_id))
    )
    return frozenset(names[chunk] for chunk, files, local in session.execute(statement) if files == local)


def _unknown_sizes(session: Session, release_id: int) -> int:
    asked = select(func.count()).select_from(File).where(File.release_id == release_id, col(File.size).is_(None))
    return session.exec(asked).one()


def _elsewhere(session: Session, release_id: int, names: dict[int | None, str]) -> dict[str, tuple[FileRow, ...]]:
    """Of the chunks in ``names``, those all of whose files some store could read."""
    if not names:
        return {}
    found: dict[str, list[FileRow]] = defaultdict(list)
    for row in load_files(session, release_id, col(File.chunk_id).is_not(None)):
        if row.chunk_id in names:
            found[names[row.chunk_id]].append(row)
    return {name: tuple(rows) for name, rows in found.items() if all(place_in_reach(row) for row in rows)}


def _tokenizer(files: list[FileRow]) -> FileRow | None:
    named = [f for f in files if f.path.rsplit("/", 1)[-1] == "tokenizer.json"]
    return next(iter(named), None) or next(
        (f for f in files if f.role == "tokenizer" and f.path.endswith(".json")), None
    )


def _config(c: Config, files: dict[int, FileRow]) -> ConfigFact:
    return ConfigFact(c.first_step, c.last_step, dict(c.values), dict(c.code), files.get(c.file_id or 0), c.note)


def _series(s: MetricSeries) -> SeriesFact:
    view = SeriesView(
        s.name,
        s.group,
        s.unit,
        s.reduction,
        s.description,
        s.column,
        s.source,
        s.x_kind,
        s.points,
        s.first_step,
        s.last_step,
        s.nan_count,
        s.inf_count,
    )
    return SeriesFact(view, s.location)


def _event(e: Event) -> EventView:
    return EventView(e.step, e.last_step, e.kind, e.chunk, e.note, e.evidence, e.origin)
