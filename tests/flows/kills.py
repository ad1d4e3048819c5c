"""``python -m tests.flows.kills --each 30``: processes of a job killed at random moments; it has to end right every time.

Right: succeeded, exactly one derived run, and no line of a log lost that the portal had acknowledged before. Agent and
portal are started again, as a supervisor would; nobody starts a runner or a trainer again but the worker itself.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.flows.live import LivePortal, LiveWorker, wait_for
from tests.trainer_environment import is_built

VICTIMS = ("agent", "runner", "trainer", "portal")
ENDED = ("succeeded", "failed")
USUAL = 6.0
"""Seconds from the lease of such a job to its end, on a machine with nothing else to do."""


@dataclass(frozen=True)
class Killed:
    """One kill that the job survived."""

    job: int
    seconds: float
    """After the lease."""
    state: str
    """Of the job at that moment."""
    attempts: int
    """That it took in all."""
    lines: int
    """Of its log that the portal had, all of which it still has."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, print what was survived; 1 with the first job that did not end right."""
    parser = argparse.ArgumentParser(prog="python -m tests.flows.kills", description=__doc__)
    parser.add_argument("--each", type=int, default=30, help="random moments for each kind of process")
    parser.add_argument("--victim", action="append", choices=VICTIMS, help="only these; may be repeated")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="of the moments")
    parser.add_argument("--minutes", type=float, default=120.0, help="begin no further kill after so long")
    given = parser.parse_args(arguments)
    if not is_built():
        print("The trainer's environment is missing: python -m tests.trainer_environment")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # with everything that was started
    print(f"seed {given.seed}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    until = time.monotonic() + given.minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="portal-kills-"))
    portal = LivePortal(folder)
    try:
        portal.start()
        moments = random.Random(given.seed)
        for victim in given.victim or VICTIMS:
            kill_many(portal, victim, given.each, moments, lambda: time.monotonic() > until)
    except AssertionError as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    finally:
        portal.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def kill_many(
    portal: LivePortal, victim: str, count: int, moments: random.Random, over: Callable[[], bool] = lambda: False
) -> list[Killed]:
    """``count`` jobs, each with one kill; says what came of them."""
    worker = LiveWorker(portal, f"for-{victim}", ["--gpus", "0"])
    begun, found = time.monotonic(), list[Killed]()
    try:
        worker.start()
        # On a busy machine a job takes longer, and every part of it is to be hit.
        takes = undisturbed(portal) if count > 1 else USUAL
        while len(found) < count and not over():
            found.append(kill_once(portal, worker, victim, moments.uniform(0, takes)))
    finally:
        worker.close()
        states = ", ".join(f"{state} {n}" for state, n in Counter(k.state for k in found).most_common())
        print(
            f"kill -9 of the {victim}: {len(found)} of {count} jobs ended right in {time.monotonic() - begun:.0f} s,"
            f" {sum(k.attempts for k in found)} attempts, one derived run each, 0 of {sum(k.lines for k in found):,}"
            f" acknowledged lines lost; killed while {states or 'nothing ran'}",
            flush=True,
        )
    return found


def undisturbed(portal: LivePortal) -> float:
    """Seconds from a job's lease to its end, when nobody is killed."""
    job = submit(portal)
    begun = time.monotonic()
    assert portal.wait_for_end(job)["state"] == "succeeded"
    return time.monotonic() - begun


def submit(portal: LivePortal) -> int:
    """A job that was leased."""
    job = portal.submit(kind="resume", step=300, steps=25, save_every=10)
    wait_for(lambda: portal.job(job).get("attempts"), "a lease")
    return job


def kill_once(portal: LivePortal, worker: LiveWorker, victim: str, seconds: float) -> Killed:
    """Submit a job, kill one of its processes so long after its lease, and see that it ends right."""
    job = submit(portal)
    let_pass(portal, job, seconds)
    before = wait_for(lambda: portal.job(job), f"an answer about job {job}")
    had = {a["number"]: portal.log(job, a["number"]) for a in before["attempt_list"]}
    kill(victim, portal, worker)
    ended = portal.wait_for_end(job)
    told = (victim, seconds, ended["message"], ended["attempt_list"], worker.said())
    assert ended["state"] == "succeeded", told
    for number, log in had.items():
        assert portal.log(job, number).startswith(log), (*told, f"log of attempt {number}")
    assert derived_runs(portal, job) == [ended["derived_run"]], told
    lines = sum(log.count(b"\n") for log in had.values())
    return Killed(job, seconds, str(before["state"]), len(ended["attempt_list"]), lines)


def let_pass(portal: LivePortal, job: int, seconds: float) -> None:
    """Let some time pass; less where the job ends before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and portal.job(job).get("state") not in ENDED:
        time.sleep(0.05)


def kill(victim: str, portal: LivePortal, worker: LiveWorker) -> None:
    """End a process without a word; agent and portal are started again."""
    if victim == "portal":
        portal.kill()
        portal.start()
    elif victim == "agent":
        worker.kill()
        worker.start()
    else:
        word = {"runner": "portal.worker.runner", "trainer": "portal.trainer"}[victim]
        for pid in worker.processes(word):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def derived_runs(portal: LivePortal, job: int) -> list[str]:
    """Names of runs that a job made."""
    names = [run["run"] for run in portal.http.get("/runs", params={"limit": 500}).json()["items"]]
    return [name for name in names if name.startswith("derived/") and name.endswith(f"-j{job}")]


if __name__ == "__main__":
    sys.exit(main())
