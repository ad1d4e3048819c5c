"""Backups: incremental, whole after a kill, refused with the file's name where anything of them is another."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from portal.database import DatabaseFault, create_database_engine, known_revisions, migrate_over
from portal.errors import Conflict, DataFault, IntegrityError, NotFound, PortalError, UsageError
from portal.exchange.backup import document
from portal.exchange.backup.make import last_backup, make_backup
from portal.exchange.backup.places import BackupPlace, open_place
from portal.exchange.backup.prune import keep_newest
from portal.exchange.backup.verify import open_document, verify_backups
from portal.settings import Settings
from portal.signing.keys import make_key
from portal.storage.blobs import open_blobs
from tests.backup.portals import back_up, blobs_of, publish_all, put, restore, rows_of
from tests.rows_made import make_rows
from tests.seaweed import BUCKET, SeaweedServer

PORTAL = [sys.executable, "-m", "portal"]


def objects(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_the_second_backup_copies_what_is_new_and_nothing_else(portal: Settings, place: Path, tmp_path: Path) -> None:
    before = objects(place)
    same = back_up(portal, place)
    assert (same.copied, same.copied_bytes, same.lost) == (0, 0, [])
    new = put(portal, tmp_path, b"new")
    more = back_up(portal, place)
    assert (more.copied, more.blobs) == (2, same.blobs + 1)  # the blob, and the list of blobs
    after = objects(place)
    assert {name: after[name] for name in before} == before
    assert (place / "objects" / "sha256" / new[:2] / new).read_bytes() == b"new"
    told = last_backup(portal)
    assert told is not None
    assert (told["id"], told["where"]) == (more.id, str(place))
    assert len(verify_backups(open_place(str(place), portal), "").backups) == 3


def test_only_its_owner_reads_it_and_no_secret_is_in_it(portal: Settings, place: Path) -> None:
    assert place.stat().st_mode & 0o777 == 0o700
    assert portal.signing_key is not None
    pem = portal.signing_key.read_bytes()
    assert all(pem not in body for body in objects(place).values())
    assert not (place / "keys").exists()
    report = back_up(portal, place, signing_key=True)
    kept = place / "keys" / f"{report.id}.pem"
    assert (kept.read_bytes(), kept.stat().st_mode & 0o077) == (pem, 0)
    into = Settings(data=place.parent / "into")
    assert restore(into, place).signing_key == str(into.data / "signing.key")
    assert ((into.data / "signing.key").read_bytes(), (into.data / "signing.key").stat().st_mode & 0o077) == (pem, 0)


def test_who_signed_it_is_compared(portal: Settings, place: Path, tmp_path: Path) -> None:
    assert portal.signing_key is not None
    own = make_key(tmp_path / "other").public
    there = open_place(str(place), portal)
    found = open_document(there, there.ids()[0])
    assert found.key is not None
    assert open_document(there, there.ids()[0], [own, found.key]).key == found.key
    with pytest.raises(IntegrityError, match="signature does not fit"):
        restore(Settings(data=tmp_path / "into"), place, keys=[own])
    back_up(portal.model_copy(update={"signing_key": None}), tmp_path / "unsigned")
    with pytest.raises(IntegrityError, match="is not signed"):
        restore(Settings(data=tmp_path / "into"), tmp_path / "unsigned", keys=[own])


def test_every_file_of_it_is_missed_and_every_flipped_bit_is_found(
    portal: Settings, place: Path, tmp_path: Path
) -> None:
    """Each file in turn: a bit in its first, middle and last byte, one byte less, and gone."""
    there, tried = open_place(str(place), portal), 0
    assert verify_backups(there, str(place)).faults == []
    for path in sorted(p for p in place.rglob("*") if p.is_file() and p.name != "lock"):
        body, mode = path.read_bytes(), path.stat().st_mode
        if not body:
            continue
        damaged = [body[:k] + bytes([body[k] ^ 1]) + body[k + 1 :] for k in {0, len(body) // 2, len(body) - 1}]
        for worse in [*damaged, body[:-1], None]:
            path.unlink()
            if worse is not None:
                path.write_bytes(worse)
            _refused(there, place, path)
            tried += 1
            path.unlink(missing_ok=True)
            path.write_bytes(body)
            path.chmod(mode)
    assert tried > 200
    assert verify_backups(there, str(place)).faults == []


def _refused(there: BackupPlace, place: Path, path: Path) -> None:
    """The file's name is in what verification says; of the only document, that there is no backup."""
    if path.parent.name == "backups" and not path.exists():
        with pytest.raises(NotFound, match="There is no backup at"):
            verify_backups(there, str(place))
        return
    faults = verify_backups(there, str(place)).faults
    assert any(str(path) in fault for fault in faults), (path, faults)


@pytest.mark.parametrize("kind", ["blob", "table", "files", "document"])
def test_a_damaged_backup_is_not_restored(kind: str, portal: Settings, place: Path, tmp_path: Path) -> None:
    there = open_place(str(place), portal)
    manifest = open_document(there, there.ids()[0]).manifest
    names = {
        "blob": next(open_blobs(portal).list_held()).sha256,
        "table": next(part.rows.pieces[0].sha256 for part in manifest.tables if part.rows.pieces),
        "files": manifest.files.pieces[0].sha256,
    }
    name = names.get(kind)
    path = place / "objects" / "sha256" / name[:2] / name if name else next((place / "backups").glob("*.json"))
    body = path.read_bytes()
    path.unlink()
    path.write_bytes(body[:20] + bytes([body[20] ^ 4]) + body[21:])
    into = Settings(data=tmp_path / "into")
    with pytest.raises(PortalError) as refused:
        restore(into, place)
    assert str(path) in refused.value.message
    engine = create_database_engine(into)
    with engine.connect() as connection:
        assert not connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar()
    engine.dispose()
    # Once it is put right, the same command goes on where it stopped.
    path.unlink()
    path.write_bytes(body)
    restore(into, place)
    assert rows_of(into) == rows_of(portal)
    assert not (into.data / "restoring.json").exists()


def test_what_cannot_be_read_is_left_out_and_told(portal: Settings, tmp_path: Path) -> None:
    blobs = sorted(blob.sha256 for blob in open_blobs(portal).list_held())
    folder = portal.data / "store" / "blobs" / "sha256"
    rotten, gone = blobs[0], _named_by_a_release(portal, blobs)
    (folder / gone[:2] / gone).unlink()
    path = folder / rotten[:2] / rotten
    path.chmod(0o644)
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    report = back_up(portal, tmp_path / "backups")
    assert {lost.what for lost in report.lost} == {rotten, gone}
    assert report.blobs == len(blobs) - 2
    found = verify_backups(open_place(str(tmp_path / "backups"), portal), "")
    assert (found.faults, found.lost) == ([], {report.id: 2})
    assert {lost.what for lost in restore(Settings(data=tmp_path / "into"), tmp_path / "backups").lost} == {
        rotten,
        gone,
    }


def test_what_was_purged_is_not_missed(portal: Settings, tmp_path: Path) -> None:
    engine = create_database_engine(portal)
    with engine.begin() as connection:
        values = {"at": datetime.now(UTC).isoformat(" ")}
        connection.execute(
            text(
                "INSERT INTO withdrawal (release_id, withdrawn_at, withdrawn_by, reason, purged_at) "
                "VALUES (1, :at, 'ada', 'a mistake', :at)"
            ),
            values,
        )
        files = set(connection.execute(text("SELECT sha256 FROM file WHERE release_id = 1")).scalars())
    engine.dispose()
    for sha256 in files:
        open_blobs(portal).remove(sha256)
    report = back_up(portal, tmp_path / "backups")
    assert (report.lost, report.blobs) == ([], 2)
    assert restore(Settings(data=tmp_path / "into"), tmp_path / "backups").lost == []


def _named_by_a_release(portal: Settings, blobs: list[str]) -> str:
    engine = create_database_engine(portal)
    with engine.connect() as connection:
        named = set(connection.execute(text("SELECT sha256 FROM file")).scalars())
    engine.dispose()
    return next(name for name in blobs[1:] if name in named)


def test_another_version_is_refused(
    portal: Settings, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.exchange.backup.restore.known_revisions", lambda: ["another"])
    with pytest.raises(DataFault, match="which this version does not know"):
        restore(Settings(data=tmp_path / "into"), place)
    monkeypatch.setattr(document, "FORMAT", "llm360-portal/backup/2")
    with pytest.raises(DataFault, match="is of another format"):
        restore(Settings(data=tmp_path / "into"), place)
    with pytest.raises(NotFound, match="no backup at"):
        restore(Settings(data=tmp_path / "into"), tmp_path / "nowhere")
    for wrong in ("ftp://x/y", ""):
        with pytest.raises(UsageError):
            open_place(wrong, portal)


def test_a_backup_of_an_older_schema_is_upgraded(tmp_path: Path) -> None:
    """The first one ever, one between, and the last but one; `tests/test_upgrades.py` goes through all of them."""
    revisions = known_revisions()[::-1]
    for number, revision in enumerate((revisions[0], revisions[len(revisions) // 2], revisions[-2])):
        old = Settings(data=tmp_path / f"old-{number}")
        engine = create_database_engine(old)
        with engine.begin() as connection:
            migrate_over(connection, revision)
            counts = make_rows(connection, 0)
        made = make_backup(engine, old, str(tmp_path / "backups"))
        engine.dispose()
        assert (made.schema, made.tables) == (revision, counts)
        into = Settings(data=tmp_path / f"new-{number}")
        report = restore(into, tmp_path / "backups")
        assert (report.schema, report.upgraded_to) == (revision, known_revisions()[0])
        assert report.tables == counts


def test_old_backups_are_forgotten_with_what_only_they_held(portal: Settings, place: Path, tmp_path: Path) -> None:
    there = open_place(str(place), portal)
    spare = put(portal, tmp_path, b"spare")
    with_it = back_up(portal, place, signing_key=True)
    open_blobs(portal).remove(spare)
    last = back_up(portal, place)
    assert keep_newest(there, 3).backups == []
    gone = keep_newest(there, 1)
    assert (len(gone.backups), gone.backups[-1], there.ids()) == (2, with_it.id, [last.id])
    assert there.blobs.has(spare) is None
    assert list((place / "keys").iterdir()) == []
    assert verify_backups(there, "").faults == []
    into = Settings(data=tmp_path / "into")
    restore(into, place)
    assert (rows_of(into), blobs_of(into)) == (rows_of(portal), blobs_of(portal))


def test_two_at_a_time_in_one_place_are_one_too_many(portal: Settings, place: Path) -> None:
    with open_place(str(place), portal).writing(), pytest.raises(Conflict, match="being made"):
        back_up(portal, place)


def test_a_damaged_database_is_no_source(portal: Settings, tmp_path: Path) -> None:
    path = portal.data / "portal.sqlite3"
    engine = create_database_engine(portal)
    with engine.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    engine.dispose()
    body = bytearray(path.read_bytes())
    body[4096 * 5 : 4096 * 40] = os.urandom(4096 * 35)
    path.write_bytes(body)
    with pytest.raises((PortalError, DatabaseFault), match=r"damaged|malformed"):
        back_up(portal, tmp_path / "backups")
    assert not list((tmp_path / "backups").glob("backups/*"))


@pytest.mark.xdist_group("seaweed")
def test_a_bucket_holds_backups_and_the_store(
    sqlite_settings: Settings, s3_server: SeaweedServer, tmp_path: Path
) -> None:
    """The store in a bucket, the backup in another prefix; restored from there into a folder."""
    place = f"s3://{BUCKET}/{tmp_path.name}/backups"
    own = {"storage_url": f"s3://{BUCKET}/{tmp_path.name}/own", "s3_endpoint": s3_server.endpoint, "s3_buckets": "nope"}
    portal = sqlite_settings.model_copy(update=own)
    engine = create_database_engine(portal)
    publish_all(portal, engine, tmp_path)
    engine.dispose()
    first = back_up(portal, place)
    assert (back_up(portal, place).copied, first.lost) == (0, [])
    assert verify_backups(open_place(place, portal), place).faults == []
    into = Settings(data=tmp_path / "into", s3_endpoint=s3_server.endpoint)
    restored = restore(into, place)
    assert (restored.blobs, restored.tables) == (first.blobs, first.tables)
    assert rows_of(into) == rows_of(portal)
    assert len(blobs_of(into)) == first.blobs
    make_key(tmp_path / "key")
    with pytest.raises(UsageError, match="not put into a bucket"):
        back_up(portal.model_copy(update={"signing_key": tmp_path / "key"}), place, signing_key=True)
    victim = next(open_place(place, portal).blobs.list_held()).sha256
    key = f"{tmp_path.name}/backups/objects/sha256/{victim[:2]}/{victim}"
    client = s3_server.client()
    body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    client.put_object(Bucket=BUCKET, Key=key, Body=bytes([body[0] ^ 1]) + body[1:])
    faults = verify_backups(open_place(place, portal), place).faults
    assert any(victim in fault for fault in faults)
    shutil.rmtree(into.data)
