"""Fixity of a whole run: look at its files, throttled, and keep what became of each as it goes.

Before a file is read it is marked unchecked, so that a look which never ends is never taken for a good one.
Results are kept batch by batch: whoever stops it keeps what was found so far.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from portal.catalog.answers import FoundFinding
from portal.catalog.checks import (
    CheckedFile,
    DueFile,
    list_due,
    load_known_blocks,
    mark_unchecked,
    record_checks,
)
from portal.catalog.digests import record_blocks
from portal.catalog.release import load_facts
from portal.database import Engine, open_session
from portal.scan.amounts import Sample
from portal.scan.fixity import RemoteLook, compare_digest, look
from portal.settings import Settings
from portal.storage import REMOTE_SCHEMES, Meter
from portal.storage.hashing import FileDigest, HashJob, hash_files
from portal.storage.local import path_of
from portal.storage.pace import Pace, Stopped

BATCH_FILES = 64
BATCH_BYTES = 4 << 30
"""Bytes after which what was found is kept, however few files they are."""
GIVE_UP = 3
"""Failures of one host in a row after which its other files are left for another time."""

Progress = Callable[[str, int], None]
"""Told the path of each file that was looked at, and how many bytes of it were read."""


@dataclass(frozen=True)
class Plan:
    """What is to be looked at, and how closely."""

    hash_local: bool = False
    """Read every local byte; else only files whose size or time differs are read."""
    remote: bool = False
    """Look at files elsewhere as well."""
    sample: Sample | None = None
    """Which part of the files elsewhere is read; None: all of it."""
    rate: int | None = None
    """Bytes a second at most."""
    older_than: timedelta | None = None
    """Only files that were not looked at for so long."""


@dataclass
class FixityReport:
    """What became of the files of a run."""

    findings: list[FoundFinding] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    """Files by what the look at their bytes told; those that were not read and show no change are not in it."""
    checked: int = 0
    """Places looked at."""
    local: int = 0
    """Of these, on this machine."""
    hashed_bytes: int = 0
    """Bytes read and compared."""
    remote: int = 0
    """Files that lie elsewhere and were not looked at."""
    recent: int = 0
    """Files looked at lately, as ``older_than`` says, and not again."""
    unsettled: int = 0
    """Files that were written to while they were read."""
    silent_hosts: dict[str, int] = field(default_factory=dict)
    """Hosts that did not answer, and how many of their files were left for another time."""
    stopped: bool = False

    @property
    def wrong(self) -> list[FoundFinding]:
        """Findings of files that are missing or changed."""
        return [f for f in self.findings if f.severity == "error"]


def verify_run(
    engine: Engine,
    settings: Settings,
    run: str,
    plan: Plan = Plan(),
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> FixityReport:
    """Look at the files of the current release of ``run`` and keep what was found; no session is open meanwhile.

    Ends early, with what was found so far, once ``stop`` is set. RunNotFound when there is no such run.
    """
    with open_session(engine) as session:
        release_id = load_facts(session, run).head.id
    return verify_release(engine, settings, release_id, plan, progress, stop)


def verify_release(
    engine: Engine,
    settings: Settings,
    release_id: int,
    plan: Plan,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> FixityReport:
    """The same for a release by its id."""
    work = _Work(engine, settings, release_id, plan, progress or (lambda _path, _count: None), Pace(plan.rate, stop))
    before = None if plan.older_than is None else datetime.now(UTC) - plan.older_than
    with open_session(engine) as session:
        due = list_due(session, release_id, before)
        if before is not None:
            work.report.recent = len(list_due(session, release_id)) - len(due)
    elsewhere = [f for f in due if not f.is_local and f.uri.partition("://")[0] in REMOTE_SCHEMES]
    local = [f for f in due if f.is_local]
    try:
        work.check_local(local)
        if plan.remote:
            work.report.remote = len(due) - len(local) - len(elsewhere)
            work.check_remote(elsewhere)
        else:
            work.report.remote = len(due) - len(local)
    except Stopped:
        work.report.stopped = True
    return work.report


@dataclass
class _Work:
    engine: Engine
    settings: Settings
    release_id: int
    plan: Plan
    progress: Progress
    pace: Pace
    report: FixityReport = field(default_factory=FixityReport)

    def check_local(self, files: Sequence[DueFile]) -> None:
        waiting: list[DueFile] = []
        bad: list[CheckedFile] = []
        for file in files:
            self.pace.check()
            self.report.checked += 1
            self.report.local += 1
            verdict, found = look(file, self.settings)
            if verdict is not None:
                bad.append(verdict)
                self.progress(file.path, 0)
            elif self._must_be_read(file, found.modified_ns if found else None):
                waiting.append(file)
            else:
                self.progress(file.path, file.size or 0)
        self._keep(bad)
        for batch in _batches(waiting):
            self._hash(batch)

    def check_remote(self, files: Sequence[DueFile]) -> None:
        meter = Meter()
        looking = RemoteLook(self.settings, self.plan.sample, self.pace, meter)
        failures: Counter[str] = Counter()
        for batch in _batches(files, 16):
            with open_session(self.engine) as session:
                known = load_known_blocks(session, {f.sha256 for f in batch if f.sha256})
            checked: list[CheckedFile] = []
            digests: list[FileDigest] = []
            try:
                for file in batch:
                    self.pace.check()
                    host = _host(file.uri)
                    if failures[host] >= GIVE_UP:
                        self.report.silent_hosts[host] = self.report.silent_hosts.get(host, 0) + 1
                        continue
                    self._mark([file])
                    verdict, digest = looking.check(file, known.get(file.sha256 or ""))
                    failures[host] = failures[host] + 1 if verdict.state == "unreachable" else 0
                    checked.append(verdict)
                    digests += [digest] if digest else []
                    self.progress(file.path, verdict.compared)
            finally:
                self._keep(checked, digests)
                self.report.checked += len(checked)

    def _must_be_read(self, file: DueFile, modified_ns: int | None) -> bool:
        if self.plan.hash_local or file.checked_at is None:
            return True
        return modified_ns != file.modified_ns or file.state != "verified"

    def _hash(self, batch: Sequence[DueFile]) -> None:
        self._mark(batch)
        jobs = [HashJob(str(k), path_of(file.uri), file.size or 0) for k, file in enumerate(batch)]
        checked: list[CheckedFile] = []
        try:
            for job, digest in hash_files(jobs, self.settings.hash_workers, self.pace.spend):
                file = batch[int(job.key)]
                verdict = compare_digest(file, digest)
                if verdict is None:
                    self.report.unsettled += 1
                else:
                    checked.append(verdict)
                self.progress(file.path, file.size or 0)
        finally:
            self._keep(checked)

    def _mark(self, batch: Sequence[DueFile]) -> None:
        with open_session(self.engine) as session:
            mark_unchecked(session, batch)
            session.commit()

    def _keep(self, checked: Sequence[CheckedFile], digests: Sequence[FileDigest] = ()) -> None:
        if not checked:
            return
        with open_session(self.engine) as session:
            record_checks(session, self.release_id, checked)
            record_blocks(session, digests)
            session.commit()
        self.report.findings += [found for one in checked if (found := one.finding)]
        self.report.states.update(one.state for one in checked)
        self.report.hashed_bytes += sum(one.compared for one in checked)


def _batches(files: Sequence[DueFile], most: int = BATCH_FILES) -> Iterator[list[DueFile]]:
    batch: list[DueFile] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.size or 0
        if len(batch) >= most or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _host(uri: str) -> str:
    with suppress(ValueError):
        parts = urlsplit(uri)
        return parts.scheme if parts.scheme == "hf" else f"{parts.scheme}://{parts.hostname or ''}"
    return uri.partition("://")[0]
