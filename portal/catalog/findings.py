"""Configs, events and findings of a run as lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from portal.catalog.answers import ConfigView, EventView, FindingGroup, FindingView, Page
from portal.catalog.facts import ConfigFact
from portal.catalog.files import Links
from portal.catalog.paging import slice_page
from portal.catalog.release import load_facts
from portal.settings import Settings

SEVERITIES = ("error", "warning", "info")
STATES = ("open", "explained", "fixed")
SHOWN = 3
"""Findings of a group that are shown with it."""
_LAST = 2**62


@dataclass(frozen=True)
class FindingFilter:
    """Which findings; empty members ask for all."""

    code: str = ""
    severity: str = ""
    state: str = ""
    step: int | None = None

    def keeps(self, finding: FindingView) -> bool:
        """Whether a finding is among those asked for."""
        asked = ((self.code, finding.code), (self.severity, finding.severity), (self.state, finding.state))
        return all(not want or want == has for want, has in asked) and self.step in (None, finding.step)


def list_findings(
    session: Session, run: str, limit: int = 100, cursor: str | None = None, wanted: FindingFilter = FindingFilter()
) -> Page[FindingView]:
    """What the portal found out itself: errors first, then by step; those about the whole run last."""
    facts = load_facts(session, run)
    return slice_page(_sorted(facts.findings, wanted), facts.head.version, limit, cursor)


def group_findings(session: Session, run: str, wanted: FindingFilter = FindingFilter()) -> list[FindingGroup]:
    """The same, one entry a kind, severity and state, with the first few of each."""
    groups: dict[tuple[str, str, str], list[FindingView]] = {}
    for finding in _sorted(load_facts(session, run).findings, wanted):
        groups.setdefault((finding.code, finding.severity, finding.state), []).append(finding)
    return [
        FindingGroup(*key, len(found), *_reach([f.step for f in found if f.step is not None]), found[:SHOWN])
        for key, found in groups.items()
    ]


def list_events(
    session: Session, run: str, limit: int = 100, cursor: str | None = None, kind: str = ""
) -> Page[EventView]:
    """What happened, by step; events whose step nobody recorded last. ``kind`` keeps one kind."""
    facts = load_facts(session, run)
    events = [e for e in facts.events if e.kind == kind] if kind else facts.events
    return slice_page(events, facts.head.version, limit, cursor)


def count_events(session: Session, run: str) -> dict[str, int]:
    """How many events there are of each kind, most first."""
    return dict(Counter(e.kind for e in load_facts(session, run).events).most_common())


def list_configs(
    session: Session, run: str, limit: int = 100, cursor: str | None = None, settings: Settings | None = None
) -> Page[ConfigView]:
    """Configs by the step from which they hold."""
    facts = load_facts(session, run)
    links = Links.of(settings)
    return slice_page([config_view(c, links) for c in facts.configs], facts.head.version, limit, cursor)


def config_view(config: ConfigFact, links: Links) -> ConfigView:
    """A config with its file's address."""
    file = links.file_view(config.file) if config.file else None
    return ConfigView(config.first_step, config.last_step, config.values, config.code, file, config.note)


def _sorted(findings: Sequence[FindingView], wanted: FindingFilter) -> list[FindingView]:
    def rank(finding: FindingView) -> tuple[int, int]:
        known = finding.severity in SEVERITIES
        severity = SEVERITIES.index(finding.severity) if known else len(SEVERITIES)
        return severity, _LAST if finding.step is None else finding.step

    return sorted((f for f in findings if wanted.keeps(f)), key=rank)


def _reach(steps: list[int]) -> tuple[int | None, int | None]:
    return (min(steps), max(steps)) if steps else (None, None)
