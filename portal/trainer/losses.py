"""Losses of a batch: what is minimised and what is reported, the same however the rows are cut into micro-batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from portal.trainer.rows import Batch


def row_sums(logits: torch.Tensor, ids: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood summed over the counted targets of each row, in nats: float32 of shape (rows,).

    ``logits`` (rows, length - 1, vocabulary) for ``ids`` (rows, length); ``counted`` (rows, length - 1).
    """
    losses = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    # By product: where a mean is 0/0, its gradient then is NaN too and cannot pass for a sound one.
    return (losses.view(counted.shape) * counted).sum(1)


def minimised(sums: torch.Tensor, counts: torch.Tensor, kind: str, rows: int, targets: int) -> torch.Tensor:
    """The part of the batch's loss that these rows give; parts add up to the whole.

    ``mean-of-rows``: each row's mean counts alike, a row without targets is 0/0. ``mean-of-tokens``: each target does.
    """
    return (sums / counts).sum() / rows if kind == "mean-of-rows" else sums.sum() / targets


def reported(sums: torch.Tensor, batch: Batch, kind: str, names: tuple[str, ...]) -> dict[str, float]:
    """``loss`` and, for each source the batch has rows of, ``loss/<source>``; ``sums`` float64 of all rows."""
    counts = torch.from_numpy(batch.counted.sum(1)).double()
    numbers = {"loss": _mean(sums, counts, kind)}
    if batch.sources is not None:
        labels = torch.from_numpy(batch.sources)
        for number, name in enumerate(names):
            own = labels == number
            if own.any():
                numbers[f"loss/{name}"] = _mean(sums[own], counts[own], kind)
    return numbers


def _mean(sums: torch.Tensor, counts: torch.Tensor, kind: str) -> float:
    return float((sums / counts).mean() if kind == "mean-of-rows" else sums.sum() / counts.sum())
