"""The history: bound entries that the database keeps, nothing lost among many writers, and every way to cheat found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DatabaseError

from portal.catalog.answers.audit import HistoryReport
from portal.catalog.audit.chain import GENESIS, MAX_DETAIL, Change, link
from portal.catalog.audit.heads import sign_head
from portal.catalog.audit.listing import EntryFilter, get_head, list_entries
from portal.catalog.audit.verifying import Witness, load_keys, read_witness, verify_history
from portal.catalog.audit.writing import put_on_record
from portal.catalog.jobs.writing import writing
from portal.catalog.signatures import record_portal_key
from portal.database import open_session
from portal.errors import DataFault
from portal.scan.history import HistoryWatch, sign_now
from portal.settings import Settings
from portal.signing.keys import SigningKey, make_key
from tests.catalog.audit_writers import write_all

COLUMNS = "seq, prev, at_ms, actor, action, object, run, detail, hash"


def put(engine: Engine, count: int, first: int = 1) -> None:
    with writing(engine) as session:
        for k in range(first, first + count):
            run = "lab/small" if k % 2 else None
            put_on_record(
                session, "job.submitted", f"ada-{k % 3}", f"job:{k}", run, {"number": k, "text": "é\n\u2028<"}
            )


def put_and_fail(engine: Engine) -> None:
    with writing(engine) as session:
        put_on_record(session, "job.cancelled", "ada", "job:1")
        session.execute(text("SELECT * FROM nowhere"))


def verify(engine: Engine, *kept: Witness) -> HistoryReport:
    with open_session(engine) as session:
        return verify_history(session, load_keys(session), kept)


def rows(engine: Engine) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        found = connection.execute(text(f"SELECT {COLUMNS} FROM audit_entry ORDER BY seq"))  # noqa: S608
        return [tuple(row) for row in found]


def cheat(engine: Engine, *statements: str) -> None:
    """What somebody with the database's own password can do: take the triggers away, then anything."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            named = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'audit_%'"
            for name in connection.execute(text(named)).scalars().all():
                connection.execute(text(f"DROP TRIGGER {name}"))
        else:
            connection.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER ALL"))
            connection.execute(text("ALTER TABLE audit_head DISABLE TRIGGER ALL"))
        for statement in statements:
            connection.execute(text(statement))


@pytest.fixture
def key(engine: Engine, tmp_path: Path) -> SigningKey:
    made = make_key(tmp_path / "portal.key")
    record_portal_key(engine, made.public.key_id, made.public.pem)
    return made


def test_entries_are_bound_as_anybody_can_compute(engine: Engine) -> None:
    put(engine, 7)
    prev = GENESIS
    for seq, (number, said, at_ms, actor, action, what, run, detail, bound) in enumerate(rows(engine), 1):
        assert (number, said) == (seq, prev)
        body = json.dumps([at_ms, actor, action, what, run, detail], separators=(",", ":"), ensure_ascii=False)
        prev = hashlib.sha256(f"{prev}|{seq}|{body}".encode()).hexdigest()
        assert bound == prev
        assert json.loads(str(detail))["text"] == "é\n\u2028<"
    report = verify(engine)
    assert (report.entries, report.head, report.broken) == (7, prev, None)


def test_an_entry_goes_with_its_change_or_not_at_all(engine: Engine) -> None:
    put(engine, 1)
    with pytest.raises(DatabaseError):
        put_and_fail(engine)
    with open_session(engine) as session:
        put_on_record(session, "job.cancelled", "ada", "job:1")
        session.rollback()
        put_on_record(
            session, "job.retried", "bob\0\ud800", "job:1", None, {"nan": float("nan"), "long": "x" * MAX_DETAIL}
        )
        session.commit()
        session.commit()
    with open_session(engine) as session:
        second, first = list_entries(session, None).items
    assert (first.action, second.action, second.actor) == ("job.submitted", "job.retried", "bob\u2400\\ud800")
    assert second.detail["left_out"] == ["long", "nan"]
    assert verify(engine).entries == 2


def test_the_database_refuses_to_alter_it(engine: Engine, key: SigningKey) -> None:
    put(engine, 3)
    sign_now(engine, key)
    attempts = [f"UPDATE {t} SET hash = '' WHERE seq > 1" for t in ("audit_entry", "audit_head")]  # noqa: S608
    attempts += ["DELETE FROM audit_entry WHERE seq = 3", "DELETE FROM audit_head"]
    values = ", ".join(["'x'" if c not in ("seq", "at_ms") else "2" for c in COLUMNS.split(", ")])
    insert = f"INTO audit_entry ({COLUMNS}) VALUES ({values})"
    if engine.dialect.name == "sqlite":
        attempts += [f"INSERT OR REPLACE {insert}", "UPDATE OR REPLACE audit_entry SET seq = 1 WHERE seq = 2"]
    else:
        attempts += ["TRUNCATE audit_entry", "TRUNCATE audit_head", f"INSERT {insert}"]
    before = rows(engine)
    for attempt in attempts:
        with pytest.raises(DatabaseError), engine.begin() as connection:
            connection.execute(text(attempt))
    if engine.dialect.name == "sqlite":
        with engine.begin() as connection:
            connection.execute(
                text("INSERT OR REPLACE INTO audit_head SELECT id, seq, 'x', key_id, 0, '' FROM audit_head")
            )
    assert rows(engine) == before
    assert verify(engine).heads == 1


def _with_new_hashes(engine: Engine) -> None:
    """A patient cheat: everything from the altered entry on is bound anew."""
    prev, fresh = GENESIS, []
    for seq, _, at_ms, actor, action, what, run, detail, _ in rows(engine):
        actor = "mallory" if seq == 4 else actor
        change = Change(at_ms, str(actor), str(action), str(what), run and str(run), str(detail))  # type: ignore[arg-type]
        fresh.append((seq, prev, actor, prev := link(prev, int(str(seq)), change)))
    for row in fresh:
        cheat(engine, "UPDATE audit_entry SET prev='{1}', actor='{2}', hash='{3}' WHERE seq={0}".format(*row))  # noqa: S608


CHEATS: dict[str, tuple[Callable[[Engine], None], int, str]] = {
    "another actor": (lambda e: cheat(e, "UPDATE audit_entry SET actor = 'x' WHERE seq = 4"), 4, "Entry 4 was altered"),
    "another detail": (
        lambda e: cheat(e, "UPDATE audit_entry SET detail = '{}' WHERE seq = 9"), 9, "Entry 9 was altered",
    ),
    "another time": (lambda e: cheat(e, "UPDATE audit_entry SET at_ms = 1 WHERE seq = 1"), 1, "Entry 1 was altered"),
    "another hash": (
        lambda e: cheat(e, "UPDATE audit_entry SET hash = prev WHERE seq = 5"), 5, "Entry 5 was altered",
    ),
    "one gone": (lambda e: cheat(e, "DELETE FROM audit_entry WHERE seq = 6"), 6, "Entry 6 is gone: entry 7 comes next"),
    "three gone": (
        lambda e: cheat(e, "DELETE FROM audit_entry WHERE seq BETWEEN 2 AND 4"), 2, "Entries 2 to 4 are gone",
    ),
    "two swapped": (
        lambda e: cheat(e, *(f"UPDATE audit_entry SET seq = {b} WHERE seq = {a}" for a, b in ((3, 99), (4, 3), (99, 4)))),  # noqa: S608
        3, "Entry 3 does not follow entry 2",
    ),
    "the newest gone": (
        lambda e: cheat(e, "DELETE FROM audit_entry WHERE seq > 7"), 8, "knows of entry 10: the newest entries are gone",
    ),
    "all gone": (lambda e: cheat(e, "DELETE FROM audit_entry"), 1, "The history is empty"),
    "all bound anew": (_with_new_hashes, 10, "the history was written anew"),
    "another signature": (
        lambda e: cheat(e, "UPDATE audit_head SET seq = 9"), 9, "is over another head",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", CHEATS)
def test_every_way_to_cheat_is_found_where_it_begins(engine: Engine, key: SigningKey, how: str) -> None:
    put(engine, 9)
    assert sign_now(engine, key) is not None
    assert verify(engine).broken is None
    way, seq, said = CHEATS[how]
    way(engine)
    broken = verify(engine).broken
    assert broken is not None
    assert (broken.seq, said in broken.what) == (seq, True), broken


def test_a_kept_head_tells_what_the_database_itself_no_longer_can(
    engine: Engine, key: SigningKey, tmp_path: Path
) -> None:
    put(engine, 4)
    with open_session(engine) as session:
        head = get_head(session)
        keys = load_keys(session)
    plain = json.dumps({"seq": head.seq, "hash": head.hash}).encode()
    signed = json.dumps({"seq": 1, "hash": "ignored", "envelope": sign_head(head, key)}).encode()
    for text_of in (plain, signed):
        assert verify(engine, read_witness(text_of, "HEAD.json", keys)).broken is None
    stranger = make_key(tmp_path / "stranger.key")
    with pytest.raises(DataFault, match="none of this portal's"):
        read_witness(json.dumps(sign_head(head, stranger)).encode(), "HEAD.json", keys)
    for bad in (b"", b"[]", b'{"seq": "x"}', b'{"hash": ""}'):
        with pytest.raises(DataFault):
            read_witness(bad, "HEAD.json", keys)
    # Whoever owns the database takes the signed heads away, too, and binds everything anew.
    cheat(engine, "DELETE FROM audit_head")
    _with_new_hashes(engine)
    assert verify(engine).broken is None
    for text_of in (plain, signed):
        broken = verify(engine, read_witness(text_of, "HEAD.json", keys)).broken
        assert broken is not None
        assert (
            broken.seq,
            "the one that HEAD.json knows" in broken.what or "HEAD.json" in broken.what or "signed" in broken.what,
        ) == (head.seq, True)


def test_eight_processes_make_one_chain(settings: Settings, engine: Engine) -> None:
    assert write_all(settings, 8, 25) == [25] * 8
    report = verify(engine)
    assert (report.entries, report.broken) == (200, None)
    with open_session(engine) as session:
        for k in range(8):
            mine = list_entries(session, None, EntryFilter(actor=f"writer-{k}"), 100).items
            assert [entry.detail["number"] for entry in mine] == list(range(24, -1, -1))


def test_lists_are_paged_and_narrowed(engine: Engine) -> None:
    put(engine, 25)
    with open_session(engine) as session:
        seen: list[int] = []
        cursor = None
        while True:
            page = list_entries(session, None, EntryFilter(), 10, cursor)
            seen += [entry.seq for entry in page.items]
            if (cursor := page.next) is None:
                break
        assert (seen, page.total) == (list(range(25, 0, -1)), 25)
        assert list_entries(session, None, EntryFilter(run="lab/small")).total == 13
        assert list_entries(session, None, EntryFilter(actor="ada-1", action="job")).total == 9
        assert list_entries(session, None, EntryFilter(action="jo")).total == 0


def test_heads_are_signed_when_they_are_due_and_once(engine: Engine, key: SigningKey) -> None:
    watch = HistoryWatch(engine, key, "1h")
    head = watch.look_once()
    assert head is not None
    assert (head.seq, head.key_id) == (1, key.public.key_id)  # the key itself was put on record
    put(engine, 2)
    assert watch.look_once() == head
    eager = HistoryWatch(engine, key, "0.001s")
    assert eager.look_once() == head, "the duty is the other's"
    watch.stop()
    newer = eager.look_once()
    assert newer is not None
    assert newer.seq == 3
    assert eager.look_once() == newer
    assert verify(engine).heads == 2
    unsigned = HistoryWatch(engine, None, "1h").look_once()
    assert unsigned == newer
