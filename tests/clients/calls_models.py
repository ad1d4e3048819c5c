"""Models and tokenizers loaded with transformers."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from datasets import load_dataset
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.clients.calls import call

Facts = dict[str, Any]
TENSOR = "model.layers.1.mlp.down_proj.weight"


@cache
def _model(run: str, revision: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(run, revision=revision, dtype=torch.float32)


def _tensor(run: str, revision: str) -> Any:
    return _model(run, revision).state_dict()[TENSOR]


def _stored(facts: Facts, revision: str) -> Any:
    return load_file(hf_hub_download(facts["run"], "model.safetensors", revision=revision))[TENSOR]


@call
def config_of_a_step(facts: Facts) -> None:
    config = AutoConfig.from_pretrained(facts["run"], revision="step-300")
    assert (config.model_type, config.hidden_size, config.num_hidden_layers) == ("llama", 32, 2)


@call
def tokenizer_of_a_step(facts: Facts) -> None:
    tokenizer = AutoTokenizer.from_pretrained(facts["run"], revision="step-300")
    for text, ids in facts["encoded"].items():
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids
        assert tokenizer(text)["input_ids"] == ids, "special tokens nobody trained with"
        assert tokenizer.decode(ids) == text


@call
def tokenizer_of_main(facts: Facts) -> None:
    assert len(AutoTokenizer.from_pretrained(facts["run"])) == facts["vocabulary"]


@call
def model_of_a_step(facts: Facts) -> None:
    assert torch.equal(_tensor(facts["run"], "step-300"), _stored(facts, "step-300"))


@call
def model_of_main(facts: Facts) -> None:
    assert torch.equal(_tensor(facts["run"], "main"), _stored(facts, "step-600"))


@call
def model_of_a_label(facts: Facts) -> None:
    assert torch.equal(_tensor(facts["run"], "ckpt_001"), _stored(facts, "step-50"))


@call
def model_of_a_commit(facts: Facts) -> None:
    assert torch.equal(_tensor(facts["run"], facts["commits"]["step-450"]), _stored(facts, "step-450"))


@call
def models_of_two_steps_differ(facts: Facts) -> None:
    assert not torch.equal(_tensor(facts["run"], "step-0"), _tensor(facts["run"], "step-300"))


@call
def model_before_a_step(facts: Facts) -> None:
    assert torch.equal(_tensor(facts["run"], "before-step-301"), _tensor(facts["run"], "step-300"))


@call
def model_of_another_hub(facts: Facts) -> None:
    assert torch.equal(_tensor(facts["elsewhere"], "step-300"), _tensor(facts["run"], "step-300"))


@call
def model_before_a_step_has_the_loss_of_its_data(facts: Facts) -> None:
    """What the run logged at step 301 comes out of the two revisions: weights before it, and what it read."""
    rows = load_dataset(facts["run"], revision="step-301", split="train")["token_ids"]
    ids = torch.tensor([list(row) for row in rows], dtype=torch.int64)
    with torch.no_grad():
        logits = _model(facts["run"], "before-step-301")(ids[:, :-1]).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    known = (ids[:, 1:] != facts["padding"]).float()
    mean = (losses.view_as(known) * known).sum(1) / known.sum(1)
    assert abs(mean.mean().item() - facts["loss"]["301"]) < 1e-4


@call
def model_generates(facts: Facts) -> None:
    model = _model(facts["run"], "main")
    out = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False, pad_token_id=1)
    assert out.shape[1] > 3
