"""The Pythia suite: 154 checkpoints a model on step branches, one preshuffled data file, evaluations in the repository.

Sources: EleutherAI/pythia at a19eecb (``README.md``, ``models/``, ``evals/``, ``utils/mmap_dataset.py``), the model
cards on the Hub, GPT-NeoX v1.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portal.exchange.draft import Draft
from portal.exchange.pythia.evaluations import add_evaluations
from portal.exchange.pythia.known import add_known
from portal.exchange.pythia.logs import add_logs
from portal.exchange.pythia.models import Model, model_of, runs_in
from portal.exchange.sources import read_parameters

REPOSITORY = "https://github.com/EleutherAI/pythia"
COMMIT = "a19eecb807ec2c79a39ebf18108816e6ffffc1d5"
EARLY = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
"""Steps saved besides every thousandth, as the model cards list them."""
TOKENIZER = "utils/20B_tokenizer.json"


def import_layout(source: Path, run: str | None) -> Draft:
    """The manifest draft of one model of the suite; without ``run`` the source must hold exactly one."""
    model = model_of(run or runs_in(source))
    draft = Draft(model.run, _header(model))
    _add_checkpoints(draft, model)
    _add_data(draft, model)
    _add_config(draft, model, source)
    if (source / TOKENIZER).is_file():
        draft.document["tokenizer"] = TOKENIZER
        draft.files.append(TOKENIZER)
    add_evaluations(draft, model, source)
    add_logs(draft, model, source)
    add_known(draft, model)
    return draft


def _header(model: Model) -> dict[str, Any]:
    return {
        "kind": "pretrain",
        "title": model.title,
        "description": "One of EleutherAI's Pythia models, trained on "
        f"{'the deduplicated Pile' if model.deduped else 'the Pile'}; all sizes read the same rows "
        "in the same order.",
        "license": {"code": "apache-2.0", "weights": "apache-2.0"},
        "links": {
            "paper": "https://arxiv.org/abs/2304.01373",
            "code": REPOSITORY,
            "model": f"https://huggingface.co/{model.repository}",
            "data": f"https://huggingface.co/datasets/{model.dataset}",
            "metrics": "https://wandb.ai/eleutherai/pythia",
            **(
                {"final_neox_checkpoint": f"https://huggingface.co/EleutherAI/neox-ckpt-pythia-{model.size}-deduped-v1"}
                if model.has_neox_checkpoint
                else {}
            ),
        },
        "model": {"architecture": "GPTNeoXForCausalLM", "parameters": model.parameters, "vocabulary": 50_277},
        "training": {
            "sequence_length": 2048,
            "row_length": 2049,
            "rows_per_step": model.rows_per_step,
            "tokens_per_step": model.rows_per_step * 2048,
            "last_step": model.last_step,
        },
        "cadence": 1000 // model.label_factor,
    }


def _add_checkpoints(draft: Draft, model: Model) -> None:
    """154 branches; v0 models have the 143 even ones, some of them named for twice their step."""
    shared = {"dtype": model.dtype, "contains": ["weights", "config", "tokenizer"]}
    every = {"labels": ["step{step}"], "location": f"hf://{model.repository}@step{{step}}", **shared}
    if not model.v0:
        draft.add("checkpoints", {"steps": {"values": EARLY}, **every})
    if model.label_factor == 1:
        draft.add("checkpoints", {"steps": {"first": 1000, "every": 1000, "count": 142}, **every})
    else:
        distance = 1000 // model.label_factor
        draft.add(
            "checkpoints",
            {
                "steps": {"first": distance, "every": distance, "count": 142},
                "index_from": 1,
                "labels": ["step{index}000"],
                "location": f"hf://{model.repository}@step{{index}}000",
                **shared,
            },
        )
    draft.add(
        "checkpoints",
        {
            "step": model.last_step,
            "labels": ["step143000", "main"],
            "location": f"hf://{model.repository}@step143000",
            "note": "Branch main serves the same state.",
            **shared,
        },
    )


def _add_data(draft: Draft, model: Model) -> None:
    """One chunk of 21 shards: plain byte splits of a stream of rows that already lie in training order."""
    name = model.dataset.rsplit("/", 1)[-1]
    chunk = {
        "name": name,
        "files": [
            {
                "path": f"hf://datasets/{model.dataset}/document-{{shard:05d}}-of-00020.bin",
                "shards": {"first": 0, "count": 21},
                "role": "data",
            },
            {"path": f"hf://datasets/{model.dataset}/document.idx", "role": "index"},
        ],
        "format": "megatron",
        "dialect": "neox",
        "dtype": "u16",
        "rows": 143_000 * 1024,
        "row_length": 2049,
        "note": "146,432,000 rows of 2,049 u16 ids, 600.08 GB over all shards; the index is not needed because "
        "all rows have one length. Shard sizes were not looked up (about 30 GB each). Sources of rows "
        "were not kept.",
    }
    draft.document["data"] = {"chunks": [chunk], "order": [_order(model, name)]}


def _order(model: Model, chunk: str) -> dict[str, Any]:
    order: dict[str, Any] = {
        "first_step": 1,
        "last_step": model.last_step,
        "chunks": [chunk],
        "kind": "sequential",
        "confidence": "exact",
    }
    if model.deduped:
        order["repeats"] = (
            "About 1.45 epochs of the deduplicated Pile; the trainer's code spreads the repeats over the whole "
            "run, a maintainer's answer says they begin near step 98,000. Not checked in the data."
        )
    if model.seed:
        order |= {
            "kind": "unknown",
            "confidence": "unknown",
            "assumption": "the preshuffled file is the order of the models without a seed in their name; that of "
            "other seeds was not published as one",
        }
    return order


def _add_config(draft: Draft, model: Model, source: Path) -> None:
    """The model's own yml where the source holds it, else what the suite's table says."""
    path = source / model.config_file
    if path.is_file() and not model.v0:
        parameters = read_parameters(path)
        draft.files.append(model.config_file)
        draft.add(
            "configs",
            {
                "file": model.config_file,
                "first_step": 1,
                "values": parameters,
                "code": {"repo": REPOSITORY, "commit": COMMIT, "path": model.config_file},
                "note": "Global batch is micro batch x gas x GPUs; the GPU count stands in a comment only.",
            },
        )
        _check_config(draft, model, parameters)
        return
    draft.notes.append(f"{model.config_file} is not in {source}: the config is what the suite's table says.")
    draft.add(
        "configs",
        {
            "first_step": 1,
            "values": {
                "num-layers": model.layers,
                "hidden-size": model.width,
                "num-attention-heads": model.heads,
                "seq-length": 2048,
                "lr": model.learning_rate,
                "min_lr": model.learning_rate / 10,
                "lr-decay-style": "cosine",
                "warmup": 0.01,
                "train-iters": model.last_step,
                "global_batch_rows": model.rows_per_step,
            },
            "code": {"repo": REPOSITORY, "commit": COMMIT, "path": model.config_file},
            "note": "From the table in the README; the yml itself was not read.",
        },
    )


def _check_config(draft: Draft, model: Model, parameters: dict[str, Any]) -> None:
    if parameters.get("train-iters") != model.last_step:
        draft.find(
            "parameters-disagree",
            f"The config trains for {parameters.get('train-iters')} steps; the release has {model.last_step:,}.",
            "error",
            None,
            stated=parameters.get("train-iters"),
            expected=model.last_step,
        )
    rate = (parameters.get("optimizer") or {}).get("params", {}).get("lr")
    if rate != model.learning_rate:
        draft.find(
            "parameters-disagree",
            f"The config's learning rate is {rate}; the README's table says {model.learning_rate}.",
            "warning",
            None,
            stated=rate,
            table=model.learning_rate,
        )
    if "init_method" not in parameters:
        draft.find(
            "init-method-missing",
            "The config names no init_method, so the initialisation that was used is the default.",
            "info",
        )
