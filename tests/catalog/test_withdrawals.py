"""Versions are corrected with a reason and withdrawn for good: what readers, lists and the name's owner meet then."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from portal.catalog.accounts import Caller
from portal.catalog.audit.listing import EntryFilter, list_entries
from portal.catalog.files import find_file
from portal.catalog.lineage import get_lineage
from portal.catalog.record import record_release
from portal.catalog.referenced import referenced
from portal.catalog.release import load_facts
from portal.catalog.revisions import read_stamp
from portal.catalog.runs import list_runs
from portal.catalog.tombstones import list_versions
from portal.catalog.withdrawals import check_may_return, purge, withdraw
from portal.database import open_session
from portal.errors import (
    BadRequest,
    Conflict,
    FileNotCatalogued,
    Forbidden,
    NotFound,
    ReasonNeeded,
    RunNotFound,
    Withdrawn,
)
from portal.settings import Settings
from tests.builders import SMALL, SmallRun, record, release_of, small_run


@pytest.fixture
def small(engine: Engine, settings: Settings, tmp_path: Path) -> SmallRun:
    return small_run(engine, settings, tmp_path / "release")


def again(engine: Engine, settings: Settings, small: SmallRun, title: str, first_byte: bytes = b"") -> int:
    """Publish the run once more with another title, and other bytes in a checkpoint where some are given."""
    if first_byte:
        (small.folder / "step5" / "model.safetensors").write_bytes(first_byte * 1005)
    return record(engine, settings, SMALL | {"run": small.run, "title": title}, small.folder)


def test_growing_needs_no_reason_replacing_does(engine: Engine, settings: Settings, small: SmallRun) -> None:
    del small
    shorter = {"checkpoints": [{"step": 5, "files": [{"path": "hf://lab/a@b/model.safetensors", "size": 10}]}]}
    longer = {"checkpoints": [*shorter["checkpoints"], {"step": 10, "files": [{"path": "hf://lab/a@c/m.safetensors"}]}]}
    record(engine, settings, {"run": "lab/grows", **shorter})
    for document in (longer, shorter):
        release = release_of(settings, {"run": "lab/grows", **document})
        with open_session(engine) as session:
            if document is longer:
                assert record_release(session, release) is not None
                session.commit()
                continue
            with pytest.raises(ReasonNeeded, match=r"m\.safetensors") as refused:
                record_release(session, release)
            assert refused.value.status == 422
    record(engine, settings, {"run": "lab/grows", **shorter})
    with open_session(engine) as session:
        last, grown, first = list_versions(session, "lab/grows")
    assert first.changes is None
    assert grown.changes is not None
    assert last.changes is not None
    assert (grown.changes.added, grown.changes.changed, grown.changes.removed, grown.reason) == (1, 0, 0, "")
    assert (last.changes.removed, last.reason, last.current) == (1, "Corrected.", True)


def test_a_withdrawn_version_gives_way_to_the_one_before(engine: Engine, settings: Settings, small: SmallRun) -> None:
    again(engine, settings, small, "Better", b"\x99")
    with open_session(engine) as session:
        before = read_stamp(session)
        sha256 = next(f for f in _files(session) if f.path == "step5/model.safetensors").sha256
    done = withdraw(engine, "lab/small", "ada", "  Wrong  weights\nat step 5. ", 2)
    assert (done.versions, done.current, done.reason) == ([2], 1, "Wrong weights at step 5.")
    assert withdraw(engine, "lab/small", "bob", "Again.", 2).versions == []
    with open_session(engine) as session:
        assert read_stamp(session)[2] > before[2], "kept answers are dropped"
        assert load_facts(session, "lab/small").head.title == "A small run"
        for ask in (lambda: load_facts(session, "lab/small", 2), lambda: find_file(session, str(sha256))):
            with pytest.raises(
                Withdrawn, match=r"Version 2 of lab/small was withdrawn on .* by ada: Wrong weights"
            ) as gone:
                ask()
            assert (gone.value.status, gone.value.extra["current"], gone.value.extra["whole"]) == (410, 1, False)
        assert load_facts(session, "lab/small", 2, withdrawn=True).head.title == "Better"
        newest, first = list_versions(session, "lab/small")
        assert newest.withdrawn is not None
        assert (newest.withdrawn.withdrawn_by, newest.current, first.current) == ("ada", False, True)
        (entry,) = list_entries(session, None, EntryFilter(action="run.withdrawn")).items
        assert (entry.actor, entry.run, entry.object) == ("ada", "lab/small", "run:lab/small")
        assert entry.detail == {"versions": [2], "reason": "Wrong weights at step 5.", "before": 2, "after": 1}


def test_a_withdrawn_run_is_gone_from_lists_and_named_by_lineage(
    engine: Engine, settings: Settings, small: SmallRun
) -> None:
    child = {"run": "lab/child", "kind": "finetune", "parent": {"run": "lab/small", "step": 5}}
    record(engine, settings, child)
    with open_session(engine) as session:
        known = _files(session)[0].sha256
    withdraw(engine, "lab/small", "ada", "Its data held names of people.")
    with open_session(engine) as session:
        with pytest.raises(Withdrawn, match="lab/small was withdrawn") as gone:
            load_facts(session, "lab/small")
        assert (gone.value.extra["whole"], gone.value.extra["current"]) == (True, None)
        with pytest.raises(Withdrawn):
            find_file(session, str(known))
        assert [r.run for r in list_runs(session).items] == ["lab/child"]
        assert [
            (r.run, r.withdrawn and r.withdrawn.withdrawn_by) for r in list_runs(session, withdrawn=True).items
        ] == [("lab/small", "ada")]
        (parent,) = get_lineage(session, "lab/child").parents
        assert parent == {"run": "lab/small", "step": 5, "known": False, "withdrawn": True}
        with pytest.raises(RunNotFound):
            load_facts(session, "lab/smal")


def test_names_stay_their_publishers(engine: Engine, settings: Settings, small: SmallRun) -> None:
    with open_session(engine) as session:
        check_may_return(session, "lab/small", Caller(1, "eve", "publisher"))
    withdraw(engine, "lab/small", "operator", "Wrong.")
    with open_session(engine) as session:
        for name, role, organisation, allowed in (
            ("eve", "publisher", None, False),
            ("eve", "publisher", "other", False),
            ("eve", "publisher", "lab", True),
            ("root", "admin", None, True),
        ):
            caller = Caller(1, name, role, organisation)
            if allowed:
                check_may_return(session, "lab/small", caller)
                continue
            with pytest.raises(Forbidden, match="never given to anybody else"):
                check_may_return(session, "lab/small", caller)
    with pytest.raises(Conflict, match="This very content was withdrawn as version 1"):
        small_run(engine, settings, small.folder)
    again(engine, settings, small, "Corrected")
    with open_session(engine) as session:
        assert load_facts(session, "lab/small").head.version == 2
        with pytest.raises(Withdrawn):
            load_facts(session, "lab/small", 1)


def test_only_what_was_withdrawn_is_purged(engine: Engine, settings: Settings, small: SmallRun) -> None:
    again(engine, settings, small, "Better", b"\x42")
    with open_session(engine) as session:
        new = {str(f.sha256) for f in _files(session)}
    with pytest.raises(Conflict, match="was not withdrawn"):
        purge(engine, "lab/small", "root", 2)
    withdraw(engine, "lab/small", "ada", "Wrong.", 2)
    with open_session(engine) as session:
        assert referenced(session, new) == new
    done = purge(engine, "lab/small", "root", 2)
    assert (done.versions, set(done.purged), purge(engine, "lab/small", "root", 2).versions) == ([2], new, [])
    with open_session(engine) as session:
        kept = referenced(session, new)
        assert len(kept) == len(new) - 1, "the first version still needs all but the file that was other"
        assert [e.action for e in list_entries(session, None, EntryFilter(run="lab/small")).items][:2] == [
            "run.purged",
            "run.withdrawn",
        ]


def test_what_cannot_be_withdrawn_is_said(engine: Engine, small: SmallRun) -> None:
    with pytest.raises(RunNotFound):
        withdraw(engine, "lab/nothing", "ada", "Wrong.")
    with pytest.raises(NotFound, match="no version 9"):
        withdraw(engine, small.run, "ada", "Wrong.", 9)
    for reason in ("", " \n ", "x" * 2001):
        with pytest.raises(BadRequest):
            withdraw(engine, small.run, "ada", reason)
    with open_session(engine) as session, pytest.raises(FileNotCatalogued):
        find_file(session, "0" * 64)


def _files(session):  # type: ignore[no-untyped-def]
    from portal.catalog.files import load_files

    return load_files(session, load_facts(session, "lab/small").head.id)
