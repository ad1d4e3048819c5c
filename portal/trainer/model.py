"""A checkpoint folder to a model: any decoder that transformers builds from config.json, weights from safetensors only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.utils import logging

from portal.trainer.errors import BadInput

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def load_model(folder: Path, dtype: torch.dtype, attention: str) -> nn.Module:
    """The model of ``folder`` on the CPU, in training mode, every parameter read and finite; ``BadInput`` otherwise."""
    config = read_config(folder)
    _check_weight_files(folder)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (ValueError, OSError, RuntimeError, KeyError, ImportError) as error:
        raise BadInput(f"The model in {folder} cannot be loaded: {_first_line(error)}") from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise BadInput(f"The weights in {folder} are damaged: {_first_line(error)}") from error
    _check_report(folder, report)
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise BadInput(f"The weight {name} in {folder} has values that are NaN or infinite.")
    return model.train()


def read_config(folder: Path) -> Any:
    """``config.json`` as transformers' own config; nothing that it names is run or fetched."""
    path = folder / "config.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"The file {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise BadInput(f"{path} is no JSON: {error}.") from None
    kind = document.get("model_type") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in transformers.models.auto.configuration_auto.CONFIG_MAPPING:
        raise BadInput(f"{path}: transformers {transformers.__version__} knows no model type {kind!r}.")
    if "quantization_config" in document:
        raise BadInput(f"{path} describes quantized weights, which cannot be trained on exactly.")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise BadInput(f"{path} is no config of a {kind} model: {_first_line(error)}") from error
    if type(config) not in transformers.AutoModelForCausalLM._model_mapping:
        raise BadInput(f"{path}: a {kind} model is no decoder that predicts the next token.")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, by their index where they are in shards."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        try:
            names = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            raise BadInput(f"{folder / INDEX} is no index of weight files.") from None
        return [folder / str(name) for name in sorted(names)]
    return []


def _check_weight_files(folder: Path) -> None:
    files = weight_files(folder)
    if not files:
        pickled = sorted(p.name for p in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.pt"))
        also = f"; {pickled[0]} is a pickle, which is never read" if pickled else ""
        raise BadInput(f"There is no {WEIGHTS} and no {INDEX} in {folder}{also}.")
    for path in files:
        if path.parent != folder or not path.is_file():
            raise BadInput(f"The weight file {path.name} is missing in {folder}.")


def _check_report(folder: Path, report: dict[str, Any]) -> None:
    for entry in sorted(report.get("mismatched_keys") or ()):
        name, *shapes = entry if isinstance(entry, tuple | list) else (entry,)
        detail = f": {tuple(shapes[0])} instead of {tuple(shapes[1])}" if len(shapes) == 2 else ""
        raise BadInput(f"The weight {name} in {folder} has another shape than config.json asks for{detail}.")
    if missing := sorted(report.get("missing_keys") or ()):
        raise BadInput(f"The weights in {folder} lack {len(missing)} tensors, {missing[0]} the first.")
    if unknown := sorted(report.get("unexpected_keys") or ()):
        raise BadInput(
            f"The weights in {folder} have {len(unknown)} tensors no part of the model, {unknown[0]} the first."
        )


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
