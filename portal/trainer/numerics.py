"""What the numbers depend on besides the program: threads, kernels, instruction sets. Set before torch is imported."""

from __future__ import annotations

import os
import sys
from typing import Any

from portal.trainer.settings import Numerics

_PORTABLE = {
    # ATen's own kernels, oneDNN's and MKL's each choose their code by the CPU they find.
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}
_ALWAYS = {
    # Waiting threads that spin make two trainers on one machine forty times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "TOKENIZERS_PARALLELISM": "false",
    # Whatever a config.json names: nothing is fetched.
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
SHOWN = ("OMP_", "GOMP_", "KMP_", "MKL_", "ATEN_", "ONEDNN_", "DNNL_", "CUBLAS_", "CUDA_VISIBLE", "NCCL_", "TORCH_")
"""Beginnings of the names of variables that an environment is described with."""


def variables(numerics: Numerics) -> dict[str, str]:
    """The environment variables that these settings need."""
    wanted = dict(_ALWAYS)
    if numerics.threads is not None:
        wanted |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(numerics.threads))
    if numerics.deterministic:
        wanted["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    if numerics.portable:
        wanted |= _PORTABLE
    return wanted


def prepare(numerics: Numerics) -> None:
    """Set the variables for this process and those it starts; too late once torch is there with others."""
    wanted = variables(numerics)
    if "torch" in sys.modules and (different := sorted(k for k, v in wanted.items() if os.environ.get(k) != v)):
        raise RuntimeError(f"torch was imported before {', '.join(different)} could be set")
    os.environ.update(wanted)


def restart(numerics: Numerics) -> None:
    """Begin this program anew with the variables, unless it has them: for programs whose imports already want torch."""
    wanted = variables(numerics)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | wanted)  # noqa: S606 - itself


def apply(numerics: Numerics) -> None:
    """Tell torch itself what no variable can."""
    import torch

    if numerics.threads is not None:
        torch.set_num_threads(numerics.threads)
    torch.use_deterministic_algorithms(numerics.deterministic)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = numerics.deterministic
    # TF32 keeps ten bits: a float32 run means float32.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def described() -> dict[str, Any]:
    """The variables of this process that matter to numbers, for the record."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(SHOWN)}
