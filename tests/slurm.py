"""A real Slurm for tests: munged, slurmctld and two slurmd of Debian's packages, all on loopback, with two GPUs a node.

The GPUs are character devices that do nothing. Every daemon is a child of this process and ends with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("sbatch", "squeue", "scancel", "sinfo", "srun")
DAEMONS = ("munged", "slurmctld", "slurmd")
HOW = "apt-get install --no-install-recommends slurm-wlm slurm-wlm-basic-plugins munge"
NODES = ("n1", "n2")

_CONF = """\
ClusterName=portaltest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
JobRequeue=1
KillWait=3
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SlurmdTimeout=5
InactiveLimit=0
PropagateResourceLimits=NONE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=4 RealMemory=16000 Gres=gpu:fake:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=4 RealMemory=16000 Gres=gpu:fake:2
PartitionName=gpu Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class SlurmCluster:
    """A running cluster; its files lie in one temporary folder."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's commands need to find it."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str) -> str:
        """Output of one of Slurm's commands."""
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def stop_daemon(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End one daemon."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def start_controller(self) -> None:
        """Start the controller; it takes up the state that an earlier one saved."""
        self._start("slurmctld", "slurmctld", "-D")

    def stop(self) -> None:
        """End all jobs, then all daemons, and remove the folder."""
        if "slurmctld" in self.daemons:
            subprocess.run(["scancel", "--me"], env=self.environment, check=False, capture_output=True)
            _until(self._empty, 10)
        for daemon in self.daemons.values():  # nothing of theirs is kept, so they need not save it
            daemon.kill()
        for daemon in self.daemons.values():
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start every daemon and wait until both nodes can run jobs."""
        at = str(self.folder)
        self._start(
            "munged", "munged", "-F", "--force", f"--key-file={at}/munge.key", f"--socket={at}/munge.sock",
            f"--pid-file={at}/munged.pid", f"--log-file={at}/munged.log", f"--seed-file={at}/seed", "--origin=127.0.0.1",
        )  # fmt: skip
        _wait(lambda: (self.folder / "munge.sock").exists(), "munged", self.folder)
        self._start("slurmctld", "slurmctld", "-D", "-c")
        for node in NODES:
            self._start(node, "slurmd", "-D", "-N", node)
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until every node can take a job."""
        _wait(self._idle, "Slurm", self.folder)

    def _empty(self) -> bool:
        command = ["squeue", "-h", "-t", "R,CG,PD"]
        return not subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def _idle(self) -> bool:
        found = subprocess.run(
            ["sinfo", "-h", "-N", "-t", "idle", "-o", "%N"], env=self.environment, capture_output=True, text=True
        )
        return set(found.stdout.split()) == set(NODES)

    def _start(self, name: str, program: str, *arguments: str) -> None:
        path = _program(program)
        assert path is not None
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                [path, *arguments], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )


def start_slurm() -> SlurmCluster | None:
    """Start a cluster; None where its programs are not installed."""
    if not all(_program(name) for name in (*PROGRAMS, *DAEMONS)):
        return None
    folder = Path(tempfile.mkdtemp(prefix="sl", dir="/tmp"))  # short: paths of sockets have a limit
    folder.chmod(0o755)
    cluster = SlurmCluster(folder)
    try:
        _write_files(folder)
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _write_files(folder: Path) -> None:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for name in ("ctld", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    ports = _ports(3)
    host = socket.gethostname().partition(".")[0]
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    (folder / "slurm.conf").write_text(
        _CONF.format(host=host, user=user, folder=folder, port=ports[0], port1=ports[1], port2=ports[2])
    )
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    devices = [(node, _device(folder, node, k)) for node in NODES for k in range(2)]
    (folder / "gres.conf").write_text("".join(f"NodeName={n} Name=gpu Type=fake File={path}\n" for n, path in devices))


def _device(folder: Path, node: str, k: int) -> str:
    """A character device, which Slurm wants to see before it names a GPU to a job."""
    path = folder / f"gpu-{node}-{k}"
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        return f"/dev/tty{k}"
    return str(path)


def _ports(count: int) -> list[int]:
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in opened]
    for each in opened:
        each.close()
    return ports


def _wait(ready: Callable[[], bool], what: str, folder: Path) -> None:
    if not _until(ready, 60):
        logs = "\n".join(f"{p.name}: {p.read_text(errors='replace')[-1000:]}" for p in folder.glob("*.log"))
        raise RuntimeError(f"{what} did not start.\n{logs}")


def _until(ready: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
