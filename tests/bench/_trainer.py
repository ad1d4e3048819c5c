"""Runs in the trainer's environment: steps of the trainer and of a plain loop by turns, the median of each counts."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from portal.trainer import numerics
from portal.trainer.settings import FORMAT, Numerics, parse_settings

LENGTH, ROWS, VOCABULARY, STEPS, WARM = 257, 4, 4096, 24, 3
MODEL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "max_position_embeddings": LENGTH - 1,
}


def main() -> None:
    """Print tokens per second of both, for float32 and for bfloat16 mixed with float32."""
    import torch

    cuda = torch.cuda.is_available()
    print(f"{STEPS - WARM} steps of {ROWS} rows of {LENGTH - 1} tokens on {'a GPU' if cuda else 'one CPU thread'}:")
    for precision in ("float32", "bf16-mixed"):
        ours, plain = _by_turns(precision)
        tokens = ROWS * (LENGTH - 1)
        print(
            f"  {precision}: trainer {tokens / ours:,.0f} tokens/s, plain loop {tokens / plain:,.0f} tokens/s, "
            f"{plain / ours:.2f}x"
        )


def _by_turns(precision: str) -> tuple[float, float]:
    """Seconds per step of the trainer and of the plain loop."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, LlamaConfig

    from portal.trainer.loop import Trainer

    rows = np.random.default_rng(7).integers(0, VOCABULARY, (STEPS, ROWS, LENGTH), dtype=np.uint16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(LlamaConfig(**MODEL), attn_implementation="sdpa")
        transformers.utils.logging.disable_progress_bar()
        model.save_pretrained(folder / "base")
        (folder / "rows.bin").write_bytes(rows.tobytes())
        trainer = Trainer(parse_settings(_job(precision), folder))
        model.to(trainer.parallel.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
        spent: tuple[list[float], list[float]] = ([], [])
        for step in range(1, STEPS + 1):
            begun = time.perf_counter()
            ours = trainer.make_step(step)["loss"]
            middle = time.perf_counter()
            plain = _plain_step(model, optimizer, rows[step - 1], precision)
            spent[0].append(middle - begun)
            spent[1].append(time.perf_counter() - middle)
            assert abs(ours - plain) < 0.1
    return statistics.median(spent[0][WARM:]), statistics.median(spent[1][WARM:])


def _plain_step(model: Any, optimizer: Any, rows: Any, precision: str) -> float:
    import torch

    ids = torch.from_numpy(rows.astype(np.int64)).to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        loss = model(input_ids=ids[:, :-1], labels=ids[:, 1:].clone(), shift_labels=ids[:, 1:].contiguous()).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def _job(precision: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "checkpoint": "base",
        "first_step": 1,
        "last_step": STEPS,
        "rows": {"file": "rows.bin", "dtype": "u16", "row_length": LENGTH},
        "training": {
            "sequence_length": LENGTH - 1,
            "row_length": LENGTH,
            "rows_per_step": ROWS,
            "micro_batch": ROWS,
            "loss": "mean-of-tokens",
            "precision": precision,
            "optimizer": {
                "class": "AdamW",
                "betas": [0.9, 0.95],
                "eps": 1e-8,
                "weight_decay": 0.01,
                "no_decay": "none",
            },
            "clip": 1.0,
            "schedule": {"kind": "constant", "peak": 1e-3},
            "when_not_finite": "stop",
            "seed": 1,
            "numerics": {"threads": 1, "deterministic": False, "portable": False},
        },
        "output": "output",
    }


if __name__ == "__main__":
    numerics.restart(Numerics(1, False, False))
    main()
