"""Settings from the configs of known trainers: what they say in the trainer's words, and what stays unknown."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from portal.jobs.hyperparameters import resolve
from portal.jobs.settings_of_runs import beyond_the_trainer, settings_of

RELEASES = Path(__file__).parents[2] / "portal" / "exchange" / "releases"


def facts_of(name: str) -> Any:
    """As much of a shipped manifest as settings are read from."""
    document = yaml.safe_load((RELEASES / f"{name}.yaml").read_text())
    training = document["training"]
    config = SimpleNamespace(first_step=1, last_step=None, values=document["configs"][0]["values"], file=None)
    stage = SimpleNamespace(
        first_step=1, **{k: training.get(k) for k in ("sequence_length", "row_length", "rows_per_step")}
    )
    per_step = training.get("tokens_per_step") or 0
    return SimpleNamespace(
        configs=[config], stage_at=lambda _step: stage, tokens_after=lambda step: step * per_step if per_step else None
    )


@pytest.mark.parametrize(
    ("name", "known", "unknown"),
    [
        (
            "pythia-70m",
            {
                "optimizer.class": "AdamW",
                "optimizer.betas": [0.9, 0.95],
                "optimizer.eps": 1e-8,
                "optimizer.weight_decay": 0.1,
                "schedule.kind": "cosine",
                "schedule.peak": 0.001,
                "schedule.floor": 0.0001,
                "schedule.warmup_steps": 1430,
                "schedule.decay_to": 143000,
                "clip": 1.0,
            },
            {"loss", "pad_id", "precision"},
        ),
        (
            "olmo-2-1124-7b",
            {
                "optimizer.class": "AdamW",
                "schedule.kind": "cosine",
                "schedule.peak": 0.0003,
                "schedule.warmup_steps": 2000,
                "schedule.decay_to": 1192092,
                "clip": 1.0,
                "precision": "bf16-mixed",
                "seed": 6198,
            },
            {"loss", "pad_id", "optimizer.no_decay"},
        ),
        (
            "amber",
            {
                "optimizer.class": "AdamW",
                "optimizer.betas": [0.9, 0.95],
                "schedule.kind": "cosine",
                "schedule.peak": 0.0003,
                "schedule.floor": 3e-05,
                "schedule.warmup_steps": 2000,
                "clip": 1.0,
            },
            {"loss", "pad_id", "optimizer.eps", "optimizer.no_decay", "precision", "schedule.decay_to"},
        ),
    ],
)
def test_shipped_runs(name: str, known: dict[str, Any], unknown: set[str]) -> None:
    found = settings_of(facts_of(name), 5)
    assert {key: found[key].value for key in known} == known
    missing = {u.key for u in resolve(found, {}).unknown}
    assert missing == unknown
    assert all(setting.origin for setting in found.values())


def test_what_the_trainer_does_not_do_is_told() -> None:
    told = beyond_the_trainer(facts_of("olmo-2-1124-7b"), 5)
    assert "z-loss" in told[0]
    assert "embeddings" in told[1]
    assert beyond_the_trainer(facts_of("pythia-70m"), 5) == ["fp16 with a scaled loss"]
    assert beyond_the_trainer(facts_of("amber"), 5) == []
