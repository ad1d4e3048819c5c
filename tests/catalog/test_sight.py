"""What is narrowed for whoever asks, on both databases: every way into the catalog, in every shape a query takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from portal.catalog.accounts import ROLES, Caller
from portal.catalog.digests import get_blocks
from portal.catalog.files import find_file
from portal.catalog.jobs.listing import list_jobs
from portal.catalog.jobs.rules import JobRules
from portal.catalog.lineage import get_lineage
from portal.catalog.lookup import search
from portal.catalog.record import recording
from portal.catalog.release import load_facts
from portal.catalog.runs import list_runs
from portal.catalog.sight import EVERYTHING, PUBLIC, Sight, current_sight, list_hidden, looking_as, sight_of
from portal.catalog.visibility import close_run
from portal.database import open_session
from portal.errors import FileNotCatalogued, RunNotFound
from portal.models import File, Job, Release, Run
from portal.settings import Settings
from tests.builders import record, small_run
from tests.jobs.enqueued import put

NAMES = ("lab/open", "lab/own", "other/theirs")
LAB = Sight(organisation="lab")


@pytest.fixture
def three(engine: Engine, settings: Settings, tmp_path: Path) -> Engine:
    """A public run, one private to lab, one private to another organisation; a job on each."""
    small_run(engine, settings, tmp_path / "release", NAMES[0])
    for name in NAMES[1:]:
        record(engine, settings, {"run": name, "parent": {"run": NAMES[0], "step": 5}}, None)
    with recording(engine) as session:
        for name in NAMES[1:]:
            close_run(session, name, name.split("/")[0], "operator")
    for name in NAMES:
        put(engine, JobRules(), base={"run": name, "version": 1, "step": 300, "files": []})
    return engine


def seen(session: Session) -> dict[str, Any]:
    """Names of runs, by every shape of query the catalog uses."""
    joined = (col(Release.run_id) == col(Run.id)) & (col(Release.version) == col(Run.version))
    name = col(Run.org) + "/" + col(Run.name)
    other = aliased(Run)
    inside = select(Release.id).join(Run, joined)
    files = select(func.count(func.distinct(File.release_id))).select_from(File)
    return {
        "columns": sorted(session.exec(select(name)).all()),
        "rows": sorted(f"{run.org}/{run.name}" for run in session.exec(select(Run)).all()),
        "joined": sorted(session.exec(select(name).select_from(Release).join(Run, joined)).all()),
        "joined the other way": sorted(session.exec(select(name).join(Release, joined)).all()),
        "aliased": sorted(session.exec(select(col(other.org) + "/" + col(other.name))).all()),
        "subquery": session.exec(select(func.count()).select_from(Release).where(col(Release.id).in_(inside))).one(),
        "counted": session.exec(select(func.count()).select_from(Run).join(Release, joined)).one(),
        "jobs": sorted(session.exec(select(Job.run)).all()),
        "jobs counted": session.exec(select(func.count()).select_from(Job)).one(),
        "files": session.exec(files).one(),
    }


@pytest.mark.parametrize(
    ("sight", "names"),
    [
        (EVERYTHING, NAMES),
        (PUBLIC, NAMES[:1]),
        (LAB, NAMES[:2]),
        (Sight(organisation="other"), (NAMES[0], NAMES[2])),
        (Sight(organisation="nobody"), NAMES[:1]),
        (Sight(runs=frozenset([NAMES[2]])), (NAMES[0], NAMES[2])),
        (Sight(organisation="lab", runs=frozenset([NAMES[2]])), NAMES[:1]),
    ],
)
def test_every_shape_of_query_is_narrowed(three: Engine, sight: Sight, names: tuple[str, ...]) -> None:
    # Twice: the second time each statement comes from the cache of compiled ones.
    for _ in range(2):
        with looking_as(sight), open_session(three) as session:
            found = seen(session)
            lists, counts = list(names), len(names)
            shapes = ("columns", "rows", "joined", "joined the other way", "aliased", "jobs")
            assert [found[shape] for shape in shapes] == [lists] * len(shapes)
            assert (found["subquery"], found["counted"], found["jobs counted"]) == (counts, counts, counts)
            assert [r.run for r in list_runs(session).items] == lists
            assert list_runs(session).total == list_jobs(session).total == counts
            children = [child["run"] for child in get_lineage(session, NAMES[0]).children]
            assert children == lists[1:]
            hits = [hit.run for group in search(session, "lab").groups for hit in group.hits if group.kind == "run"]
            assert hits == [name for name in lists if name.startswith("lab")]
            for name in NAMES:
                if name in names:
                    assert load_facts(session, name).run == name
                else:
                    with pytest.raises(RunNotFound) as refused:
                        load_facts(session, name)
                    assert name not in refused.value.extra["nearest"]
    assert current_sight() is EVERYTHING


def test_facts_at_hand_are_for_those_who_may_see_them(three: Engine) -> None:
    with open_session(three) as session:
        facts = load_facts(session, NAMES[1])
        assert facts.private_to == "lab"
        with looking_as(PUBLIC), pytest.raises(RunNotFound):
            load_facts(session, NAMES[1])
        with looking_as(LAB):
            assert load_facts(session, NAMES[1]) is facts
            assert load_facts(session, NAMES[1], 1).run == NAMES[1]
        with looking_as(PUBLIC), pytest.raises(RunNotFound):
            load_facts(session, NAMES[1], 1)
        assert list_hidden(session) == {NAMES[1]: "lab", NAMES[2]: "other"}


def test_a_file_is_found_where_a_run_that_is_seen_holds_it(three: Engine, settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "private"
    small_run(three, settings, folder, "lab/files")
    with open_session(three) as session:
        shared = session.exec(select(File.sha256).where(File.path == "step5/model.safetensors")).first()
        assert shared
        held = {place.uri for place in find_file(session, shared).places}
    with recording(three) as session:
        close_run(session, "lab/files", "lab", "operator")
        close_run(session, NAMES[0], "lab", "operator")
    with looking_as(PUBLIC), open_session(three) as session, pytest.raises(FileNotCatalogued):
        find_file(session, shared)
    with looking_as(LAB), open_session(three) as session:
        assert {place.uri for place in find_file(session, shared).places} == held
    with looking_as(PUBLIC), open_session(three) as session, pytest.raises(FileNotCatalogued):
        get_blocks(session, shared)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("organisation", [None, "lab", "other"])
@pytest.mark.parametrize("runs", [(), (NAMES[1],), (NAMES[2],)])
def test_every_role_has_its_sight(role: str, organisation: str | None, runs: tuple[str, ...]) -> None:
    sight = sight_of(Caller(1, "x", role, organisation, runs))
    reads = role != "worker" and organisation in (None, "lab") and runs in ((), (NAMES[1],))
    assert sight.sees(NAMES[1], "lab") == reads
    assert sight.sees(NAMES[0], None)
    # Callers who are let in by a setting, people without a role, and attempts see nothing by their role.
    assert (
        sight_of(Caller(None, "anonymous", "publisher")) == sight_of(Caller(1, "x", "none")) == sight_of(None) == PUBLIC
    )
    assert sight_of(Caller(None, "x", "attempt")) == PUBLIC


@pytest.mark.parametrize(
    ("sight", "sees"),
    [
        (EVERYTHING, [True, True, True]),
        (PUBLIC, [True, False, False]),
        (Sight(organisation="lab"), [True, True, False]),
        (Sight(runs=frozenset(["org/b"])), [True, False, True]),
        (Sight(organisation="lab", runs=frozenset(["org/b"])), [True, False, False]),
    ],
)
def test_sights(sight: Sight, sees: list[bool]) -> None:
    found = [sight.sees(run, owner) for run, owner in (("org/p", None), ("org/a", "lab"), ("org/b", "other"))]
    assert found == sees
