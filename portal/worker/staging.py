"""Everything a trainer reads, fetched through the verified download and laid out in the spool; `ready` when it is all there."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from portal.client import Portal
from portal.client.download import NoProgress, download_all
from portal.client.paths import checked_parts, inside
from portal.client.ranges import Wanted
from portal.errors import DataFault, IntegrityError, NotFound, PortalError, Unavailable
from portal.worker.cache import FileCache
from portal.worker.row_file import write_rows
from portal.worker.spool import Json, Lease, Spool
from portal.worker.training import TRAINERS, trainer_settings

READY = "ready"
WAIT = 2.0
LONGEST_WAIT = 60.0
"""Seconds between attempts to fetch what a portal does not hand out now."""
TRIES = 2
"""How often a file is fetched whose bytes are not those that were published."""


class BadInput(Exception):
    """The input can never be used: it is not what was published, or makes no sense. Never retried."""


@dataclass(frozen=True)
class _File:
    """One file of the input."""

    wanted: Wanted
    name: str
    """For people."""


def stage(spool: Spool, lease: Lease, check: Callable[[], None], told: Callable[[str], None]) -> None:
    """Fetch and lay out the input; nothing to do where an earlier call has finished.

    ``check`` may raise to break off, at any piece of a download. Raises BadInput; TooLarge when the disk is too small.
    Waits, and says so by ``told``, while the portal or where it points to does not answer.
    """
    if (spool.input / READY).exists():
        return
    if lease.spec.get("trainer") not in TRAINERS:
        raise BadInput(f"This worker runs no trainer {lease.spec.get('trainer')!r}.")
    cache = FileCache(spool.cache, lease.cache_bytes)
    try:
        files = _files(spool, lease)
        with Portal(lease.url, lease.attempt_token) as portal:
            _fetch(portal, cache, files, check, told)
        settings = _lay_out(spool, lease, files, check)
    except KeyError as error:
        raise BadInput(f"The job does not say {error}.") from error
    except (DataFault, TypeError, ValueError) as error:
        raise BadInput(f"The input cannot be used: {error}") from error
    spool.write("trainer.json", settings)
    (spool.input / READY).touch()


def _files(spool: Spool, lease: Lease) -> list[_File]:
    """Where each file of the lease goes."""
    plan = lease.spec["data"]["plan"]
    found = [_file("the row plan", lease.plan_url, spool.input / "plan.parquet", plan)]
    checkpoint = [f for f in lease.files if f["what"] == "checkpoint"]
    shared = _common_folder(checkpoint)
    for file in checkpoint:
        name = "/".join(checked_parts(file["path"])[shared:])
        found.append(_file(file["path"], file["url"], inside(spool.input / "checkpoint", name), file))
    for file in lease.files:
        if file["what"] == "chunk":
            # By digest: two chunks may name their files alike. Readers go by the format, not by the name.
            target = spool.input / "chunks" / file["sha256"] / Path(file["path"]).name
            found.append(_file(file["path"], file["url"], target, file))
    names = {f.wanted.target for f in found}
    for file in lease.files:
        target = spool.input / "checkpoint" / "tokenizer.json"
        if file["what"] == "tokenizer" and target not in names:
            found.append(_file("tokenizer.json", file["url"], target, file))
    for file in (lease.resume or {}).get("files", []):
        found.append(_file(file["path"], file["url"], inside(spool.input / "resume", Path(file["path"]).name), file))
    return list({f.wanted.target: f for f in found}.values())


def _file(name: str, url: str, target: Path, about: Json) -> _File:
    return _File(Wanted(url, target, about["size"], about["sha256"]), name)


def _fetch(
    portal: Portal, cache: FileCache, files: Sequence[_File], check: Callable[[], None], told: Callable[[str], None]
) -> None:
    missing = []
    for file in files:
        check()
        wanted = file.wanted
        if wanted.sha256 is None:
            raise BadInput(f"The job does not pin {file.name} by its sha256.")
        if not cache.take(wanted.sha256, wanted.size, wanted.target):
            missing.append(file)
    cache.make_room(sum(f.wanted.size or 0 for f in missing) + (1 << 30))
    bad: dict[str, int] = {}
    wait = WAIT
    while missing:
        done = download_all(portal, [f.wanted for f in missing], progress=_Breakable(check))
        for got in done.fetched:
            cache.keep(got.sha256, got.wanted.target)
        by_target = {f.wanted.target: f for f in missing}
        missing = [by_target[failed.wanted.target] for failed in done.failed]
        passing = None
        for failed in done.failed:
            passing = _judge(by_target[failed.wanted.target], failed.error, bad) or passing
        if passing is not None:
            told(f"Waiting for files: {passing.message}")
            _sleep(wait, check)
            wait = min(wait * 2, LONGEST_WAIT)


def _judge(file: _File, error: PortalError, bad: dict[str, int]) -> PortalError | None:
    """The error when it may pass by; None when the file is fetched once more at once; BadInput when it is hopeless."""
    if isinstance(error, IntegrityError):
        bad[file.name] = bad.get(file.name, 0) + 1
        if bad[file.name] < TRIES:
            return None
        found = error.extra.get("found")
        got = f"the bytes have sha256 {found}" if found else error.message
        raise BadInput(
            f"{file.name} is not what was published, twice: its sha256 is {file.wanted.sha256}, {got}."
        ) from error
    if isinstance(error, Unavailable) and error.extra.get("answered") not in (401, 403, 404, 410):
        return error
    if isinstance(error, NotFound | Unavailable):
        raise BadInput(f"{file.name} is not there any more: {error.message}") from error
    if error.status >= 500 or error.status == 429:
        return error
    raise BadInput(f"{file.name} cannot be had: {error}") from error


def _lay_out(spool: Spool, lease: Lease, files: Sequence[_File], check: Callable[[], None]) -> Json:
    chunks = {f.wanted.sha256: f.wanted.target for f in files if f.wanted.target.is_relative_to(spool.input / "chunks")}
    rows = write_rows(
        lease.spec,
        {sha256: path for sha256, path in chunks.items() if sha256 is not None},
        spool.input,
        lease.spec.get("vocabulary") or _vocabulary(spool.input / "checkpoint" / "config.json"),
        check,
    )
    # Rows are all that training needs of them, and the cache keeps them for the next attempt.
    shutil.rmtree(spool.input / "chunks", ignore_errors=True)
    return trainer_settings(lease.spec, rows, lease.resume is not None, lease.gpus)


def _vocabulary(config: Path) -> int | None:
    try:
        found = json.loads(config.read_text("utf-8")).get("vocab_size")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, int) else None


def _common_folder(files: Sequence[Json]) -> int:
    """How many leading folders the paths of a checkpoint share."""
    shared = 0
    for names in zip(*(checked_parts(f["path"])[:-1] for f in files), strict=False):
        if len(set(names)) > 1:
            break
        shared += 1
    return shared


def _sleep(seconds: float, check: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        check()
        time.sleep(0.1)


class _Breakable(NoProgress):
    """Breaks a download off where the attempt is to stop."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def advance(self, count: int) -> None:
        """Called for every piece that arrives."""
        if count > 0:
            self._check()
