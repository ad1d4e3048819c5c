"""Adam and AdamW with their state by parameter name, whole tensors on the CPU, whatever lies where in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from portal.trainer.errors import BadInput
from portal.trainer.parallel import whole
from portal.trainer.settings import Optimizer

Tensors = dict[str, torch.Tensor]

_CLASSES: dict[str, type[torch.optim.Optimizer]] = {"AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam}


class NamedOptimizer:
    """An optimizer that knows its parameters' names; its state exists from the start, as zeros."""

    def __init__(self, model: nn.Module, settings: Optimizer) -> None:
        self.names = dict(model.named_parameters())
        self._settings = settings
        spared = {n for n, p in self.names.items() if p.dim() < 2 and settings.no_decay == "vectors"}
        self.groups = [
            {
                "params": [n for n in self.names if (n in spared) == is_spared],
                "weight_decay": 0.0 if is_spared else settings.weight_decay,
            }
            for is_spared in (False, True)
        ]
        self.groups = [group for group in self.groups if group["params"]]
        self.torch = _CLASSES[settings.name](
            [group | {"params": [self.names[n] for n in group["params"]]} for group in self.groups],  # type: ignore[attr-defined]
            lr=0.0,
            betas=settings.betas,
            eps=settings.eps,
            # The plain one takes roots with MKL, which answers differently on processors of different makers.
            fused=True,
        )
        for parameter in self.names.values():
            self.torch.state[parameter] = {
                "step": torch.tensor(0.0, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }

    def step(self, rate: float) -> None:
        """Apply the gradients at this learning rate."""
        for group in self.torch.param_groups:
            group["lr"] = rate
        self.torch.step()

    def state(self) -> Tensors:
        """``state.<parameter>.exp_avg`` and so on; every process has to ask, as parts may lie with others."""
        return {
            f"state.{name}.{key}": whole(value).detach().cpu().contiguous().clone()
            for name, parameter in self.names.items()
            for key, value in self.torch.state[parameter].items()
        }

    def load(self, tensors: Tensors, where: str) -> None:
        """Take over a state; ``BadInput`` where names or shapes are not this model's or values are not finite."""
        wanted = {
            f"state.{name}.{key}": (parameter, key)
            for name, parameter in self.names.items()
            for key in self.torch.state[parameter]
        }
        if different := sorted(wanted.keys() ^ tensors.keys()):
            verb = "lacks" if different[0] in wanted else "has, but the model has not,"
            raise BadInput(f"{where} {verb} {different[0]} ({len(different)} names differ).")
        for name, (parameter, key) in wanted.items():
            self._set(parameter, key, tensors[name], f"{where}: {name}")

    def described(self) -> dict[str, Any]:
        """Class and groups for trainer_state.json."""
        numbers = {"betas": list(self._settings.betas), "eps": self._settings.eps}
        groups = [numbers | {"weight_decay": g["weight_decay"], "params": g["params"]} for g in self.groups]
        return {"class": f"torch.optim.{self._settings.name}", "param_groups": groups}

    def _set(self, parameter: nn.Parameter, key: str, value: torch.Tensor, where: str) -> None:
        present = self.torch.state[parameter][key]
        if tuple(value.shape) != tuple(present.shape):
            raise BadInput(f"{where} has shape {tuple(value.shape)}, its parameter {tuple(present.shape)}.")
        if not torch.isfinite(value).all():
            raise BadInput(f"{where} has values that are NaN or infinite.")
        if hasattr(present, "device_mesh"):
            from torch.distributed.tensor import distribute_tensor

            value = distribute_tensor(value.to(present.device), present.device_mesh, present.placements)
        present.copy_(value)
