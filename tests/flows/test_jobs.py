"""Jobs from end to end: a real portal, real workers, the real trainer; moved, killed, tampered with."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.kills import VICTIMS, derived_runs, kill_many
from tests.flows.live import LivePortal, LiveWorker
from tests.ray_head import RayHead
from tests.slurm import SlurmCluster
from tests.trainer_environment import trainer_python

KILLS = int(os.environ.get("PORTAL_TEST_KILLS", "1"))
"""Random moments at which each process is killed; the long form is 30."""


@pytest.fixture(scope="module")
def shared_portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePortal]:
    """A portal over demo/tiny."""
    trainer_python()
    made = LivePortal(tmp_path_factory.mktemp("portal"))
    yield made
    made.close()


@pytest.fixture
def portal(shared_portal: LivePortal) -> Iterator[LivePortal]:
    """The same portal for all, serving."""
    shared_portal.start()
    yield shared_portal
    shared_portal.kill()


@pytest.fixture
def workers() -> Iterator[list[LiveWorker]]:
    """Workers that are ended with the test."""
    made: list[LiveWorker] = []
    yield made
    for worker in made:
        worker.close()


@pytest.mark.timeout(600)
@pytest.mark.xdist_group("engine-ray")
def test_a_job_goes_from_slurm_to_ray_to_a_process_and_comes_out_bit_for_bit(
    portal: LivePortal, workers: list[LiveWorker], slurm_cluster: SlurmCluster, ray_cluster: RayHead
) -> None:
    """Slurm's job is cancelled by an operator, Ray's agent is killed and comes back, a process finishes."""
    on_slurm = LiveWorker(portal, "slurm", ["--executor", "slurm"], slurm_cluster.environment)
    token = portal.folder / "ray-token"
    token.write_text(ray_cluster.token)
    ray_options = ["--option", f"address={ray_cluster.address}", "--option", f"token-file={token}"]
    on_ray = LiveWorker(portal, "ray", ["--executor", "ray", *ray_options])
    on_process = LiveWorker(portal, "process", ["--gpus", "0"])
    workers += [on_slurm, on_ray, on_process]

    job = portal.submit(kind="replay", step=50, steps=450, save_every=50)
    on_slurm.start()
    portal.wait_for_step(job, 110)
    on_slurm.drain()  # what comes back into the queue is not for Slurm again
    slurm_cluster.run("scancel", "--me")
    on_slurm.wait()
    reached = portal.job(job)["progress_step"]

    on_ray.start()
    portal.wait_for_step(job, max(reached + 60, 200))
    on_ray.kill()
    on_ray.start()
    portal.wait_for_step(job, max(reached + 120, 260))
    on_ray.stop()

    on_process.start()
    ended = portal.wait_for_end(job)
    assert ended["state"] == "succeeded", (ended["message"], on_process.said())
    attempts = [(a["executor"], a["outcome"]) for a in ended["attempt_list"]]
    told = [(a["outcome"], a["exit_code"], a["message"]) for a in ended["attempt_list"]]
    assert attempts == [("slurm", "preempted"), ("ray", "preempted"), ("process", "succeeded")], told
    assert ended["verdict"] == "exact", ended["fidelity"]
    assert ended["fidelity"]["losses"]["equal"] == ended["fidelity"]["losses"]["compared"] == 450
    last = next(c for c in ended["fidelity"]["checkpoints"] if c["step"] == 500)
    assert last["weights"]["equal"] == last["weights"]["compared"] > 0
    assert last["optimizer"]["equal"] == last["optimizer"]["compared"] > 0
    assert derived_runs(portal, job) == [ended["derived_run"]]


@pytest.mark.timeout(60 + 120 * KILLS)
@pytest.mark.xdist_group("engine-ray")
@pytest.mark.parametrize("victim", VICTIMS)
def test_whoever_is_killed_the_job_ends_right(portal: LivePortal, victim: str) -> None:
    """One derived run for each job; no line of a log that the portal had is lost. `python -m tests.flows.kills` does more."""
    assert len(kill_many(portal, victim, KILLS, random.Random(os.urandom(8)))) == KILLS


@pytest.mark.timeout(180)
def test_a_flipped_byte_in_a_checkpoint_fails_the_job_for_good(tmp_path: Path, workers: list[LiveWorker]) -> None:
    trainer_python()
    portal = LivePortal(tmp_path, copy=True)
    try:
        portal.start()
        spoil_and_run(portal, workers)
    finally:
        portal.close()


def spoil_and_run(portal: LivePortal, workers: list[LiveWorker]) -> None:
    """Flip the last byte of the weights that a job starts from."""
    weights = portal.release / "checkpoints" / "step-0300" / "model.safetensors"
    job = portal.submit(kind="resume", step=300, steps=5)
    published = portal.job(job)["spec"]["base"]["files"]
    spoiled = bytearray(weights.read_bytes())
    spoiled[-1] ^= 1
    weights.write_bytes(spoiled)
    worker = LiveWorker(portal, "process", ["--gpus", "0"])
    workers.append(worker)
    worker.start()
    ended = portal.wait_for_end(job)
    assert ended["state"] == "failed"
    (attempt,) = ended["attempt_list"]
    assert (attempt["outcome"], attempt["exit_code"]) == ("failed", 65)
    assert hashlib.sha256(spoiled).hexdigest() in attempt["message"]
    assert next(f["sha256"] for f in published if f["path"].endswith("model.safetensors")) in attempt["message"]
    assert derived_runs(portal, job) == []
