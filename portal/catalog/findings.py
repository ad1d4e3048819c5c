"""Configs, events and findings of a run as lists."""

from __future__ import annotations

from sqlmodel import Session

from portal.catalog.answers import ConfigView, EventView, FindingView, Page
from portal.catalog.facts import ConfigFact
from portal.catalog.files import Links
from portal.catalog.paging import slice_page
from portal.catalog.release import load_facts
from portal.settings import Settings


def list_findings(session: Session, run: str, limit: int = 100, cursor: str | None = None) -> Page[FindingView]:
    """What the portal found out itself; those about the whole run last."""
    facts = load_facts(session, run)
    return slice_page(facts.findings, facts.head.version, limit, cursor)


def list_events(session: Session, run: str, limit: int = 100, cursor: str | None = None) -> Page[EventView]:
    """What happened, by step; events whose step nobody recorded last."""
    facts = load_facts(session, run)
    return slice_page(facts.events, facts.head.version, limit, cursor)


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
