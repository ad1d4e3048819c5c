"""Train demo/tiny and write its release: ``python -m portal.demo.build_tiny FOLDER``.

Needs ``pip install torch safetensors``; the only file of the demo that does, and nothing that serves imports it.
One thread and fixed seeds: the same torch build on the same kind of CPU writes the same bytes again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from portal.demo.text import SOURCES
from portal.demo.tiny_data import (
    PAD_ID,
    ROW_LENGTH,
    ROWS_PER_STEP,
    SEED,
    STAGES,
    VOCABULARY,
    make_chunks,
    make_order,
    rows_of_step,
    train_tokenizer,
    write_data,
)
from portal.demo.tiny_evals import evaluate
from portal.demo.tiny_release import CADENCE, LAST_STEP, MODEL, OPTIMIZER, SCHEDULE, learning_rate, write_release


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(MODEL["hidden_size"]))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + MODEL["rms_norm_eps"])


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self):
        super().__init__()
        hidden, size = MODEL["hidden_size"], MODEL["head_dim"]
        self.heads, self.groups = MODEL["num_attention_heads"], MODEL["num_key_value_heads"]
        self.q_proj = nn.Linear(hidden, self.heads * size, bias=False)
        self.k_proj = nn.Linear(hidden, self.groups * size, bias=False)
        self.v_proj = nn.Linear(hidden, self.groups * size, bias=False)
        self.o_proj = nn.Linear(self.heads * size, hidden, bias=False)

    def forward(self, x, cos, sin):
        q, k, v = (
            p(x).unflatten(-1, (-1, MODEL["head_dim"])).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        k, v = (t.repeat_interleave(self.heads // self.groups, dim=1) for t in (k, v))
        scores = (q @ k.transpose(-1, -2)) / math.sqrt(MODEL["head_dim"])
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, float("-inf")).softmax(-1) @ v
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """SwiGLU."""

    def __init__(self):
        super().__init__()
        hidden, inner = MODEL["hidden_size"], MODEL["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(hidden, inner, bias=False), nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One Llama block."""

    def __init__(self):
        super().__init__()
        self.self_attn, self.mlp = Attention(), Perceptron()
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The model without its head: output and input embeddings are one."""

    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, MODEL["hidden_size"])
        self.layers = nn.ModuleList(Layer() for _ in range(MODEL["num_hidden_layers"]))
        self.norm = Norm()
        for matrix in (p for p in self.parameters() if p.dim() == 2):
            nn.init.normal_(matrix, std=MODEL["initializer_range"])

    def forward(self, ids):
        size = MODEL["head_dim"]
        frequency = 1.0 / MODEL["rope_theta"] ** (torch.arange(0, size, 2).float() / size)
        angle = torch.outer(torch.arange(ids.shape[1]).float(), frequency).repeat(1, 2)
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, angle.cos(), angle.sin())
        return self.norm(x) @ self.embed_tokens.weight.T


class Trainer:
    """One run from its first step to its last."""

    def __init__(self, folder):
        self.folder = folder
        self.tokenizer, self.order = train_tokenizer(), make_order()
        self.chunks = make_chunks(self.tokenizer)
        torch.manual_seed(SEED)
        self.model = Llama()
        self.names = dict(self.model.named_parameters(prefix="model"))
        decay = [p for p in self.names.values() if p.dim() == 2]
        plain = [p for p in self.names.values() if p.dim() < 2]
        self.groups = [
            {"params": decay, "weight_decay": OPTIMIZER["weight_decay"]},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            self.groups, lr=0.0, betas=OPTIMIZER["betas"], eps=OPTIMIZER["eps"], foreach=False
        )
        self.skipped, self.log = [], []

    def train(self):
        """All steps, with a checkpoint and its evaluation every 50."""
        write_data(self.folder, self.tokenizer, self.chunks, self.order)
        self.save(0)
        for step in range(1, LAST_STEP + 1):
            self.log.append(self.step(step))
            if step % CADENCE == 0:
                self.save(step)
                print(step, {k: round(v, 4) for k, v in self.log[-1].items() if isinstance(v, float)}, flush=True)
        (self.folder / "metrics").mkdir(exist_ok=True)
        with (self.folder / "metrics" / "train.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.log[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.log)
        write_release(self.folder, sum(p.numel() for p in self.names.values()))

    def step(self, step):
        """One update; a gradient that is not finite is recorded and not applied, as mixed-precision trainers do."""
        batch = rows_of_step(step, self.chunks, self.order)
        ids = torch.from_numpy(batch.ids.astype(np.int64))
        by_row = _row_losses(self.model(ids[:, :-1]), ids[:, 1:])
        loss = by_row.mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.names.values(), OPTIMIZER["clip"], foreach=False)
        rate = learning_rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            self.skipped.append(step)
        self.optimizer.zero_grad()
        weights = torch.sqrt(sum(p.detach().double().pow(2).sum() for p in self.names.values()))
        numbers = {
            "step": step,
            "loss": loss.item(),
            "grad_norm": norm.item(),
            "weight_norm": weights.item(),
            "lr": rate,
        }
        numbers["tokens"] = step * ROWS_PER_STEP * (ROW_LENGTH - 1)
        for source in SOURCES:
            own = [by_row[k].item() for k, label in enumerate(batch.sources) if label == source]
            # Empty, not NaN, where a batch has no row of a source: nothing was measured.
            numbers[f"loss_{source}"] = sum(own) / len(own) if own else None
        return numbers

    def save(self, step):
        """Everything needed to go on from here exactly, without pickle."""
        folder = self.folder / "checkpoints" / f"step-{step:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {n: p.detach().clone() for n, p in self.names.items()}, folder / "model.safetensors", {"format": "pt"}
        )
        moments = {}
        for name, p in self.names.items():
            state = self.optimizer.state.get(p) or {
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
                "step": torch.tensor(0.0),
            }
            moments |= {f"state.{name}.{key}": value.detach().clone() for key, value in state.items()}
        save_file(moments, folder / "optimizer.safetensors")
        save_file({"torch_cpu": torch.get_rng_state()}, folder / "rng.safetensors")
        _write_json(folder / "config.json", MODEL)
        _write_json(folder / "trainer_state.json", self.state(step))
        with torch.no_grad():
            measured = evaluate(lambda ids: self.model(torch.from_numpy(ids)).numpy(), self.tokenizer, step)
        (self.folder / "evals").mkdir(exist_ok=True)
        _write_json(self.folder / "evals" / f"results_step{step}.json", measured)

    def state(self, step):
        """What safetensors cannot hold: counters, schedule, place in the data, surroundings."""
        following = min(step + 1, LAST_STEP)
        stage = next(s for s in STAGES if s.first_step <= following <= s.last_step)
        names = {id(p): name for name, p in self.names.items()}
        return {
            "step": step,
            "tokens": step * ROWS_PER_STEP * (ROW_LENGTH - 1),
            "updates": step - len(self.skipped),
            "skipped_updates": list(self.skipped),
            "scheduler": {**SCHEDULE, "step": step, "next_lr": learning_rate(following) if step < LAST_STEP else None},
            "optimizer": {
                "class": "torch.optim.AdamW",
                "clip_grad_norm": OPTIMIZER["clip"],
                "param_groups": [
                    {
                        "betas": list(OPTIMIZER["betas"]),
                        "eps": OPTIMIZER["eps"],
                        "weight_decay": group["weight_decay"],
                        "params": [names[id(p)] for p in group["params"]],
                    }
                    for group in self.groups
                ],
            },
            "data_position": {
                "stage": stage.name,
                "order_file": "data/order.u32",
                "order_sha256": _sha256(self.folder / "data" / "order.u32"),
                "next_entry": step * ROWS_PER_STEP,
            },
            "rng": {"torch_cpu": "rng.safetensors", "drawn_from": "initial weights only; no dropout"},
            "environment": {
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "cpu_capability": torch.backends.cpu.get_cpu_capability(),
                "dtype": "float32",
            },
        }


def _row_losses(logits, targets):
    counted = (targets != PAD_ID).float()
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return (losses * counted).sum(1) / counted.sum(1)


def _rotate(x, cos, sin):
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main():
    """Build into the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m portal.demo.build_tiny FOLDER")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    Trainer(Path(sys.argv[1])).train()


if __name__ == "__main__":
    main()
