"""A worker's agent, runner or whole spool killed in the middle of a job: the job ends once, its log whole."""

from __future__ import annotations

import random
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from portal.worker.executors.identity import kill_all, processes_of
from tests.battery.figures import Figures, Scale
from tests.worker.benches import Bench
from tests.worker.fake_portal import FakePortal, digest

VICTIMS = ("agent", "runner", "trainer")
LINES = 12
"""Lines of the stand-in trainer's log: a head, ten steps, an end."""


def run(scale: Scale) -> Figures:
    """The same number of kills for each victim."""
    figures = Figures("kill -9 of a worker's agent, runner or trainer in the middle of a job")
    for victim in VICTIMS:
        for number in range(scale.pick(1, 30, 70)):
            dice = random.Random(f"{victim} {number}")
            with tempfile.TemporaryDirectory(prefix="battery-", ignore_cleanup_errors=True) as folder:
                said = _kill(victim, Path(folder), dice)
            figures.injected += 1
            figures.tried += LINES
            figures.lost += bool(said)
            figures.wrong += [f"{victim} {number}: {said}"] if said else []
    return figures


def _kill(victim: str, folder: Path, dice: random.Random) -> str:
    portal = FakePortal()
    bench = Bench(portal, folder, staging=dice.choice(("direct", "relay")))
    assert bench.python.exists()
    try:
        bench.behave(pace=0.03)
        portal.offer()
        agent = bench.spawn()
        _until(lambda: portal.attempts[1].phases, 30)
        time.sleep(dice.uniform(0, 0.6))
        if victim == "agent":
            agent.kill()
            agent.wait()
            bench.spawn()
        else:
            word = "-m portal.worker.runner" if victim == "runner" else "fake_trainer"
            for process in processes_of(bench.spool()):
                with suppress(psutil.Error):
                    if word in " ".join(process.cmdline()):
                        process.kill()
        if not _until(lambda: portal.attempts[1].ended, 60):
            return f"never ended: {(folder / 'agent.log').read_text()[-300:]}"
        return _judge(victim, portal)
    finally:
        bench.clean_up()
        kill_all(bench.spool())
        portal.close()


def _judge(victim: str, portal: FakePortal) -> str:
    """Only a killed trainer may cost the attempt; whatever was said of the log is there."""
    said = portal.attempts[1]
    if said.ended["log_sha256"] != digest(bytes(said.log)):
        return "the log is another than was told"
    if said.ended["outcome"] == "succeeded":
        lines = len(bytes(said.log).splitlines())
        return (
            "" if lines == LINES else f"{lines} lines of log: the trainer was started more than once, or lines are gone"
        )
    return "" if victim == "trainer" else f"{said.ended['outcome']}: {said.ended.get('message')}"


def _until(ready: object, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False
