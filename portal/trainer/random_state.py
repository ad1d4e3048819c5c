"""Every random generator a training process may draw from, as tensors: torch on CPU and its GPU, numpy, Python."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import torch

from portal.trainer.errors import BadInput

Tensors = dict[str, torch.Tensor]


def seed_all(seed: int) -> None:
    """Begin every generator anew."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def capture(device: torch.device) -> Tensors:
    """The state of all generators of this process, each a row of bytes, words or float64.

    MT19937 states are 624 words and a position; a Gaussian that a generator keeps back stands in ``kept_gauss``.
    """
    state: Tensors = {"torch_cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["torch_cuda"] = torch.cuda.get_rng_state(device)
    kept = np.random.get_state(legacy=False)
    words = np.append(kept["state"]["key"], kept["state"]["pos"]).astype(np.uint32)
    state["numpy"] = torch.from_numpy(words)
    _, python, gauss = random.getstate()
    state["python"] = torch.from_numpy(np.array(python, dtype=np.uint32))
    state["kept_gauss"] = torch.tensor(
        [kept["gauss"] if kept["has_gauss"] else math.nan, math.nan if gauss is None else gauss], dtype=torch.float64
    )
    return state


def restore(state: Tensors, device: torch.device) -> list[str]:
    """Set the generators; names those the state does not hold. ``BadInput`` where a tensor is no such state."""
    absent = []
    for name, setter in _setters(device).items():
        if name not in state:
            absent.append(name)
            continue
        try:
            setter(state)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise BadInput(f"rng.safetensors: `{name}` is no state of its generator ({error}).") from None
    return absent


def _setters(device: torch.device) -> dict[str, Callable[[Tensors], None]]:
    setters: dict[str, Callable[[Tensors], None]] = {"torch_cpu": lambda s: torch.set_rng_state(s["torch_cpu"])}
    if device.type == "cuda":
        setters["torch_cuda"] = lambda s: torch.cuda.set_rng_state(s["torch_cuda"], device)
    return setters | {"numpy": _restore_numpy, "python": _restore_python}


def _restore_numpy(state: Tensors) -> None:
    words, gauss = state["numpy"].numpy(), _kept(state, 0)
    inner = {"key": words[:-1], "pos": int(words[-1])}
    whole = {"bit_generator": "MT19937", "state": inner, "has_gauss": int(gauss is not None), "gauss": gauss or 0.0}
    np.random.set_state(whole)


def _restore_python(state: Tensors) -> None:
    random.setstate((3, tuple(state["python"].tolist()), _kept(state, 1)))


def _kept(state: Tensors, place: int) -> float | None:
    value = float(state["kept_gauss"][place]) if "kept_gauss" in state else math.nan
    return None if math.isnan(value) else value
