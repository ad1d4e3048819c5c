"""One contract over all engines: this machine, a real Slurm, a real Ray."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from portal.errors import UsageError
from portal.worker.executors import EngineBusy, EngineRefused, open_executor
from portal.worker.executors.process import ProcessExecutor
from portal.worker.executors.ray import RayExecutor
from portal.worker.executors.slurm import SlurmExecutor
from tests.ray_head import RayHead
from tests.slurm import SlurmCluster
from tests.worker.engines import Engine, kill_leaders

ENGINES = [
    pytest.param("process", marks=pytest.mark.xdist_group("engine-process")),
    pytest.param("slurm", marks=pytest.mark.xdist_group("engine-slurm")),
    pytest.param("ray", marks=pytest.mark.xdist_group("engine-ray")),
]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine; engines start once for all tests."""
    folder = tmp_path_factory.mktemp("attempts")
    made = {"process": _process, "slurm": _slurm, "ray": _ray}[request.param](request, folder)
    yield made
    made.clean_up()


def _process(request: pytest.FixtureRequest, folder: Path) -> Engine:
    return Engine("process", 2, folder, partial(ProcessExecutor, folder, 2, 3), kill_leaders)


def _slurm(request: pytest.FixtureRequest, folder: Path) -> Engine:
    cluster: SlurmCluster = request.getfixturevalue("slurm_cluster")

    def vanish(placed):
        """The controller has lost the job and given its id to another one."""
        cluster.run("scontrol", "update", f"JobId={placed.id}", f"JobName=other-{placed.id}")
        kill_leaders(placed)

    environment = {"SLURM_CONF": cluster.environment["SLURM_CONF"]}
    return Engine("slurm", 4, folder, lambda: SlurmExecutor({}, environment, miss_seconds=1), vanish)


def _ray(request: pytest.FixtureRequest, folder: Path) -> Engine:
    head: RayHead = request.getfixturevalue("ray_cluster")

    def vanish(placed):
        """The head forgets the job."""
        kill_leaders(placed)
        made.ended(placed)
        with httpx.Client(base_url=head.address, headers={"Authorization": f"Bearer {head.token}"}, timeout=30) as http:
            assert http.delete(f"/api/jobs/{placed.name}").status_code == 200

    made = Engine("ray", 2, folder, lambda: RayExecutor(head.address, head.token), vanish)
    return made


def test_exit_codes_and_gpus_are_as_the_command_left_them(engine: Engine) -> None:
    tasks = [
        engine.task(
            "done", 'echo "$CUDA_VISIBLE_DEVICES|$PORTAL_SPOOL|$MARK" > seen', gpus=1, environment={"MARK": "a b'c"}
        ),
        engine.task("seven", "exit 7"),
        engine.task("saved", "exit 75"),
    ]
    placed = [engine.submit(task) for task in tasks]
    assert [engine.ended(p).code for p in placed] == [0, 7, 75]
    assert [engine.ended(p).kind for p in placed] == ["exited"] * 3
    gpu, name, mark = (tasks[0].spool / "seen").read_text().strip().split("|")
    assert re.fullmatch("[0-9]", gpu)
    assert (name, mark) == (str(tasks[0].spool), "a b'c")


def test_the_same_task_is_never_started_twice(engine: Engine) -> None:
    """An agent that died between submitting and writing it down finds the task; submitting again changes nothing."""
    task = engine.task("once", "echo begun >> begun; while [ ! -e go ]; do sleep 0.1; done; exit 3")
    first = engine.submit(task)
    engine.wait_for_file(first, "begun")
    other = engine.open()
    found = other.find(task)
    assert found is not None
    assert (found.name, found.id) == (first.name, first.id)
    assert other.submit(task).id == first.id
    assert other.poll([found])[task.name].kind == "running"
    (task.spool / "go").touch()
    assert engine.ended(found).code == 3
    assert other.submit(task).name == task.name  # after its end as well
    assert engine.ended(found).code == 3
    assert (task.spool / "begun").read_text() == "begun\n"
    other.close()


def test_a_task_nobody_submitted_is_not_found(engine: Engine) -> None:
    assert engine.executor.find(engine.task("never", "exit 0")) is None


def test_a_running_task_is_told_to_stop_and_may_save(engine: Engine) -> None:
    script = 'trap "echo saved > saved; exit 75" TERM; touch begun; while :; do sleep 0.1; done'
    placed = engine.submit(engine.task("stops", script, grace=20.0))
    engine.wait_for_file(placed, "begun")
    engine.executor.cancel(placed, 20)
    engine.executor.cancel(placed, 20)  # asking twice is asking once
    state = engine.ended(placed)
    assert (state.kind, state.code) == ("exited", 75)
    assert (placed.spool / "saved").read_text() == "saved\n"
    engine.executor.cancel(placed, 20)
    assert engine.state(placed).code == 75


def test_a_task_that_will_not_stop_is_ended_by_force(engine: Engine) -> None:
    placed = engine.submit(engine.task("deaf", 'trap "" TERM; touch begun; while :; do sleep 0.1; done', grace=1.0))
    engine.wait_for_file(placed, "begun")
    engine.executor.cancel(placed, 1)
    assert engine.ended(placed).kind == "cancelled"


def test_what_does_not_fit_waits_and_can_be_cancelled(engine: Engine) -> None:
    """GPUs that are in use are not given twice; a task that waits ends without having begun."""
    holders = [engine.submit(engine.task("holder0", "touch begun; while [ ! -e go ]; do sleep 0.1; done", gpus=2))]
    if engine.name == "slurm":  # two nodes
        holders.append(
            engine.submit(engine.task("holder1", "touch begun; while [ ! -e go ]; do sleep 0.1; done", gpus=2))
        )
    for holder in holders:
        engine.wait_for_file(holder, "begun")
    if engine.name != "ray":  # whose figures are seconds old; it asks its own book for what it began itself
        assert engine.executor.capacity().free_gpus == 0
    waits = engine.task("waits", "touch begun", gpus=1)
    if engine.name == "slurm":
        placed = engine.submit(waits)
        assert engine.state(placed).kind == "pending"
        engine.executor.cancel(placed, 30)
        assert engine.ended(placed).kind == "cancelled"
    else:
        with pytest.raises(EngineBusy, match="1 GPUs"):
            engine.executor.submit(waits)
    assert not (waits.spool / "begun").exists()
    for holder in holders:
        (holder.spool / "go").touch()
    assert [engine.ended(holder).code for holder in holders] == [0] * len(holders)


def test_more_gpus_than_there_are_is_refused_at_once(engine: Engine) -> None:
    with pytest.raises(EngineRefused):
        engine.executor.submit(engine.task("greedy", "exit 0", gpus=99))


def test_a_task_that_vanished_is_gone_or_lost_and_never_a_success(engine: Engine) -> None:
    placed = engine.submit(engine.task("lost", "touch begun; while :; do sleep 0.1; done"))
    engine.wait_for_file(placed, "begun")
    engine.vanish(placed)
    assert engine.ended(placed).kind in ("gone", "node_lost")


def test_a_killed_command_is_started_again_and_its_script_is_not(engine: Engine) -> None:
    """A runner whose memory ran out is started again inside the same task."""
    script = "if [ -e begun ]; then exit 5; fi; touch begun; kill -9 $$"
    assert engine.ended(engine.submit(engine.task("killed", script))).code == 5


def test_capacity_tells_all_gpus(engine: Engine) -> None:
    assert engine.executor.capacity().gpus == engine.gpus


@pytest.mark.xdist_group("engine-slurm")
def test_slurm_restarts_its_controller_and_the_job_ends_right(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    """Away is unknown, never lost."""
    engine = _slurm_engine(slurm_cluster, tmp_path)
    placed = engine.submit(engine.task("outage", "touch begun; while [ ! -e go ]; do sleep 0.1; done; exit 4"))
    engine.wait_for_file(placed, "begun")
    slurm_cluster.stop_daemon("slurmctld")
    try:
        state = SlurmExecutor({}, {"SLURM_CONF": slurm_cluster.environment["SLURM_CONF"]}).poll([placed])[placed.name]
        assert state.kind == "unknown"
    finally:
        slurm_cluster.start_controller()
    (placed.spool / "go").touch()
    assert engine.ended(placed).code == 4
    slurm_cluster.wait_until_idle()
    engine.clean_up()


@pytest.mark.xdist_group("engine-slurm")
def test_slurm_loses_a_node(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    engine = _slurm_engine(slurm_cluster, tmp_path)
    placed = engine.submit(engine.task("node", "touch begun; while :; do sleep 0.1; done"))
    engine.wait_for_file(placed, "begun")
    node = engine.state(placed).detail
    slurm_cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        assert engine.ended(placed).kind == "node_lost"
    finally:
        kill_leaders(placed)
        with suppress(subprocess.CalledProcessError):  # it has come back by itself
            slurm_cluster.run("scontrol", "update", f"nodename={node}", "state=resume")
        slurm_cluster.wait_until_idle()
    engine.clean_up()


@pytest.mark.xdist_group("engine-slurm")
def test_slurm_leaves_a_short_job_its_time(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    """Its own limit, and the warning before it, come after the job's seconds; a long job's limit is the job's."""
    engine = _slurm_engine(slurm_cluster, tmp_path)
    limits = []
    for seconds in (60, 86_400):
        placed = engine.submit(engine.task(f"for-{seconds}", "while [ ! -e go ]; do sleep 0.1; done", seconds=seconds))
        limits.append(slurm_cluster.run("squeue", "-h", "-j", placed.id, "-O", "TimeLimit").strip())
        (placed.spool / "go").touch()
        assert engine.ended(placed).code == 0
    assert limits == ["4:00", "1-00:00:00"]
    engine.clean_up()


def _slurm_engine(cluster: SlurmCluster, folder: Path) -> Engine:
    environment = {"SLURM_CONF": cluster.environment["SLURM_CONF"]}
    return Engine("slurm", 4, folder, lambda: SlurmExecutor({}, environment, miss_seconds=1), kill_leaders)


@pytest.mark.xdist_group("engine-ray")
def test_ray_without_its_token_is_unknown_and_says_so(ray_cluster: RayHead, tmp_path: Path) -> None:
    engine = Engine("ray", 2, tmp_path, lambda: RayExecutor(ray_cluster.address, "wrong"), kill_leaders)
    task = engine.task("refused", "exit 0")
    with pytest.raises(Exception, match="refuses the token"):
        engine.executor.submit(task)
    engine.clean_up()


def test_a_ray_head_that_is_away_is_unknown(tmp_path: Path) -> None:
    engine = Engine("ray", 2, tmp_path, lambda: RayExecutor("http://127.0.0.1:9"), kill_leaders)
    task = engine.task("away", "exit 0")
    with pytest.raises(Exception, match="does not answer"):
        engine.executor.submit(task)
    from portal.worker.executors import Placed

    assert engine.executor.poll([Placed(task.name, task.spool, task.name)])[task.name].kind == "unknown"
    engine.clean_up()


def test_words_of_the_command_line_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no executor 'lsf'"):
        open_executor("lsf", tmp_path, None, {})
    with pytest.raises(UsageError, match="no option 'colour'"):
        open_executor("process", tmp_path, 0, {"colour": "red"})
    with pytest.raises(UsageError, match="no number"):
        open_executor("process", tmp_path, 0, {"slots": "many"})
    with pytest.raises(UsageError, match="no address"):
        open_executor("ray", tmp_path, 0, {"address": "head:8265"})
