"""Moments: what one version of a release says of a step, a row of its batch, or some tokens; a citation rests on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlmodel import Session, col, select

from portal.catalog.answers import TokenRow
from portal.catalog.answers.moments import CheckpointMark, Moment, MomentRow, MomentTokens
from portal.catalog.batches import BatchRows, decoder_of, rows_of
from portal.catalog.facts import CheckpointFact, ReleaseFacts
from portal.catalog.files import FileRow, find_file, load_files, place_in_reach
from portal.catalog.release import load_facts
from portal.catalog.steps import step_view
from portal.catalog.token_rows import token_row
from portal.errors import BadRequest, DataFault, FileMissing, FileNotCatalogued, IntegrityError, NotFound, Unavailable
from portal.models import File, Release
from portal.settings import Settings


@dataclass(frozen=True)
class Place:
    """What a moment is about: a run, or a step, a row of its batch, or tokens ``first..last`` of that row."""

    run: str
    step: int | None = None
    row: int | None = None
    span: tuple[int, int] | None = None

    @property
    def path(self) -> str:
        """The short address, without a version."""
        parts = [f"/r/{self.run}"]
        parts += [f"s/{self.step}"] if self.step is not None else []
        parts += [f"row/{self.row}"] if self.row is not None else []
        parts += [f"t/{self.span[0]}-{self.span[1]}"] if self.span else []
        return "/".join(parts)

    @property
    def page(self) -> str:
        """The page that shows it."""
        base = f"/runs/{self.run}"
        if self.row is None:
            return base if self.step is None else f"{base}?step={self.step}"
        tokens = f"&t={self.span[0]}-{self.span[1]}" if self.span else ""
        return f"{base}/steps/{self.step}/tokens?row={self.row}{tokens}"


def get_moment(session: Session, settings: Settings, place: Place, version: int | None = None) -> Moment:
    """What ``version`` of the release (default: the current one) says of a place.

    What is not there is a NotFound that names the nearest. A row whose bytes are not at hand, or no longer those
    that were published, is a `fault` of the answer; one that the order cannot name raises OrderUnknown.
    """
    current = load_facts(session, place.run)
    facts = current if version in (None, current.head.version) else load_facts(session, place.run, version)
    at = step_view(facts, settings, place.step) if place.step is not None else None
    row, tokens, fault = None, None, ""
    if place.step is not None and place.row is not None:
        if facts is not current:
            facts = _found_by_hash(session, facts, at.data.chunks if at else [])
        row, tokens, fault = _read(session, settings, facts, place)
    marks = [_mark(session, facts, c) for c in _around(facts, place.step)]
    return Moment(
        run=place.run,
        title=facts.head.title or place.run,
        synthetic=facts.head.synthetic,
        version=facts.head.version,
        current_version=current.head.version,
        published_at=facts.head.published_at,
        fingerprint=session.exec(select(Release.fingerprint).where(Release.id == facts.head.id)).one(),
        permalink=f"{place.path}?v={facts.head.version}",
        page=place.page,
        at=at,
        before=marks[0],
        saved=marks[1],
        after=marks[2],
        row=row,
        tokens=tokens,
        fault=fault,
    )


def read_row(session: Session, settings: Settings, run: str, step: int, row: int) -> BatchRows:
    """One row of a batch as stored, in the current release. NotFound names the last row there is."""
    return _one(rows_of(session, settings, load_facts(session, run), step, (row, 1)), row)


def no_row(step: int, row: int, total: int) -> NotFound:
    """The error that names the last row of a batch."""
    last = max(total - 1, 0)
    return NotFound(
        f"The batch of step {step} has {total:,} rows, counted from 0: there is no row {row}.",
        f"Ask for one of rows 0 to {last}.",
        nearest=[last],
        replaces="row",
    )


def check_span(span: tuple[int, int], ids: int) -> None:
    """Raise NotFound, with the nearest span, when a row of ``ids`` token ids does not hold it."""
    first, last = span
    if first > last:
        raise BadRequest(f"Tokens {first}-{last} end before they begin.", f"Write them as {last}-{first}.")
    if last < ids:
        return
    if not ids:
        raise NotFound("The row is empty: it has no tokens.", "Leave the tokens out of the address.")
    nearest = f"{min(first, ids - 1)}-{ids - 1}"
    raise NotFound(
        f"The row has {ids:,} tokens, counted from 0: tokens {first}-{last} go beyond it.",
        f"The nearest are {nearest}.",
        nearest=[nearest],
        replaces="t",
    )


def digest_ids(ids: Sequence[int]) -> str:
    """sha256 over ids in decimal digits, joined by single spaces: what anyone can compute from any copy of the data."""
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()


def _one(batch: BatchRows, row: int) -> BatchRows:
    if not batch.rows:
        raise no_row(batch.step, row, batch.rows_total)
    return batch


def _read(
    session: Session, settings: Settings, facts: ReleaseFacts, place: Place
) -> tuple[MomentRow | None, MomentTokens | None, str]:
    step, position = place.step or 0, place.row or 0
    try:
        batch = _one(rows_of(session, settings, facts, step, (position, 1)), position)
    except (Unavailable, IntegrityError, FileMissing, DataFault) as error:
        return None, None, str(error)
    row = token_row(*batch.rows[0], decoder_of(session, settings, facts), place.span is not None)
    file = next((f for f in facts.data_files.get(row.chunk, []) if f.path == row.file), None)
    told = MomentRow(
        position=row.position,
        rows_total=batch.rows_total,
        chunk=row.chunk,
        row=row.row,
        source=row.source,
        file=row.file,
        file_sha256=file.sha256 if file else None,
        offset=row.offset,
        length=row.length,
        ids=len(row.token_ids),
        ids_sha256=None if row.fault else digest_ids(row.token_ids),
        order=batch.order,
    )
    if row.fault or place.span is None:
        return told, None, row.fault or ""
    check_span(place.span, len(row.token_ids))
    return told, _tokens(row, place.span), ""


def _tokens(row: TokenRow, span: tuple[int, int]) -> MomentTokens:
    taken = slice(span[0], span[1] + 1)
    ids = row.token_ids[taken]
    return MomentTokens(*span, ids, row.pieces[taken] if row.pieces is not None else None, digest_ids(ids))


def _around(facts: ReleaseFacts, step: int | None) -> list[CheckpointFact | None]:
    """The checkpoints before, at and after a step."""
    if step is None:
        return [None, None, None]
    return [facts.checkpoint_before(step - 1), facts.checkpoint_at(step), facts.checkpoint_after(step)]


def _mark(session: Session, facts: ReleaseFacts, checkpoint: CheckpointFact | None) -> CheckpointMark | None:
    if checkpoint is None:
        return None
    files = load_files(session, facts.head.id, col(File.checkpoint_id) == checkpoint.id)
    weights = sorted((f for f in files if f.role == "weights"), key=lambda f: f.path)
    row = checkpoint.row
    return CheckpointMark(row.step or 0, row.labels, row.missing, _digest(weights), [f.path for f in weights])


def _digest(files: list[FileRow]) -> str | None:
    if not files or any(f.sha256 is None for f in files):
        return None
    if len(files) == 1:
        return files[0].sha256
    return hashlib.sha256("".join(f"{f.sha256}  {f.path}\n" for f in files).encode()).hexdigest()


def _found_by_hash(session: Session, facts: ReleaseFacts, chunks: list[str]) -> ReleaseFacts:
    """Facts of an earlier version in which files that were replaced since are found again by their hash.

    One whose bytes are nowhere any more has no place left: what was cited is then refused, never read from the
    file that took its place.
    """
    ids = {facts.chunks[name].id: name for name in chunks}
    found: dict[str, list[FileRow]] = {name: [] for name in chunks}
    for file in load_files(session, facts.head.id, col(File.chunk_id).in_(list(ids))):
        found[ids[file.chunk_id or 0]].append(_as_published(session, file))
    lost = {name for name, files in found.items() if any(place_in_reach(f) is None for f in files)}
    return replace(
        facts,
        data_files=found,
        at_hand=(facts.at_hand | set(chunks))
        - lost
        - {n for n, files in found.items() if any(not f.local for f in files)},
        elsewhere={n: tuple(files) for n, files in found.items() if n not in lost},
        loose_files={path: _as_published(session, f) for path, f in facts.loose_files.items()},
        tokenizer=_as_published(session, facts.tokenizer) if facts.tokenizer else None,
    )


def _as_published(session: Session, file: FileRow) -> FileRow:
    sound = tuple(p for p in file.places if p.state not in ("changed", "missing"))
    if len(sound) == len(file.places) or replace(file, places=sound).local or not file.sha256:
        return replace(file, places=sound)
    try:
        elsewhere = find_file(session, file.sha256).places
    except FileNotCatalogued:
        elsewhere = ()
    return replace(file, places=sound + tuple(p for p in elsewhere if p.state not in ("changed", "missing")))
