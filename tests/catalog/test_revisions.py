"""The stamp changes with every change of the catalog that an answer could show."""

from __future__ import annotations

from sqlalchemy import Engine

from portal.catalog.release import load_facts
from portal.catalog.revisions import bump_revision, clock_of
from portal.catalog.shelves import kept_facts
from portal.database import open_session
from portal.settings import Settings
from tests.builders import many_checkpoints


def test_the_stamp_changes_when_something_is_published_or_found(engine: Engine, settings: Settings) -> None:
    clock = clock_of(engine)
    with open_session(engine) as session:
        empty = clock.stamp(session)
    release = many_checkpoints(engine, settings, "lab/a", 2)
    with open_session(engine) as session:
        published = clock.stamp(session)
        bump_revision(session, release)
        session.commit()
    with open_session(engine) as session:
        found = clock.stamp(session)
        assert found == clock.stamp(session)
    assert len({empty, published, found}) == 3


def test_facts_read_in_an_old_snapshot_do_not_outlive_it(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/a", 2)
    with open_session(engine) as old:
        load_facts(old, "lab/a")
        many_checkpoints(engine, settings, "lab/a", 3)
        load_facts(old, "lab/a")
    with open_session(engine) as fresh:
        assert len(load_facts(fresh, "lab/a").checkpoints) == 3


def test_uncommitted_changes_are_nobody_elses(engine: Engine, settings: Settings) -> None:
    release = many_checkpoints(engine, settings, "lab/a", 2)
    with open_session(engine) as session:
        before = clock_of(engine).stamp(session)
    with open_session(engine) as writing:
        bump_revision(writing, release)
        writing.flush()
        if clock_of(engine).local:
            assert clock_of(engine).local_stamp() == before
        writing.rollback()


def test_kept_facts_need_no_query_on_an_embedded_database(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/a", 2)
    assert kept_facts(engine, "lab/a") is None
    with open_session(engine) as session:
        loaded = load_facts(session, "lab/a")
    assert kept_facts(engine, "lab/a") is (loaded if clock_of(engine).local else None)


def test_disposing_an_engine_closes_its_clock(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/a", 2)
    with open_session(engine) as session:
        before = clock_of(engine).stamp(session)
    engine.dispose()
    with open_session(engine) as session:
        assert clock_of(engine).stamp(session) == before
