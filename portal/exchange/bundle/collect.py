"""What the catalog knows of a run, read once for a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlmodel import Session

from portal.catalog.answers import EvaluationView, RunDetail, SeriesView
from portal.catalog.evaluations import list_evaluations
from portal.catalog.facts import ReleaseFacts
from portal.catalog.files import FileRow, Links
from portal.catalog.metrics import metrics_root
from portal.catalog.published import find_published
from portal.catalog.release import load_facts
from portal.catalog.runs import get_run
from portal.catalog.signatures import find_signable, get_signature, list_signatures
from portal.errors import PortalError
from portal.metrics.series import Series, open_series
from portal.settings import Settings


@dataclass(frozen=True)
class OpenedSeries:
    """A series with its numbers; None where these are damaged or gone."""

    view: SeriesView
    numbers: Series | None


@dataclass(frozen=True)
class Collected:
    """A run as a bundle needs it."""

    settings: Settings
    detail: RunDetail
    facts: ReleaseFacts
    manifest: str
    """Canonical JSON."""
    fingerprint: str
    root: str
    files: list[FileRow]
    evaluations: list[EvaluationView]
    signatures: dict[str, str]
    """Publishers' signatures by the id of their key."""
    links: Links

    @property
    def run(self) -> str:
        """``org/name``."""
        return self.detail.summary.run

    def series(self) -> Iterator[OpenedSeries]:
        """Every series, opened one after the other."""
        root = metrics_root(self.settings)
        for fact in self.facts.series:
            try:
                yield OpenedSeries(fact.view, open_series(root, fact.location))
            except PortalError:
                yield OpenedSeries(fact.view, None)

    def files_of(self, checkpoint: int | None = None, chunk: int | None = None) -> list[FileRow]:
        """The files of a checkpoint or chunk by its id."""
        return [f for f in self.files if (f.checkpoint_id, f.chunk_id) == (checkpoint, chunk)]


def collect(session: Session, settings: Settings, run: str) -> Collected:
    """Read the current release of a run; RunNotFound names close matches."""
    facts = load_facts(session, run)
    release, published = find_signable(session, run), find_published(session, run)
    return Collected(
        settings=settings,
        detail=get_run(session, run),
        facts=facts,
        manifest=release.manifest,
        fingerprint=published.fingerprint if published else "",
        root=release.root,
        files=release.files,
        evaluations=list(_evaluations(session, run)),
        signatures={s.key_id: get_signature(session, run, s.key_id) for s in list_signatures(session, run)},
        links=Links.of(settings),
    )


def _evaluations(session: Session, run: str) -> Iterator[EvaluationView]:
    cursor: str | None = None
    while True:
        page = list_evaluations(session, run, 1000, cursor)
        yield from page.items
        cursor = page.next
        if cursor is None:
            return
