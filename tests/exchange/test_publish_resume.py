"""Publishing that is killed, and publishing at the same time: real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, func
from sqlmodel import select

from portal.catalog.published import find_published
from portal.database import open_session
from portal.exchange.journal import Journal, journal_path
from portal.exchange.publish import publish
from portal.models import Checkpoint, File, Release, Run
from portal.settings import Settings
from portal.storage.hashing import hash_file
from tests.conftest import REPOSITORY
from tests.exchange.releases import tree, write_release

PUBLISH = """
import sys
from pathlib import Path
from portal.database import create_database_engine
from portal.exchange.publish import publish
from portal.settings import Settings

class Slow:
    def begin(self, phase, total):
        print(phase, flush=True)
    def advance(self, count):
        if wait and count == 1 << 20:
            import threading
            threading.Event().wait(0.05)

source, data, url, wait = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "slowly"
settings = Settings(data=data, database_url=url, hash_workers=1)
report = publish(source, settings, create_database_engine(settings), progress=Slow())
print(report.state, report.version, report.bytes_hashed, report.bytes_reused, flush=True)
"""


def start(release: Path, settings: Settings, pace: str = "fast") -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PUBLISH, str(release), str(settings.data), settings.database_url, pace]
    return subprocess.Popen(arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_a_killed_publication_goes_on_where_it_stopped(tmp_path: Path, settings: Settings, engine: Engine) -> None:
    release = write_release(tmp_path / "release")
    big = release / "checkpoints" / "step-5" / "big.bin"
    with big.open("wb") as stream:
        stream.truncate(64 << 20)
    small = release / "checkpoints" / "step-20" / "next.bin"
    with small.open("wb") as stream:
        stream.truncate(32 << 20)
    journal = journal_path(settings.data / "publishing", "lab/small")
    process = start(release, settings, "slowly")
    try:
        deadline = time.monotonic() + 60
        # The biggest file comes first: once it is in the journal, the next big one is being hashed.
        while not journal.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    with open_session(engine) as session:
        assert session.exec(select(func.count()).select_from(Run)).one() == 0
        assert find_published(session, "lab/small") is None
    report = publish(release, settings, engine)
    total = sum(f.stat().st_size for f in release.rglob("*") if f.is_file() and f.name != "release.yaml")
    assert report.state == "published"
    assert report.bytes_reused >= 64 << 20
    assert report.bytes_hashed + report.bytes_reused == total
    assert not journal.exists()
    with open_session(engine) as session:
        stored = session.exec(select(File.sha256).where(File.path == "checkpoints/step-5/big.bin")).one()
    assert stored == hash_file(big).sha256


def test_two_publishers_of_one_run_make_one_version(tmp_path: Path, settings: Settings, engine: Engine) -> None:
    release = write_release(tmp_path / "release")
    processes = [start(release, settings) for _ in range(3)]
    states = sorted(process.communicate(timeout=120)[0].splitlines()[-1].split()[0] for process in processes)
    assert states == ["published", "unchanged", "unchanged"]
    with open_session(engine) as session:
        assert session.exec(select(func.count()).select_from(Release)).one() == 1
        assert session.exec(select(func.count()).select_from(Checkpoint)).one() == 4


def test_publishers_on_two_machines_share_only_the_database(tmp_path: Path, settings: Settings, engine: Engine) -> None:
    release = write_release(tmp_path / "release")
    elsewhere = settings.model_copy(
        update={"data": tmp_path / "other-data", "database_url": settings.resolved_database_url}
    )
    processes = [start(release, s) for s in (settings, elsewhere)]
    outputs = [process.communicate(timeout=120)[0].splitlines()[-1].split() for process in processes]
    assert {version for _, version, *_ in outputs} == {"1"}
    assert sorted(state for state, *_ in outputs) == ["published", "unchanged"]
    with open_session(engine) as session:
        assert session.exec(select(func.count()).select_from(Release)).one() == 1
    stores = [tree(s.data / "store" / "metrics") for s in (settings, elsewhere)]
    assert stores[0] == stores[1] != {}


def test_a_journal_that_was_cut_off_keeps_its_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    digest = hash_file(file)
    path = tmp_path / "journal" / "hashes.jsonl"
    with Journal(path) as journal:
        journal.add("file:///a", digest)
        journal.add("file:///b", digest)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    journal = Journal(path)
    assert journal.find("file:///a", digest.size, digest.modified_ns) == digest
    assert journal.find("file:///b", digest.size, digest.modified_ns) is None
    with journal:
        journal.add("file:///c", digest)
    again = Journal(path)
    assert again.find("file:///c", digest.size, digest.modified_ns) == digest
    assert again.find("file:///a", digest.size, digest.modified_ns + 1) is None
    assert again.find("file:///a", digest.size + 1, digest.modified_ns) is None
    again.remove()
    assert Journal(path).find("file:///a", digest.size, digest.modified_ns) is None


def test_a_journal_of_rubbish_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "hashes.jsonl"
    path.write_bytes(
        b'{"uri": 5}\n[1, 2]\nnull\n\xff\xfe\n{"uri":"a","sha256":"b","size":1,"modified_ns":1,"blocks":"!"}\n'
    )
    assert Journal(path).find("a", 1, 1) is None


HOLD = """
import sys
from pathlib import Path
from portal.exchange.journal import one_publisher
with one_publisher(Path(sys.argv[1]), "lab/run"):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_one_publisher_at_a_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    first = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.readline() == b"in\n"
    second = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(timeout=1.5)
        # The kernel takes the lock from a killed holder.
        first.kill()
        assert second.communicate(timeout=30)[0] == b"in\n"
    finally:
        first.communicate()
        second.kill()
        second.communicate()
    assert not (tmp_path / "lab").exists()
