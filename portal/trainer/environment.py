"""What a result may depend on outside the settings, written beside it: versions, processor, threads, code."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from portal.trainer import numerics
from portal.trainer.parallel import Parallel
from portal.trainer.settings import Training
from portal.trainer.source import code_sha256

_PACKAGES = ("torch", "transformers", "safetensors", "numpy", "tokenizers", "huggingface-hub", "triton")


def capture_environment(training: Training, parallel: Parallel) -> dict[str, Any]:
    """Everything by which two runs of the same job may differ, as JSON values."""
    return {
        "format": "llm360-portal/environment/1",
        "trainer": {"name": "portal.trainer", "sha256": code_sha256()},
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "system": {
            "platform": platform.platform(),
            "libc": " ".join(platform.libc_ver()),
            "machine": platform.machine(),
        },
        "cpu": {
            "model": _cpu_model(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "gpu": _gpu() if parallel.device.type == "cuda" else None,
        "torch": {
            "build": torch.__config__.show().strip().splitlines(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "tf32": torch.backends.cuda.matmul.allow_tf32,
            "float32_matmul": torch.get_float32_matmul_precision(),
        },
        "precision": training.precision,
        "attention": training.attention,
        "micro_batch": training.micro_batch,
        "parallel": {"kind": parallel.kind, "processes": parallel.world},
        "device": parallel.device.type,
        "portable": training.numerics.portable,
        "variables": numerics.described(),
        "command": [Path(sys.executable).name, *sys.argv[1:2]],
    }


def _gpu() -> dict[str, Any]:
    return {
        "names": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
        "capability": list(torch.cuda.get_device_capability()),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": list(torch.cuda.nccl.version()) if torch.distributed.is_nccl_available() else None,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        # torch says +cpu or +cu130 itself; its metadata may not.
        return str(torch.__version__) if name == "torch" else version(name)
    except PackageNotFoundError:
        return None
