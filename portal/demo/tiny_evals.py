"""Evaluations of demo/tiny, for any function that gives logits: held-out loss, one-digit sums, known facts."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from portal.demo.text import SOURCES, facts, sums
from portal.demo.tiny_data import END_ID, PAD_ID, SEED, cut_rows

HELD_OUT_SEED = SEED + 1
HELD_OUT_ROWS = 32
"""Of each source."""
VERSION = 1

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Logits = Callable[[Ids], Floats]
"""Ids of shape (rows, length) -> logits of shape (rows, length, vocabulary)."""


def evaluate(logits: Logits, tokenizer: Tokenizer, step: int) -> dict[str, Any]:
    """Measure one checkpoint; the answer has the shape of lm-eval's own result files (0.4 and later)."""
    results = {f"heldout_{source}": _held_out(logits, tokenizer, source) for source in SOURCES}
    results["sums"] = _exact(logits, tokenizer, [(question, f"{answer}\n") for question, answer in sums()])
    results["facts"] = _exact(logits, tokenizer, [(question, f"{answer}.") for question, answer in facts()])
    better = {
        task: {name.split(",")[0]: "exact" in name for name in values if "stderr" not in name and name != "alias"}
        for task, values in results.items()
    }
    return {
        "results": {task: {"alias": task, **values} for task, values in results.items()},
        "configs": {task: {"task": task, "num_fewshot": 0, "metadata": {"version": VERSION}} for task in results},
        "versions": dict.fromkeys(results, VERSION),
        "n-shot": dict.fromkeys(results, 0),
        "higher_is_better": better,
        "n-samples": {task: {"original": count, "effective": count} for task, count in _samples().items()},
        "config": {
            "model": "hf",
            "model_args": f"pretrained=demo/tiny,revision=step-{step}",
            "batch_size": HELD_OUT_ROWS,
        },
        "model_name": "demo/tiny",
    }


def row_losses(logits: Floats, targets: Ids) -> npt.NDArray[np.float64]:
    """Mean negative log-likelihood of each row's targets, in nats; padding does not count, so a row of padding is NaN."""
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    likelihood = np.take_along_axis(scores, targets[..., None], -1)[..., 0] - np.log(np.exp(scores).sum(axis=-1))
    counted = targets != PAD_ID
    with np.errstate(invalid="ignore"):
        losses: npt.NDArray[np.float64] = -(likelihood * counted).sum(axis=1) / counted.sum(axis=1)
    return losses


def _held_out(logits: Logits, tokenizer: Tokenizer, source: str) -> dict[str, float]:
    rows = np.array(list(islice(cut_rows(tokenizer, source, HELD_OUT_SEED), HELD_OUT_ROWS)), dtype=np.int64)
    losses = row_losses(logits(rows[:, :-1]), rows[:, 1:])
    mean = float(losses.mean())
    return {
        "loss,none": mean,
        "loss_stderr,none": float(losses.std(ddof=1) / math.sqrt(len(losses))),
        "perplexity,none": math.exp(mean),
    }


def _exact(logits: Logits, tokenizer: Tokenizer, questions: list[tuple[str, str]]) -> dict[str, float]:
    """Share of questions whose every answer token is the likeliest one after what stands before it."""
    right = []
    for question, answer in questions:
        prompt = [END_ID, *tokenizer.encode(question).ids]
        # Encoded together: a merge may span the place where question and answer meet.
        whole = [END_ID, *tokenizer.encode(question + answer).ids]
        first = len(prompt) if whole[: len(prompt)] == prompt else len(prompt) - 1
        ids = np.array([whole], dtype=np.int64)
        guessed = logits(ids[:, :-1])[0].argmax(axis=-1)
        right.append(bool((guessed[first - 1 :] == ids[0, first:]).all()))
    share = sum(right) / len(right)
    return {"exact_match,none": share, "exact_match_stderr,none": math.sqrt(share * (1 - share) / (len(right) - 1))}


def _samples() -> dict[str, int]:
    return {**{f"heldout_{source}": HELD_OUT_ROWS for source in SOURCES}, "sums": len(sums()), "facts": len(facts())}
