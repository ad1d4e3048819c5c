"""A checkpoint on disk: safetensors and JSON, no pickle; whole under its name or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.core_model_loading import revert_weight_conversion

from portal.trainer.errors import BadInput, writing
from portal.trainer.model import INDEX, WEIGHTS

OPTIMIZER, RNG, STATE, DIGESTS = "optimizer.safetensors", "rng.safetensors", "trainer_state.json", "tensors.json"
SHARD = "5GB"

_OWN = {WEIGHTS, INDEX, OPTIMIZER, RNG, STATE, DIGESTS}
_COPIED = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model"}
_COPIED |= {"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja"}
# Spelled as in the files themselves.
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64", torch.uint8: "U8"}
_DTYPES |= {torch.int64: "I64", torch.int32: "I32", torch.uint32: "U32", torch.bool: "BOOL"}

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class State:
    """What a checkpoint holds besides its weights; ``missing`` names what it has not: optimizer, rng, trainer_state."""

    step: int | None
    tokens: int | None
    skipped: list[int]
    updates: int | None
    optimizer: Tensors | None
    rng: Tensors | None
    missing: list[str] = field(default_factory=list)


def read_state(folder: Path) -> State:
    """Read everything but the weights; ``BadInput`` where a file is damaged, not where it is absent."""
    document = _read_json(folder / STATE)
    optimizer, rng = _read_tensors(folder / OPTIMIZER), _read_tensors(folder / RNG)
    present = {"optimizer": optimizer, "rng": rng, "trainer_state": document}
    document = document or {}
    skipped = document.get("skipped_updates", [])
    for key in ("step", "tokens", "updates"):
        if not isinstance(document.get(key), int | None):
            raise BadInput(f"{folder / STATE}: `{key}` has to be a whole number.")
    if not isinstance(skipped, list) or not all(isinstance(s, int) for s in skipped):
        raise BadInput(f"{folder / STATE}: `skipped_updates` has to be a list of steps.")
    return State(
        step=document.get("step"),
        tokens=document.get("tokens"),
        skipped=list(skipped),
        updates=document.get("updates"),
        optimizer=optimizer,
        rng=rng,
        missing=[name for name, value in present.items() if value is None],
    )


def write_checkpoint(
    place: Path, weights: Tensors, optimizer: Tensors, rng: Tensors, state: dict[str, Any], like: Path
) -> None:
    """Write the checkpoint folder ``place``; config and tokenizer files are copied from the folder ``like``.

    Everything is written beside and synced, then renamed: a folder of that name is whole. Raises ``DiskFull``.
    """
    partial = place.parent / f".{place.name}.partial"
    with writing(place, f"the checkpoint of step {state['step']}"):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _copy_companions(like, partial)
        write_weights(partial, weights)
        write_tensors(partial / OPTIMIZER, optimizer)
        write_tensors(partial / RNG, rng)
        write_json(partial / STATE, state)
        digests = {name: digest(tensor) for name, tensor in sorted({**weights, **optimizer}.items())}
        digests |= {f"rng.{name}": digest(tensor) for name, tensor in sorted(rng.items())}
        write_json(partial / DIGESTS, {"format": "llm360-portal/tensors/1", "tensors": digests})
        for path in partial.iterdir():
            _sync(path)
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
        _sync(place.parent)


def write_weights(folder: Path, weights: Tensors) -> None:
    """``model.safetensors``, or shards of 5 GB at most and their index."""
    split = split_torch_state_dict_into_shards(weights, max_shard_size=SHARD)
    for name, tensors in split.filename_to_tensors.items():
        # One metadata key: with two, safetensors writes them in any order.
        save_file({t: weights[t].contiguous() for t in tensors}, folder / name, {"format": "pt"})
    if split.is_sharded:
        write_json(folder / INDEX, {"metadata": split.metadata, "weight_map": split.tensor_to_filename})


def write_tensors(path: Path, tensors: Tensors) -> None:
    """One file of tensors; the same tensors give the same bytes."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def released_names(model: Any, weights: Tensors) -> Tensors:
    """Weights under the names that checkpoints of this model have, where transformers keeps others in memory."""
    return revert_weight_conversion(model, weights) if getattr(model, "_weight_conversions", None) else weights


def digest(tensor: torch.Tensor) -> dict[str, Any]:
    """Dtype, shape and sha256 of the little-endian bytes of a CPU tensor."""
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return {
        "dtype": _DTYPES.get(tensor.dtype, str(tensor.dtype)),
        "shape": list(tensor.shape),
        "sha256": hashlib.sha256(memoryview(raw)).hexdigest(),
    }


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people and programs."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _copy_companions(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()):
        if path.name in _COPIED - _OWN and path.is_file():
            shutil.copyfile(path, target / path.name)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}.") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path} has to hold a JSON object.")
    return value


def _read_tensors(path: Path) -> Tensors | None:
    if not path.is_file():
        return None
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} is no whole safetensors file: {error}.") from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
