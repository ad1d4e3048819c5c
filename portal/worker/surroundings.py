"""The part of this process's environment that jobs may see: no token of the portal's, no credentials."""

from __future__ import annotations

import os

_NAMES = {"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"}
_PREFIXES = ("CUDA", "GOMP_", "KMP_", "LC_", "LD_", "MKL_", "NCCL_", "NVIDIA", "OMP_", "PBS_", "SLURM", "TORCH", "UCX_")
_SECRETS = ("TOKEN", "SECRET", "PASSWORD", "KEY", "JWT")


def clean_environment() -> dict[str, str]:
    """Variables that programs and engines need; everything else stays with the agent."""
    return {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - what is handed on is what this process was given
        if (name in _NAMES or name.startswith(_PREFIXES)) and not any(word in name for word in _SECRETS)
    }


def variable(name: str) -> str:
    """One variable by name, for credentials of engines that are read from where their own tools read them."""
    return os.environ.get(name, "")  # noqa: TID251 - not a setting of the portal's
