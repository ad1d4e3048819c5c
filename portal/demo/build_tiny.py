"""Train demo/tiny and write its release: ``python -m portal.demo.build_tiny FOLDER``.

Needs ``pip install 'llm360-portal[trainer]'``; the only file of the demo that does, and nothing that serves imports it.
Every step is made by the trainer that runs resume jobs, so a replay of any interval gives the same bits again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

from portal.demo.text import SOURCES
from portal.demo.tiny_data import (
    ROW_LENGTH,
    ROWS_PER_STEP,
    SEED,
    STAGES,
    make_chunks,
    make_order,
    rows_of_step,
    train_tokenizer,
    write_data,
)
from portal.demo.tiny_evals import evaluate
from portal.demo.tiny_release import CADENCE, LAST_STEP, MODEL, training, write_release
from portal.trainer import checkpoint, numerics
from portal.trainer.loop import Trainer
from portal.trainer.settings import FORMAT, parse_settings


def build(folder):
    """Make data, initial weights, and all steps with a checkpoint and its evaluation every 50."""
    tokenizer, order = train_tokenizer(), make_order()
    chunks = make_chunks(tokenizer)
    write_data(folder, tokenizer, chunks, order)
    with tempfile.TemporaryDirectory() as name:
        job = Path(name)
        _write_rows(job, chunks, order)
        document = job_of_all_steps()
        (job / "input").mkdir()
        parameters = _write_initial(job / "input", document, job)
        keep(folder, job / "input", 0, tokenizer)
        trainer = Trainer(parse_settings(document, job))
        trainer.train(lambda: False, lambda step, place: keep(folder, place, step, tokenizer))
        _write_log(folder / "metrics" / "train.csv", job / "output" / "metrics.jsonl")
    write_release(folder, parameters)


def job_of_all_steps():
    """trainer.json of the whole run, over rows that `_write_rows` wrote."""
    return {
        "format": FORMAT,
        "checkpoint": "input",
        "first_step": 1,
        "last_step": LAST_STEP,
        "rows": {
            "file": "rows.bin",
            "dtype": "u16",
            "row_length": ROW_LENGTH,
            "lengths": None,
            "sources": {"names": list(SOURCES), "file": "sources.u8"},
        },
        "training": training(),
        "save_every": CADENCE,
        "output": "output",
        "resume": None,
        "parallel": "none",
        "device": "cpu",
    }


def keep(folder, place, step, tokenizer):
    """Take a checkpoint that the trainer wrote into the release, with its evaluation."""
    target = folder / "checkpoints" / f"step-{step:04d}"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", "optimizer.safetensors", "rng.safetensors"):
        (target / name).write_bytes((place / name).read_bytes())
    state = json.loads((place / "trainer_state.json").read_text(encoding="utf-8"))
    following = min(step + 1, LAST_STEP)
    if step == LAST_STEP:
        state["scheduler"]["next_lr"] = None
    state["data_position"] = {
        "stage": next(s.name for s in STAGES if s.first_step <= following <= s.last_step),
        "order_file": "data/order.u32",
        "order_sha256": hashlib.sha256((folder / "data" / "order.u32").read_bytes()).hexdigest(),
        "next_entry": step * ROWS_PER_STEP,
    }
    _write_json(target / "trainer_state.json", state)
    logits = _logits(load_file(place / "model.safetensors"))
    (folder / "evals").mkdir(exist_ok=True)
    _write_json(folder / "evals" / f"results_step{step}.json", evaluate(logits, tokenizer, step))
    print(step, flush=True)


def _write_initial(place, document, job):
    """The checkpoint of step 0: weights drawn from the seed, an optimizer that has seen nothing. Gives their number."""
    _write_json(place / "config.json", MODEL)
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**MODEL), attn_implementation="sdpa")
    weights = {name: p.detach() for name, p in model.named_parameters()}
    # A trainer needs weights to begin with, and writes everything else itself.
    checkpoint.write_weights(place, weights)
    checkpoint.write_json(place / checkpoint.STATE, {"step": 0, "tokens": 0, "updates": 0, "skipped_updates": []})
    checkpoint.write_tensors(place / checkpoint.RNG, {"torch_cpu": torch.get_rng_state()})
    trainer = Trainer(parse_settings({**document, "output": "initial"}, job))
    trainer.save(lambda _, made: [path.replace(place / path.name) for path in list(made.iterdir())])
    return sum(w.numel() for w in weights.values())


def _logits(weights):
    with torch.random.fork_rng():
        model = AutoModelForCausalLM.from_config(LlamaConfig(**MODEL), attn_implementation="sdpa").eval()
    model.load_state_dict({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]})

    def logits(ids):
        with torch.no_grad():
            return model(input_ids=torch.from_numpy(ids), use_cache=False).logits.numpy()

    return logits


def _write_rows(job, chunks, order):
    batches = [rows_of_step(step, chunks, order) for step in range(1, LAST_STEP + 1)]
    (job / "rows.bin").write_bytes(b"".join(b.ids.astype("<u2").tobytes() for b in batches))
    (job / "sources.u8").write_bytes(bytes(SOURCES.index(label) for b in batches for label in b.sources))


def _write_log(path, metrics):
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    path.parent.mkdir(exist_ok=True)
    columns = ["step", "loss", "grad_norm", "weight_norm", "lr", "tokens", *(f"loss/{source}" for source in SOURCES)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(name.replace("/", "_") for name in columns)
        for line in lines:
            # Empty, not NaN, where a batch has no row of a source: nothing was measured.
            writer.writerow("" if name not in line else _number(line[name]) for name in columns)


def _number(value):
    return math.nan if value == "NaN" else value


def _write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main():
    """Build into the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m portal.demo.build_tiny FOLDER")
    numerics.restart(parse_settings(job_of_all_steps(), Path()).training.numerics)
    build(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
