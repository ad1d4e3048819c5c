"""Broken installations, one fault each: what the doctor says of them, and what it says of one that is well."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from portal.cli import main
from portal.database import create_database_engine, known_revisions
from portal.doctor import catalog, examine, reach, software
from portal.doctor.verdicts import FAIL, OK, WARN, Verdict
from portal.exchange.backup.make import LAST, make_backup
from portal.settings import Settings
from portal.signing.keys import make_key
from portal.web.app import create_app
from tests.builders import small_run
from tests.client.servers import file_server, running
from tests.exchange.test_unreferenced import add_job
from tests.postgres import PostgresServer

DAY = 86400.0


@pytest.fixture
def well(sqlite_settings: Settings, tmp_path: Path) -> Settings:
    """An installation that lacks nothing: a key, a schedule, a backup of today."""
    sqlite_settings.data.chmod(0o700)
    key = tmp_path / "portal.key"
    make_key(key)
    settings = sqlite_settings.model_copy(update={"signing_key": key, "verify_every": "30d", "disk_reserve_bytes": 1})
    engine = create_database_engine(settings)
    make_backup(engine, settings, str(tmp_path / "backups"))
    engine.dispose()
    return settings


def look(settings: Settings, **changes: Any) -> list[Verdict]:
    return examine.examine(settings.model_copy(update=changes), examine.PATIENCE_S)


def said(found: list[Verdict], part: str, state: str, words: str = "") -> None:
    """Exactly one line of this part and state, which says ``words``; each that is not ok has a remedy."""
    assert all(v.remedy for v in found if v.state != OK)
    mine = [v for v in found if v.part == part and v.state == state and words in f"{v.message} {v.remedy}"]
    assert len(mine) == 1, "\n".join(map(str, found))


def execute(settings: Settings, *statements: str) -> None:
    engine = create_database_engine(settings)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_one_that_is_well_has_nothing_to_mend(well: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # Developers may run on other versions than those that are locked.
    monkeypatch.setattr(software, "version", _locked())
    found = look(well)
    assert [v for v in found if v.state != OK] == []
    assert {v.part for v in found} >= {
        "database",
        "schema",
        "store",
        "disk",
        "signing key",
        "backup",
        "workers",
        "jobs",
    }
    assert not list((well.data / "store" / "blobs" / "sha256").glob("*/*"))


def _locked() -> Callable[[str], str]:
    lock = Path(software.__file__).parents[2] / "requirements" / "prod.txt"
    pinned = {name: wanted for name, wanted, _ in software._PINNED.findall(lock.read_text())}
    return lambda name: pinned[name]


def test_the_command_tells_and_counts(
    well: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORTAL_DATA", str(well.data))
    monkeypatch.setenv("PORTAL_SIGNING_KEY", str(well.signing_key))
    monkeypatch.setenv("PORTAL_DISK_RESERVE_BYTES", "1")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "0 failed." in out
    monkeypatch.setenv("PORTAL_DATABSE_URL", "x")
    assert main(["doctor", "--quiet"]) == 1
    out = capsys.readouterr().out
    assert "Did you mean PORTAL_DATABASE_URL?" in out
    assert "\nok " not in out
    assert main(["doctor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["failed"], [c["part"] for c in told["checks"] if c["state"] == "fail"]) == (1, ["settings"])
    monkeypatch.setenv("PORTAL_LEASE_SECONDS", "soon")
    assert main(["doctor"]) == 1
    assert "PORTAL_LEASE_SECONDS cannot be used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"lease_seconds": 20.0}, FAIL, "does not outlast two heartbeats"),
        ({"anonymous_jobs": True, "public_url": "https://portal.invalid"}, FAIL, "lets anybody"),
        ({"s3_public_endpoint": "https://s3.example.org"}, FAIL, "PORTAL_S3_ENDPOINT is not"),
        ({"public_url": "portal.example.org"}, FAIL, "PORTAL_PUBLIC_URL is no address"),
        ({"public_url": "http://portal.invalid"}, WARN, "in the clear"),
        ({"sendfile": "xaccel"}, WARN, "nginx stands in front"),
        ({"url": "https://elsewhere.example"}, WARN, "PORTAL_URL is set"),
        ({"data": Path("portal-data")}, WARN, "absolute path"),
    ],
)
def test_settings_that_contradict(well: Settings, changes: dict[str, Any], state: str, words: str) -> None:
    said(look(well, **changes), "settings", state, words)


def test_unknown_settings(well: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_SIGNING_KEE", "x")
    monkeypatch.setenv("PORTAL_XYZZY", "x")
    found = look(well)
    said(found, "settings", FAIL, "Did you mean PORTAL_SIGNING_KEY?")
    said(found, "settings", WARN, "PORTAL_XYZZY")
    limited = Settings(data=well.data, max_blob_bytes=1000, upload_bytes=100)
    said(look(limited), "settings", WARN, "PORTAL_UPLOAD_BYTES")


def test_databases_that_cannot_be_used(well: Settings, tmp_path: Path) -> None:
    said(look(well, data=tmp_path / "nowhere"), "database", FAIL, "`portal migrate`")
    assert not (tmp_path / "nowhere").exists()
    said(look(well, database_url="oracle://x"), "database", FAIL, "address cannot be used")
    said(look(well, database_url="postgresql+psycopg://x@127.0.0.1:1/x"), "database", FAIL, "cannot be used")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "portal.sqlite3").write_bytes(b"no database at all, however long it may be" * 100)
    said(look(well, data=tmp_path / "other"), "database", FAIL, "not a database")


def test_schemas_of_other_versions(well: Settings) -> None:
    execute(well, f"UPDATE alembic_version SET version_num = '{known_revisions()[1]}'")  # noqa: S608
    said(look(well), "schema", FAIL, "portal backup")
    execute(well, "UPDATE alembic_version SET version_num = '2099_01_01_later'")
    said(look(well), "schema", FAIL, "a newer portal was here")
    execute(well, "DELETE FROM alembic_version")
    said(look(well), "schema", FAIL, "no tables of the portal")


def test_a_damaged_database_and_one_without_a_log(well: Settings, tmp_path: Path) -> None:
    path = well.data / "portal.sqlite3"
    execute(well, "PRAGMA user_version = 1")
    engine = create_database_engine(well)
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        connection.rollback()
        raw.execute("PRAGMA journal_mode = DELETE")
    engine.dispose()
    said(look(well), "database", WARN, "journal mode is delete")
    body = bytearray(path.read_bytes())
    body[4096 * 3 : 4096 * 20] = os.urandom(4096 * 17)
    path.write_bytes(body)
    assert any(v.part in ("database", "schema") and v.state == FAIL for v in look(well))


def test_a_database_on_a_network_or_with_another_clock(well: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_file_system", lambda _path: "nfs4")
    said(look(well), "database", FAIL, "network file system")
    real = catalog.read_database_facts
    told = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "off", "server_encoding": "LATIN1",
            "default_transaction_isolation": "serializable", "max_connections": "20"}  # fmt: skip
    other = lambda engine: replace(real(engine), dialect="postgresql", settings=told, skew_s=-400.0)  # noqa: E731
    monkeypatch.setattr(catalog, "read_database_facts", other)
    found = look(well)
    said(found, "clock", WARN, "-400 s")
    for words in ("synchronous_commit", "serializable", "max_connections"):
        said(found, "database", WARN, words)
    said(found, "database", FAIL, "LATIN1")


def test_a_postgres_that_a_power_cut_would_destroy(well: Settings, postgres_server: PostgresServer) -> None:
    """The tests' own server is one."""
    name = postgres_server.create_database(f"doctor_{time.time_ns()}")
    found = look(well, database_url=postgres_server.url(name))
    postgres_server.drop_database(name)
    said(found, "database", FAIL, "fsync is off")
    said(found, "database", FAIL, "full_page_writes is off")
    said(found, "schema", FAIL, "`portal migrate`")


def test_what_never_answers_is_not_waited_for(well: Settings) -> None:
    """A server that takes connections and says nothing, as database, as store, and as the portal itself."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        found = look(
            well,
            database_url=f"postgresql+psycopg://x@127.0.0.1:{port}/x",
            storage_url="s3://bucket/own",
            s3_endpoint=f"http://127.0.0.1:{port}",
            public_url=f"http://127.0.0.1:{port}",
        )
        assert time.monotonic() - began < examine.PATIENCE_S + 1
    for part in ("database", "store", "address"):
        assert [v.state for v in found if v.part == part] == [FAIL], part


def test_folders_that_are_open_or_full(well: Settings, tmp_path: Path) -> None:
    well.data.chmod(0o777)
    said(look(well), "data folder", FAIL, "chmod o-w")
    well.data.chmod(0o755)
    (well.data / "portal.sqlite3").chmod(0o644)
    said(look(well), "data folder", WARN, "chmod 700")
    said(look(well, data=tmp_path / "nowhere"), "data folder", FAIL, "is not there")
    said(look(well, disk_reserve_bytes=1 << 60), "disk", FAIL, "Uploads are refused")


def test_what_died_on_its_way(well: Settings) -> None:
    old = time.time() - 2 * DAY
    for name in ("uploads/x-1.part", "blobs/incoming/tmp1"):
        path = well.data / "store" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
        os.utime(path, (old, old))
    (well.data / "restoring.json").write_text("{}")
    found = look(well)
    said(found, "uploads", WARN, "2 files came in part")
    said(found, "uploads", FAIL, "restoration ended early")


def test_stores_that_cannot_be_used(well: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said(look(well, storage_url=str(tmp_path / "file")), "store", FAIL)
    said(look(well, storage_url="ftp://x"), "store", FAIL, "no place to keep files")
    said(look(well, storage_url="s3://bucket/own", s3_endpoint="http://127.0.0.1:1"), "store", FAIL)


def test_keys_and_secrets_that_are_open(well: Settings, tmp_path: Path) -> None:
    assert well.signing_key is not None
    well.signing_key.chmod(0o640)
    said(look(well), "signing key", FAIL, "chmod 600")
    said(look(well, signing_key=tmp_path / "nothing"), "signing key", FAIL, "cannot be read")
    (tmp_path / "no.key").write_text("no key")
    said(look(well, signing_key=tmp_path / "no.key"), "signing key", FAIL, "no private key")
    for parent in tmp_path.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)
    (tmp_path / "portal.toml").write_text('hf_token = "secret"\n')
    said(look(well), "secrets", FAIL, "portal.toml")
    (tmp_path / "portal.toml").chmod(0o600)
    assert [v.state for v in look(well) if v.part == "secrets"] == [OK]


def test_workers_and_jobs_that_stand_still(well: Settings) -> None:
    engine = create_database_engine(well)
    add_job(engine, "a" * 64, "b" * 64)
    add_job(engine, "a" * 64, "b" * 64)
    engine.dispose()
    now = int(time.time() * 1000)
    columns = "name, token_id, registration, executor, version, host, trainer, labels, gpus, free_gpus, free_slots"
    execute(
        well,
        f"INSERT INTO worker ({columns}, draining, told_to_drain, registered_ms, seen_ms) "  # noqa: S608
        f"VALUES ('quiet', 1, 1, '', '', '', '{{}}', '{{}}', 0, 0, 0, false, false, 0, {now - 7_200_000})",
        f"UPDATE job SET state = 'running', lease_until_ms = {now - 3_600_000} WHERE id = 1",  # noqa: S608
        f"UPDATE job SET state = 'queued', created_ms = {now - 2 * 3_600_000} WHERE id = 2",  # noqa: S608
    )
    found = look(well)
    said(found, "workers", WARN, "Silent: quiet.")
    said(found, "jobs", FAIL, "took the jobs back: 1.")
    said(found, "jobs", WARN, "more than an hour: 2.")


def test_backups_that_are_none(well: Settings) -> None:
    note = well.data / LAST
    told = json.loads(note.read_text())
    note.write_text(json.dumps(told | {"made_at": "2020-01-01T00:00:00+00:00"}))
    said(look(well), "backup", WARN, "every night")
    note.write_text(json.dumps(told | {"lost": 3}))
    said(look(well), "backup", WARN, "3 things could not be read")
    note.write_text("nothing")
    said(look(well), "backup", WARN, "No backup was ever made")
    said(look(well, verify_every=""), "fixity", WARN, "PORTAL_VERIFY_EVERY=30d")


@pytest.fixture
def served(well: Settings) -> Iterator[str]:
    """The portal itself, answering."""
    app = create_app(well)
    with running(app) as url:
        yield url
    app.state.desk.close()


def test_the_address_leads_here_or_elsewhere(
    well: Settings, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The portal is a thread of this very process.
    monkeypatch.setattr(reach, "WAIT_S", 30.0)
    monkeypatch.setattr(examine, "PATIENCE_S", 40.0)
    found = look(well, public_url=served)
    said(found, "address", OK, "This portal answers")
    said(found, "address", WARN, "this machine alone")
    make_key(tmp_path / "other.key")
    said(look(well, public_url=served, signing_key=tmp_path / "other.key"), "address", FAIL, "another key")
    said(look(well, public_url="http://127.0.0.1:1"), "address", FAIL, "does not answer")
    with file_server({"/healthz": b"hello"}) as other:
        said(look(well, public_url=other.url), "address", FAIL, "not as a portal does")


def test_files_that_nginx_does_not_send(well: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "WAIT_S", 30.0)
    monkeypatch.setattr(examine, "PATIENCE_S", 40.0)
    handed = well.model_copy(update={"sendfile": "xaccel"})
    app = create_app(handed)
    small_run(app.state.desk.engine, handed, tmp_path / "release")
    with running(app) as url:
        said(look(handed, public_url=url), "sendfile", FAIL, "files come empty")
    app.state.desk.close()


def test_a_public_endpoint_that_nobody_reaches(well: Settings) -> None:
    there = "http://127.0.0.1:1"
    said(look(well, s3_endpoint=there), "public store", FAIL, "does not answer")
    with file_server({}) as other:
        said(look(well, s3_endpoint=there, s3_public_endpoint=other.url), "public store", OK, "answers")
    assert [v for v in look(well, s3_endpoint=there, remote_files="proxy") if v.part == "public store"] == []


def test_libraries_that_are_others(well: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise software.PackageNotFoundError(name)

    monkeypatch.setattr(software, "version", lambda _name: "0.0.1")
    said(look(well), "libraries", WARN, "Other versions")
    monkeypatch.setattr(software, "version", missing)
    said(look(well), "libraries", FAIL, "Not installed")
    monkeypatch.setattr(software, "LEAST_PYTHON", (9, 0))
    said(look(well), "python", FAIL, "too old")


def test_a_check_that_breaks_is_told_without_its_words(well: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_settings: Settings) -> Iterator[Verdict]:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(examine, "CHECKS", (("store", broken), *examine.CHECKS[:1]))
    found = look(well)
    said(found, "store", FAIL, "RuntimeError")
    assert "hunter2" not in str(found)
