"""One process with torch for all jobs of a worker, and the runs that several tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer.jobs import Job, Runner, job
from tests.trainer_environment import trainer_python


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that run trainers on one worker: importing torch costs more than most of them."""
    for item in items:
        if "runner" in getattr(item, "fixturenames", ()) and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("trainer"))


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Runs jobs; skips where the trainer's environment was not built."""
    made = Runner(trainer_python(), tmp_path_factory.mktemp("trainer"))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def base(runner: Runner) -> Path:
    """A Llama of 21,000 parameters with dropout, at step 0."""
    folder = runner.folder / "base"
    runner.call("tests.trainer.models:make", "llama", str(folder), {"attention_dropout": 0.1})
    return folder


@pytest.fixture(scope="session")
def whole(runner: Runner, base: Path) -> Job:
    """Sixty steps without a break, with checkpoints after 30 and 60."""
    return runner.run_well(job(runner.folder / "whole", base))
