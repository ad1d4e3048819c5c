"""Any decoder that transformers knows: loaded by its config, trained, resumed exactly, loadable by others."""

from __future__ import annotations

from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.trainer.jobs import Runner, job

KINDS: dict[str, dict[str, Any]] = {
    "gpt_neox": {"attention_dropout": 0.1, "hidden_dropout": 0.1},
    "olmo": {},
    "olmo2": {"num_key_value_heads": 2},
    # Its experts lie in memory under other names than in files.
    "mixtral": {"num_local_experts": 2, "num_experts_per_tok": 1, "num_key_value_heads": 2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_is_trained_and_resumed_exactly(runner: Runner, tmp_path_factory: Any, kind: str) -> None:
    folder = tmp_path_factory.mktemp(kind)
    runner.call("tests.trainer.models:make", kind, str(folder / "base"), KINDS[kind])
    whole = runner.run_well(job(folder / "whole", folder / "base", last=4, save_every=2))
    rest = runner.run_well(job(folder / "rest", whole.checkpoint(2), first=3, last=4))
    assert rest.tensors(4) == whole.tensors(4)
    assert rest.losses() == {step: loss for step, loss in whole.losses().items() if step > 2}
    before, after = (load_file(f / "model.safetensors") for f in (folder / "base", whole.checkpoint(4)))
    assert {n: (v.shape, v.dtype) for n, v in before.items()} == {n: (v.shape, v.dtype) for n, v in after.items()}
    assert any((before[name] != after[name]).any() for name in before)
