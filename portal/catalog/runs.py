"""List and find runs; build a timeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, func, or_, tuple_
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from portal.catalog.answers import OrderSpanView, Page, RunDetail, RunSummary, StageView, Timeline
from portal.catalog.facts import ReleaseFacts
from portal.catalog.jobs.verdicts import list_verdicts
from portal.catalog.openness import Counts, count_rows, finding_counts, openness_of, weakest_confidence
from portal.catalog.paging import check_limit, check_text
from portal.catalog.release import load_facts
from portal.catalog.signatures import signer_ids
from portal.catalog.tombstones import find_withdrawals, newest_withdrawn
from portal.errors import BadRequest
from portal.manifest.expand import StageEntry
from portal.models import Checkpoint, Release, Run


def list_runs(
    session: Session, limit: int = 100, cursor: str | None = None, text: str = "", withdrawn: bool = False
) -> Page[RunSummary]:
    """Published runs by name, in a constant number of queries. The cursor is the last run's name.

    ``text`` keeps those whose name or title contains it, whatever the case. With ``withdrawn`` those of which no version
    is left, as the last one showed them.
    """
    check_limit(limit)
    matching = _matching(check_text(text, "text"))
    joined = (col(Release.run_id) == col(Run.id)) & (
        col(Release.id).in_(newest_withdrawn()) if withdrawn else col(Release.version) == col(Run.version)
    )
    total = session.exec(select(func.count()).select_from(Run).join(Release, joined).where(*matching)).one()
    statement = (
        select(Run.org, Run.name, Run.private_to, Release)
        .join(Release, joined)
        .where(*matching)
        .order_by(col(Run.org), col(Run.name))
        .limit(limit + 1)
        .options(defer(Release.manifest))  # type: ignore[arg-type]
    )
    if cursor:
        org, slash, name = check_text(cursor, "cursor").partition("/")
        if not slash:
            raise BadRequest(
                "The cursor is not one this portal handed out.", "Start again without `cursor`.", parameter="cursor"
            )
        statement = statement.where(tuple_(col(Run.org), col(Run.name)) > (org, name))
    found = session.exec(statement).all()
    shown = found[:limit]
    releases = [r.id for *_, r in shown if r.id is not None]
    counts, grids = count_rows(session, releases), _on_cadence(session, releases)
    items = [
        _summary((f"{org}/{name}", private_to), r, counts.get(r.id or 0, Counts()), grids.get(r.id or 0, 0))
        for org, name, private_to, r in shown
    ]
    if withdrawn:
        gone = find_withdrawals(session, releases)
        items = [replace(item, withdrawn=gone.get(key)) for item, key in zip(items, releases, strict=True)]
    return Page(items, int(total), items[-1].run if len(found) > limit else None)


def get_run(session: Session, run: str) -> RunDetail:
    """Everything a run's head shows. RunNotFound names close matches."""
    facts = load_facts(session, run)
    head = facts.head
    counts = count_rows(session, [head.id]).get(head.id, Counts())
    return RunDetail(
        summary=_summary((run, facts.private_to), head, counts, _on_cadence(session, [head.id]).get(head.id, 0)),
        description=head.description,
        license=head.license,
        links=head.links,
        model=head.model,
        parent_run=head.parent_run,
        parent_step=head.parent_step,
        cadence=head.cadence,
        sequence_length=head.sequence_length,
        row_length=head.row_length,
        rows_per_step=head.rows_per_step,
        tokens_per_step=head.tokens_per_step,
        stages=stage_views(facts),
        tokenizer=facts.tokenizer.path if facts.tokenizer else None,
        signed_by=signer_ids(session, head.id),
        verdicts=list_verdicts(session, run),
        published_by=head.published_by,
        unknown_sizes=facts.unknown_sizes,
    )


def get_timeline(session: Session, run: str) -> Timeline:
    """All lanes of a run by step."""
    facts = load_facts(session, run)
    return Timeline(
        run=run,
        version=facts.head.version,
        first_step=facts.head.first_step,
        last_step=facts.last_step or None,
        stages=stage_views(facts),
        checkpoints=[c.row for c in facts.checkpoints],
        chunks=[c.row for c in facts.chunks.values()],
        orders=[OrderSpanView(o.first_step, o.last_step, len(o.entry.chunks), o.view) for o in facts.orders.all],
        events=facts.events,
        findings=[f for f in facts.findings if f.state != "fixed"],
    )


def stage_views(facts: ReleaseFacts) -> list[StageView]:
    """The stages of a run."""
    return [stage_view(s) for s in facts.stages]


def stage_view(stage: StageEntry) -> StageView:
    """A stage as answers show it."""
    return StageView(
        stage.name,
        stage.first_step,
        stage.last_step,
        stage.first_local_step,
        stage.sequence_length,
        stage.row_length,
        stage.rows_per_step,
        stage.tokens_per_step,
        stage.note,
    )


def _matching(text: str) -> list[ColumnElement[bool]]:
    if not text:
        return []
    name = col(Run.org) + "/" + col(Run.name)
    return [or_(name.icontains(text, autoescape=True), col(Release.title).icontains(text, autoescape=True))]


def _summary(run_and_owner: tuple[str, str | None], release: Any, counts: Counts, on_cadence: int) -> RunSummary:
    run, private_to = run_and_owner
    return RunSummary(
        run=run,
        title=release.title or run,
        kind=release.kind,
        synthetic=release.synthetic,
        parameters=release.model.get("parameters"),
        # A release that names no last step is recorded with step 0; what that many steps read is not known either.
        tokens=release.tokens if release.last_step else None,
        first_step=release.first_step,
        last_step=release.last_step or None,
        checkpoints=counts.checkpoints,
        checkpoints_expected=_expected(release, counts, on_cadence),
        chunks=counts.chunks,
        series=counts.series,
        files=release.file_count,
        total_bytes=release.total_bytes,
        order_confidence=weakest_confidence(release, counts),
        openness=openness_of(release, counts),
        findings=finding_counts(counts),
        version=release.version,
        published_at=release.published_at,
        verified_at=counts.verified_at,
        verified_files=counts.verified,
        visibility="private" if private_to else "public",
    )


def _expected(release: Any, counts: Counts, on_cadence: int) -> int:
    if not release.cadence:
        return counts.checkpoints + counts.missing
    # Checkpoints off the cadence (step 0, a dense beginning) are expected because they are there.
    return max(counts.checkpoints, counts.checkpoints - on_cadence + int(release.last_step // release.cadence))


def _on_cadence(session: Session, releases: list[int]) -> dict[int, int]:
    """Released checkpoints at multiples of the declared cadence, by release."""
    statement = (
        select(Checkpoint.release_id, func.count(func.distinct(Checkpoint.step)))
        .join(Release, col(Release.id) == col(Checkpoint.release_id))
        .where(
            col(Checkpoint.release_id).in_(releases),
            col(Checkpoint.missing).is_(False),
            col(Checkpoint.step) > 0,
            col(Release.cadence) > 0,
            col(Checkpoint.step) % col(Release.cadence) == 0,
        )
        .group_by(col(Checkpoint.release_id))
    )
    return {release: int(count) for release, count in session.execute(statement)}
