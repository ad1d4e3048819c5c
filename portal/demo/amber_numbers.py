"""Twenty metric series of demo/amber-scale: smooth trends with noise, one-step spikes, NaN and infinities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from portal.demo.amber_plan import Plan

Floats = npt.NDArray[np.float64]

SPIKES = 24
"""Further one-step spikes of the loss that have no declared cause, so that a reader has something to find."""

DEFINITIONS: dict[str, tuple[str, str, str]] = {
    "train/loss": ("train", "nats", "mean over rank 0's own rows"),
    "train/grad_norm": ("train", "", "global L2 norm before clipping at 1.0"),
    "train/param_norm": ("train", "", "global L2 norm"),
    "train/lr": ("train", "", "of this step's update"),
    "train/step_time": ("train", "s", "rank 0"),
    "train/tokens_per_second": ("train", "tokens/s", "per GPU, rank 0"),
    "system/gpu_utilization": ("system", "%", "mean over GPUs of node 0"),
    "system/gpu_memory": ("system", "GiB", "largest GPU of node 0"),
    "system/gpu_power": ("system", "W", "mean over GPUs of node 0"),
    "system/gpu_temperature": ("system", "°C", "hottest GPU of node 0"),
    "system/cpu_utilization": ("system", "%", "node 0"),
    "system/host_memory": ("system", "GiB", "node 0"),
    "system/disk_read": ("system", "MB/s", "node 0"),
    "system/network_in": ("system", "MB/s", "node 0"),
    "system/network_out": ("system", "MB/s", "node 0"),
    "system/loader_wait": ("system", "ms", "rank 0"),
}
"""Series of every step: name -> (group, unit, reduction)."""
EVALUATIONS: dict[str, tuple[float, float]] = {
    "eval/arc_challenge": (24.5, 42.0),
    "eval/hellaswag": (26.0, 74.0),
    "eval/mmlu": (25.0, 28.5),
    "eval/truthfulqa": (48.0, 41.0),
}
"""Series of every checkpoint: name -> score of the first and the last, in %."""


def write_metrics(folder: Path, plan: Plan) -> None:
    """Write ``train.parquet`` (a row per step) and ``evals.parquet`` (a row per checkpoint)."""
    rng = np.random.Generator(np.random.PCG64(plan.last_step))
    steps = np.arange(1, plan.last_step + 1)
    columns = {**_training(rng, steps, plan), **_system(rng, len(steps))}
    _write(folder / "train.parquet", steps, columns)
    checkpoints = np.arange(1, plan.chunks + 1) * plan.steps_per_chunk
    progress = 1 - np.exp(-3.0 * np.arange(plan.chunks) / plan.chunks)
    scores = {
        name: first + (last - first) * progress / progress[-1] + rng.normal(0, 0.4, plan.chunks)
        for name, (first, last) in EVALUATIONS.items()
    }
    _write(folder / "evals.parquet", checkpoints, scores)


def _training(rng: np.random.Generator, steps: npt.NDArray[np.int64], plan: Plan) -> dict[str, Floats]:
    warm = np.minimum(steps / 2000, 1.0)
    loss = 1.72 + 8.7 * (1 + steps / 60.0) ** -0.36 + rng.normal(0, 0.025, len(steps))
    norm = 0.25 + 3.0 * np.exp(-steps / 1500) + rng.gamma(4.0, 0.015, len(steps))
    undeclared = rng.choice(np.arange(len(steps) // 50, len(steps)), min(SPIKES, len(steps) // 50), replace=False)
    loss[undeclared] += rng.uniform(1.0, 3.0, len(undeclared))
    norm[undeclared] *= rng.uniform(3.0, 9.0, len(undeclared))
    caused = np.array([*plan.garbled, plan.first_full_step + 1]) - 1
    loss[caused] = rng.uniform(7.5, 9.5, len(caused))
    norm[caused] = rng.uniform(8.0, 20.0, len(caused))
    failed = np.array(list(plan.skipped_at().values()), dtype=np.int64) - 1
    loss[failed] = norm[failed] = np.nan
    norm[np.array(plan.overflows, dtype=np.int64) - 1] = np.inf
    seconds = 3.1 + rng.gamma(2.0, 0.05, len(steps))
    # The first step after a checkpoint waits for it to be written.
    seconds[:: plan.steps_per_chunk] += 95.0
    return {
        "train/loss": loss,
        "train/grad_norm": norm,
        "train/param_norm": 120 + 900 * (1 - np.exp(-steps / (len(steps) / 3))),
        "train/lr": warm * (3e-5 + 1.35e-4 * (1 + np.cos(np.pi * steps / len(steps)))),
        "train/step_time": seconds,
        "train/tokens_per_second": 4_587_520 / 224 / seconds,
    }


def _system(rng: np.random.Generator, count: int) -> dict[str, Floats]:
    day = np.sin(np.arange(count) * (2 * np.pi / 27_000))
    levels = {
        "gpu_utilization": (94.0, 0.6, 0.3),
        "gpu_memory": (71.5, 0.02, 0.0),
        "gpu_power": (372.0, 9.0, 4.0),
        "gpu_temperature": (61.0, 0.6, 3.0),
        "cpu_utilization": (14.0, 1.5, 1.0),
        "host_memory": (402.0, 0.5, 6.0),
        "disk_read": (31.0, 4.0, 2.0),
        "network_in": (5_150.0, 90.0, 40.0),
        "network_out": (5_140.0, 90.0, 40.0),
        "loader_wait": (2.4, 0.3, 0.1),
    }
    return {
        f"system/{name}": level + wave * day + rng.normal(0, spread, count)
        for name, (level, spread, wave) in levels.items()
    }


def _write(path: Path, steps: npt.NDArray[np.int64], columns: dict[str, Floats]) -> None:
    table = pa.table({"step": steps, **columns})
    # Random numbers have no repeats for a dictionary to find.
    pq.write_table(table, path, compression="lz4", use_dictionary=False)
