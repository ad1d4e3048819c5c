"""Attempts as Ray jobs, through the REST API of a Ray head; needs no ray package.

Ray Jobs is no queue: a job that waits for fifteen minutes fails. So a task is submitted only while the cluster shows
its GPUs free, and a job that Ray gave up before it started is submitted again.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from portal.errors import PortalError, Unavailable, UsageError
from portal.worker.executors.launch import exit_state, was_started, write_script
from portal.worker.executors.placed import (
    Capacity,
    EngineBusy,
    EngineRefused,
    EngineState,
    Placed,
    Task,
    refuse_unknown,
)
from portal.worker.surroundings import variable

ADDRESS = "http://127.0.0.1:8265"
TIMEOUT = 30.0
SETTLE = 10.0
"""Seconds until the cluster's own figures show a job that has just begun."""
NEVER_STARTED = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
NODE_LOST = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE")
_OPTIONS = {
    "address": f"of the head's dashboard, default RAY_API_SERVER_ADDRESS or {ADDRESS}",
    "token-file": "file with the cluster's token, default RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH",
}


class RayExecutor:
    """A Ray cluster by the address of its head."""

    name = "ray"
    look_seconds = 1.0

    def __init__(self, address: str = ADDRESS, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=address.rstrip("/"), headers=headers, timeout=TIMEOUT)
        self._starting: dict[str, tuple[int, int, float]] = {}
        """GPUs and CPUs of tasks that the cluster's figures do not show yet, and until when."""

    @classmethod
    def of(cls, attempts: Path, gpus: int | None, options: Mapping[str, str]) -> RayExecutor:  # noqa: ARG003
        """From the command line's words and the variables that Ray's own tools read."""
        refuse_unknown("ray", options, _OPTIONS)
        address = options.get("address") or variable("RAY_API_SERVER_ADDRESS") or ADDRESS
        if not address.startswith(("http://", "https://")):
            raise UsageError(f"{address!r} is no address of a Ray head.", f"It looks like {ADDRESS}.")
        path = options.get("token-file") or variable("RAY_AUTH_TOKEN_PATH")
        return cls(address, Path(path).read_text("utf-8").strip() if path else variable("RAY_AUTH_TOKEN"))

    def submit(self, task: Task) -> Placed:
        """Start it; EngineBusy while the cluster has no room, EngineRefused where it never will."""
        if found := self.find(task):
            return found
        self._check_room(task)
        script = write_script(task)
        asked = {
            "entrypoint": f"exec /bin/sh {shlex.quote(str(script))}",
            "submission_id": task.name,
            "entrypoint_num_cpus": task.cpus,
            "entrypoint_num_gpus": task.gpus,
            "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(max(int(task.grace), 1))}},
            "metadata": {"portal": task.name},
        }
        answer = self._ask("POST", "/api/jobs/", json=asked)
        if answer.status_code >= 400 and "already exists" not in answer.text:
            raise _refused(answer)
        self._starting[task.name] = (task.gpus, task.cpus, time.monotonic() + SETTLE)
        return Placed(task.name, task.spool, task.name)

    def find(self, task: Task) -> Placed | None:
        """By its name, which is the job's id; one that Ray gave up before it began is not counted."""
        job = self._job(task.name)
        if job is not None and not (_never_started(job) and self._forget(task.name, task.spool)):
            return Placed(task.name, task.spool, task.name)
        return Placed(task.name, task.spool, "ended") if exit_state(task.spool) else None

    def poll(self, placed: Sequence[Placed]) -> dict[str, EngineState]:
        """Exit files first, then one question each."""
        return {each.name: exit_state(each.spool) or self._state(each) for each in placed}

    def cancel(self, placed: Placed, grace: float) -> None:  # noqa: ARG002 - fixed when it was submitted
        """Ray sends SIGTERM, and SIGKILL after the grace that the task was submitted with."""
        answer = self._ask("POST", f"/api/jobs/{placed.name}/stop")
        if answer.status_code >= 400 and answer.status_code != 404:
            raise _refused(answer)

    def capacity(self) -> Capacity:
        """GPUs and CPUs of the cluster that nothing uses."""
        usage = self._usage()
        used, total = usage.get("GPU", (0.0, 0.0))
        used_cpus, cpus = usage.get("CPU", (0.0, 0.0))
        begun_gpus, begun_cpus = self._begun()
        free = max(int(total - used) - begun_gpus, 0)
        return Capacity(free, int(total), max(int(cpus - used_cpus) - begun_cpus, 0))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _check_room(self, task: Task) -> None:
        capacity = self.capacity()
        if task.gpus > capacity.gpus:
            raise EngineRefused(
                f"{task.gpus} GPUs are wanted; the Ray cluster has {capacity.gpus}.", "Choose another worker."
            )
        if task.gpus > capacity.free_gpus or (capacity.free_slots or 0) < task.cpus:
            raise EngineBusy(
                f"{task.gpus} GPUs and {task.cpus} CPUs are wanted; the Ray cluster has {capacity.free_gpus} and"
                f" {capacity.free_slots} free.",
                "It waits for others to end.",
            )

    def _usage(self) -> dict[str, tuple[float, float]]:
        answer = self._ask("GET", "/api/cluster_status")
        if answer.status_code >= 400:
            raise _refused(answer)
        found: Any = answer.json()
        for name in ("data", "clusterStatus", "loadMetricsReport", "usage"):
            found = (found or {}).get(name)
        if not found:
            raise Unavailable("The Ray head does not tell its resources yet.", "It is asked again.")
        return {name: (float(used), float(total)) for name, (used, total) in found.items()}

    def _begun(self) -> tuple[int, int]:
        now = time.monotonic()
        self._starting = {name: found for name, found in self._starting.items() if found[2] > now}
        return sum(gpus for gpus, _, _ in self._starting.values()), sum(c for _, c, _ in self._starting.values())

    def _state(self, placed: Placed) -> EngineState:
        try:
            job = self._job(placed.name)
        except PortalError as error:
            return EngineState("unknown", None, error.message)
        if job is None:
            return exit_state(placed.spool) or EngineState("gone", None, "Ray does not know the job")
        status, message = job.get("status"), str(job.get("message") or "")
        if status == "PENDING":
            return EngineState("pending", None, message)
        if status == "RUNNING":
            return EngineState("running", None, str(job.get("driver_node_id") or ""))
        self._starting.pop(placed.name, None)
        if status == "SUCCEEDED":
            return EngineState("exited", 0)
        if status == "STOPPED":
            return exit_state(placed.spool) or EngineState("cancelled", None, message)
        return exit_state(placed.spool) or self._failed(placed, job, message)

    def _failed(self, placed: Placed, job: Mapping[str, Any], message: str) -> EngineState:
        if _never_started(job) and self._forget(placed.name, placed.spool):
            return EngineState("gone", None, "Ray gave it up before it began")
        code = job.get("driver_exit_code")
        if isinstance(code, int):
            return EngineState("exited", 128 - code if code < 0 else code, message[:500])
        lost = any(word in str(job.get("error_type")) + message for word in NODE_LOST)
        return EngineState("node_lost" if lost else "gone", None, message[:500])

    def _forget(self, name: str, spool: Path) -> bool:
        """Make Ray forget a job that never began, so that its name can be used again; False where it did begin."""
        if was_started(spool):
            return False
        with suppress(Unavailable):
            self._ask("DELETE", f"/api/jobs/{name}")
        return True

    def _job(self, name: str) -> dict[str, Any] | None:
        answer = self._ask("GET", f"/api/jobs/{name}")
        if answer.status_code == 404:
            return None
        if answer.status_code >= 400:
            raise _refused(answer)
        found: dict[str, Any] = answer.json()
        return found

    def _ask(self, method: str, path: str, **asked: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **asked)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"The Ray head at {self._http.base_url} does not answer: {error or type(error).__name__}.",
                "Is it running there?",
            ) from None


def _never_started(job: Mapping[str, Any]) -> bool:
    return job.get("status") == "FAILED" and NEVER_STARTED in str(job.get("error_type")) + str(job.get("message"))


def _refused(answer: httpx.Response) -> PortalError:
    if answer.status_code in (401, 403):
        return Unavailable(
            f"The Ray head refuses the token ({answer.status_code}).", "Give its token by token-file or RAY_AUTH_TOKEN."
        )
    return Unavailable(f"The Ray head answered {answer.status_code}: {answer.text[:300]}", "It is tried again.")
