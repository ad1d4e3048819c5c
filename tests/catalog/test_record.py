"""The write door: one transaction, findings that keep their state, file states, versions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, func
from sqlmodel import col, select

from portal.catalog.answers import FoundFinding
from portal.catalog.record import (
    MET,
    finding_key,
    lock_run,
    record_findings,
    record_location_states,
    record_release,
    record_verified,
    recording,
)
from portal.catalog.recorded import RecordedFile, ReleaseRecord
from portal.catalog.revisions import read_stamp
from portal.catalog.rows import storable
from portal.database import open_session
from portal.errors import Unavailable
from portal.manifest import Manifest, checkpoints_of, chunks_of, orders_of
from portal.models import Checkpoint, ChunkSpan, File, FileLocation, Finding, Release, Run
from portal.tokens.orders import SpanOfChunk

MANIFEST = {
    "format": "llm360-portal/release/1",
    "run": "lab/run",
    "training": {"last_step": 20},
    "checkpoints": [{"steps": {"first": 5, "every": 5, "count": 4}, "labels": ["c{index}"], "location": "x"}],
    "data": {
        "chunks": [{"names": {"pattern": "p{index}", "count": 2}, "files": [], "format": "jsonl"}],
        "order": [
            {"first_step": 1, "last_step": 10, "chunks": ["p1", "p0"], "kind": "unknown"},
            {"first_step": 11, "last_step": 20, "chunks": ["p1"], "kind": "unknown"},
        ],
    },
}


def release(fingerprint: str = "f", **files: str) -> ReleaseRecord:
    """A release whose first checkpoint has ``files`` (name to sha256)."""
    manifest = Manifest.model_validate(MANIFEST)
    owned = [RecordedFile(n, f"file:///{n}", "weights", 5, sha, 1, "verified") for n, sha in files.items()]
    checkpoints = [(entry, owned if k == 0 else []) for k, entry in enumerate(checkpoints_of(manifest))]
    orders = [(o, [SpanOfChunk(name, o.first_step, o.last_step) for name in o.chunks]) for o in orders_of(manifest)]
    chunks = [(c, []) for c in chunks_of(manifest)]
    return ReleaseRecord(manifest, "{}", fingerprint, "file:///", checkpoints, chunks, [], orders)


def record(engine: Engine, given: ReleaseRecord) -> tuple[int, int] | None:
    with recording(engine) as session:
        return record_release(session, given)


def finding(code: str, subject: str = "", step: int | None = None, severity: str = "warning") -> FoundFinding:
    return FoundFinding(code, severity, f"{code} was found", step, {"subject": subject}, subject)


def states(engine: Engine) -> dict[str, str]:
    with open_session(engine) as session:
        return dict(session.exec(select(Finding.key, Finding.state)).all())


def test_versions_count_up_and_an_equal_fingerprint_is_no_version(engine: Engine) -> None:
    first = record(engine, release("a"))
    assert first is not None
    assert first[1] == 1
    assert record(engine, release("a")) is None
    second, third = record(engine, release("b")), record(engine, release("a"))
    assert second is not None
    assert third is not None
    assert (second[1], third[1]) == (2, 3)
    with open_session(engine) as session:
        assert session.exec(select(Run.version)).one() == 3
        assert session.exec(select(func.count()).select_from(Checkpoint)).one() == 12


def test_a_chunk_read_again_is_numbered(engine: Engine) -> None:
    record(engine, release())
    with open_session(engine) as session:
        spans = session.exec(select(ChunkSpan).order_by(col(ChunkSpan.id))).all()
    assert [(s.first_step, s.repeat) for s in spans] == [(1, 0), (1, 0), (11, 1)]


def test_rows_belong_to_their_owners(engine: Engine) -> None:
    record(engine, release("a", one="s1", two="s2"))
    with open_session(engine) as session:
        found = session.exec(select(File.path, File.position, Checkpoint.step).join(Checkpoint)).all()
        release_row = session.exec(select(Release)).one()
    assert sorted(found) == [("one", 0, 5), ("two", 1, 5)]
    assert (release_row.file_count, release_row.total_bytes, release_row.checkpoint_count) == (2, 10, 4)


def test_files_that_were_replaced_are_marked_in_the_version_before(engine: Engine) -> None:
    record(engine, release("a", one="s1", two="s2"))
    record(engine, replace(release("b", one="s1", two="other"), reason="It was cut off."))
    with open_session(engine) as session:
        found = session.exec(select(FileLocation.uri, FileLocation.state).order_by(col(FileLocation.id))).all()
    assert found == [
        ("file:///one", "verified"), ("file:///two", "changed"), ("file:///one", "verified"), ("file:///two", "verified"),
    ]  # fmt: skip


def test_what_raises_leaves_nothing(engine: Engine) -> None:
    def break_off() -> None:
        with recording(engine) as session:
            record_release(session, release())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with open_session(engine) as session:
        for table in (Run, Release, Checkpoint, ChunkSpan):
            assert session.exec(select(func.count()).select_from(table)).one() == 0


def test_what_the_database_refuses_is_told_as_unavailable(engine: Engine) -> None:
    given = release()
    twice = replace(given, chunks=[*given.chunks, *given.chunks])
    with pytest.raises(Unavailable, match="did not take the release"):
        record(engine, twice)
    with open_session(engine) as session:
        assert session.exec(select(func.count()).select_from(Run)).one() == 0


def test_a_run_is_locked_once_and_made_once(engine: Engine) -> None:
    with recording(engine) as session:
        one = lock_run(session, "lab/run")
    with recording(engine) as session:
        assert lock_run(session, "lab/run") == one
        assert lock_run(session, "lab/other") != one


@pytest.fixture
def recorded(engine: Engine) -> int:
    found = record(engine, release("a", one="s1", two="s2"))
    assert found is not None
    return found[0]


def test_findings_open_become_fixed_and_open_again(engine: Engine, recorded: int) -> None:
    one, two = finding("gap", "a", 5), finding("gap", "b", 5)
    with recording(engine) as session:
        record_findings(session, recorded, [one, two, one])
    assert states(engine) == {finding_key(one): "open", finding_key(two): "open"}
    with recording(engine) as session:
        record_findings(session, recorded, [two])
    assert states(engine) == {finding_key(one): "fixed", finding_key(two): "open"}
    with recording(engine) as session:
        record_findings(session, recorded, [one, replace(two, message="worse", severity="error", evidence={"n": 1})])
    assert states(engine) == {finding_key(one): "open", finding_key(two): "open"}
    with open_session(engine) as session:
        stored = session.exec(select(Finding).where(Finding.key == finding_key(two))).one()
    assert (stored.message, stored.severity, stored.evidence) == ("worse", "error", {"n": 1})


def test_an_explained_finding_stays_explained(engine: Engine, recorded: int) -> None:
    with recording(engine) as session:
        record_findings(session, recorded, [finding("gap")])
        session.exec(select(Finding)).one().state = "explained"
    for findings in ([finding("gap")], []):
        with recording(engine) as session:
            record_findings(session, recorded, findings)
        assert set(states(engine).values()) == {"explained"}


def test_what_publishing_met_outlives_later_scans(engine: Engine, recorded: int) -> None:
    with recording(engine) as session:
        record_findings(session, recorded, [finding("gap")], met=[finding("unsorted-steps")])
    with recording(engine) as session:
        record_findings(session, recorded, [])
    assert states(engine) == {
        finding_key(finding("gap")): "fixed",
        MET + finding_key(finding("unsorted-steps")): "open",
    }


def test_evidence_is_kept_on_both_databases(engine: Engine, recorded: int) -> None:
    odd = FoundFinding(
        "odd", "info", "a\0b\ud800", None, {"nan": float("nan"), "inf": [float("-inf")], "n": {1}, "t": "x\0"}
    )
    with recording(engine) as session:
        record_findings(session, recorded, [odd])
    with open_session(engine) as session:
        stored = session.exec(select(Finding)).one()
    assert stored.message == "a\u2400b\\ud800"
    assert stored.evidence == {"nan": "nan", "inf": ["-inf"], "n": [1], "t": "x\u2400"}


def test_storable_leaves_ordinary_values_alone() -> None:
    assert storable({"a": [1, 2.5, "é", None, True]}) == {"a": [1, 2.5, "é", None, True]}
    assert storable(float("inf")) == "+inf"


def test_file_states_change_and_readers_notice(engine: Engine, recorded: int) -> None:
    with open_session(engine) as session:
        ids = session.exec(select(FileLocation.id).order_by(col(FileLocation.id))).all()
        before = read_stamp(session)
    with recording(engine) as session:
        record_location_states(session, {ids[0]: "missing", ids[1]: "verified"})
    assert locations(engine) == [("missing", 1), ("verified", 1)]
    with recording(engine) as session:
        record_verified(session, recorded, {ids[0]: 77})
        record_verified(session, recorded, {})
    assert locations(engine) == [("verified", 77), ("verified", 1)]
    with open_session(engine) as session:
        assert read_stamp(session) != before


def test_many_file_states_are_set(engine: Engine) -> None:
    found = record(engine, release("a", **{f"f{k}": f"s{k}" for k in range(1200)}))
    assert found is not None
    with recording(engine) as session:
        ids = session.exec(select(FileLocation.id)).all()
        record_location_states(session, dict.fromkeys([k for k in ids if k], "missing"))
    assert {state for state, _ in locations(engine)} == {"missing"}


def locations(engine: Engine) -> list[tuple[str, int | None]]:
    with open_session(engine) as session:
        return list(
            session.exec(select(FileLocation.state, FileLocation.modified_ns).order_by(col(FileLocation.id))).all()
        )
