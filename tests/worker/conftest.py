"""Engines for the worker's tests, each started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import ray_head, slurm
from tests.conftest import missing
from tests.ray_head import RayHead, start_ray
from tests.slurm import SlurmCluster, start_slurm
from tests.worker.fake_portal import FakePortal


@pytest.fixture
def portal() -> Iterator[FakePortal]:
    """A fake portal."""
    made = FakePortal()
    yield made
    made.close()


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
