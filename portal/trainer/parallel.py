"""One process or several that torchrun started: who reads which rows, how gradients meet, who speaks."""

from __future__ import annotations

import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from portal.trainer.errors import BadInput

_KEPT: list[Parallel] = []
"""Never freed: freeing a group while one of its threads lets go of a tensor waits for ever (seen with gloo)."""


class Parallel:
    """This process among ``world`` many; with one, nothing is wrapped and nothing is sent."""

    def __init__(self, kind: str, device: str) -> None:
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if self.world > 1 and kind == "none":
            raise BadInput(f"{self.world} processes were started, but `trainer.parallel` is none.")
        if device == "cuda" and not torch.cuda.is_available():
            raise BadInput("`trainer.device` is cuda, but torch finds no GPU here.")
        self.kind = kind if self.world > 1 else "none"
        if device == "cpu" or not torch.cuda.is_available():
            self.device = torch.device("cpu")
        else:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
        if self.world > 1:
            backend = "gloo" if self.device.type == "cpu" else "nccl"
            dist.init_process_group(backend, timeout=timedelta(minutes=30))
        self._network: nn.Module | None = None
        _KEPT.append(self)

    @property
    def speaks(self) -> bool:
        """Whether this process writes files and log lines."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module to call: the model itself, or the model with its gradients averaged over processes."""
        model.to(self.device)
        if self.kind == "ddp":
            ids = None if self.device.type == "cpu" else [self.device.index]
            self._network = nn.parallel.DistributedDataParallel(model, device_ids=ids)
        elif self.kind == "fsdp":
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(self.device.type, (self.world,))
            blocks = set(getattr(model, "_no_split_modules", None) or ())
            for module in list(model.modules()):
                if type(module).__name__ in blocks:
                    fully_shard(module, mesh=mesh)
            self._network = fully_shard(model, mesh=mesh)
        else:
            self._network = model
        return self._network

    def share(self, rows: int) -> range:
        """The rows of a batch that are this process's: runs as even as can be."""
        if rows < self.world:
            raise BadInput(f"{self.world} processes cannot share {rows} rows per step.")
        return range(rows * self.rank // self.world, rows * (self.rank + 1) // self.world)

    def gather_gradients(self, now: bool) -> None:
        """Whether the next backward pass exchanges gradients: only the last of a step does."""
        if self.kind == "ddp":
            self._network.require_backward_grad_sync = now  # type: ignore[union-attr]
        elif self.kind == "fsdp":
            self._network.set_requires_gradient_sync(now)  # type: ignore[union-attr]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of ``values`` over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether any process raised its flag; all get the same answer."""
        if self.world == 1:
            return flag
        return bool(self.total(torch.tensor(float(flag), device=self.device)) > 0)

    def each(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """A small CPU tensor of every process, by rank."""
        if self.world == 1:
            return [tensor]
        mine = tensor.to(self.device)
        all_of_them = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(all_of_them, mine)
        return [t.cpu() for t in all_of_them]

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with all its parts, wherever they lie; every process has to ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def leave(code: int) -> None:
    """End one process of several without taking anything apart, see `_KEPT`; does nothing in a process alone."""
    if any(parallel.world > 1 for parallel in _KEPT):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
