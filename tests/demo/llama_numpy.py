"""A Llama forward pass in plain numpy, written from the architecture's papers and not from the trainer's code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class Llama:
    """The model of one checkpoint folder; call it with ids of shape (rows, length) for logits."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = load_file(folder / "model.safetensors")

    def __call__(self, ids: Ids) -> Floats:
        x = self.weights["model.embed_tokens.weight"][ids]
        for layer in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{layer}."
            x = x + self._attention(self._norm(x, f"{name}input_layernorm"), f"{name}self_attn.")
            x = x + self._feed_forward(self._norm(x, f"{name}post_attention_layernorm"), f"{name}mlp.")
        return self._norm(x, "model.norm") @ self.weights["model.embed_tokens.weight"].T

    def _norm(self, x: Floats, name: str) -> Floats:
        square = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
        return x / np.sqrt(square + np.float32(self.config["rms_norm_eps"])) * self.weights[f"{name}.weight"]

    def _attention(self, x: Floats, name: str) -> Floats:
        q, k, v = (self._heads(x @ self.weights[f"{name}{p}_proj.weight"].T) for p in "qkv")
        q, k = _rotate(q, self.config["rope_theta"]), _rotate(k, self.config["rope_theta"])
        shared = self.config["num_attention_heads"] // self.config["num_key_value_heads"]
        k, v = np.repeat(k, shared, axis=1), np.repeat(v, shared, axis=1)
        scores = q @ k.swapaxes(-1, -2) / np.float32(np.sqrt(self.config["head_dim"]))
        scores += np.triu(np.full(scores.shape[-2:], -np.inf, dtype=np.float32), 1)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ v
        rows, _, length, _ = mixed.shape
        return mixed.swapaxes(1, 2).reshape(rows, length, -1) @ self.weights[f"{name}o_proj.weight"].T

    def _heads(self, x: Floats) -> Floats:
        rows, length, _ = x.shape
        return x.reshape(rows, length, -1, self.config["head_dim"]).swapaxes(1, 2)

    def _feed_forward(self, x: Floats, name: str) -> Floats:
        gate, up, down = (self.weights[f"{name}{p}_proj.weight"].T for p in ("gate", "up", "down"))
        opened = x @ gate
        return (opened / (1 + np.exp(-opened)) * (x @ up)) @ down


def _rotate(x: Floats, theta: float) -> Floats:
    """Rotary positions (Su et al. 2021), the first half of a head paired with its second half."""
    half = x.shape[-1] // 2
    angle = np.outer(np.arange(x.shape[-2]), theta ** (-np.arange(half) / half)).astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    left, right = x[..., :half], x[..., half:]
    return np.concatenate((left * cos - right * sin, right * cos + left * sin), axis=-1)
