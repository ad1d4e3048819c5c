"""Small checkpoints of well-known architectures, with random weights; runs where torch and transformers are."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

from portal.trainer import checkpoint

VOCABULARY, LENGTH = 64, 33
_SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_SMALL |= {
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}


def make(kind: str, folder: str, changes: dict[str, object]) -> None:
    """Write ``config.json`` and weights of a ``kind`` model into ``folder``."""
    place = Path(folder)
    place.mkdir(parents=True)
    config = transformers.AutoConfig.for_model(kind, **{**_SMALL, **changes})
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(place)
    assert json.loads((place / "config.json").read_text())["model_type"] == kind
    state = {"step": 0, "tokens": 0, "updates": 0, "skipped_updates": []}
    checkpoint.write_json(place / checkpoint.STATE, state)
    checkpoint.write_tensors(place / checkpoint.RNG, {"torch_cpu": torch.get_rng_state()})
