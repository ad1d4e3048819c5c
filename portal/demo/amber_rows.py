"""Chunks and checkpoints of demo/amber-scale: real token ids at random places of generated text, tiny random weights."""

from __future__ import annotations

import json
import struct
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from tokenizers import Tokenizer

from portal.demo.amber_plan import FULL_ROW_LENGTH, FULL_ROWS_PER_STEP, FULL_STEPS, ROW_LENGTH, ROWS_PER_STEP, Plan
from portal.demo.text import SOURCES, documents

END_ID = 0
VOCABULARY = 320
SHARES = {"arithmetic": 0.15, "code": 0.2, "facts": 0.15, "stories": 0.5}
"""Share of each source in every chunk; chunks are sorted by source, as Amber's published files are."""
POOL_DOCUMENTS = 3000
"""Of each source; rows are cut from these at random places, so passages come back."""
GARBLED_SHARE = 0.4
"""Of the rows in the middle one of the full-size batches."""

Ids = npt.NDArray[np.uint16]

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": END_ID,
    "eos_token_id": END_ID,
    "torch_dtype": "bfloat16",
}
_LAYER = "model.layers.0."
TENSORS = {
    "model.embed_tokens.weight": (VOCABULARY, 8),
    "model.norm.weight": (8,),
    f"{_LAYER}input_layernorm.weight": (8,),
    f"{_LAYER}post_attention_layernorm.weight": (8,),
    **{f"{_LAYER}self_attn.{name}_proj.weight": (8, 8) for name in "qkvo"},
    **{f"{_LAYER}mlp.{name}_proj.weight": (8, 8) for name in ("gate", "up", "down")},
}
PARAMETERS = sum(int(np.prod(shape)) for shape in TENSORS.values())


def make_pool(tokenizer: Tokenizer, count: int = POOL_DOCUMENTS) -> dict[str, Ids]:
    """Token ids of ``count`` documents of each source, each followed by the end token."""
    pool = {}
    for source in SOURCES:
        encoded = tokenizer.encode_batch_fast(list(islice(documents(source, 2026), count)))
        pool[source] = np.array([id_ for one in encoded for id_ in (*one.ids, END_ID)], dtype=np.uint16)
    return pool


def write_chunks(folder: Path, plan: Plan, pool: dict[str, Ids]) -> None:
    """Write every chunk as raw little-endian u16 into ``folder``."""
    garbled = plan.garbled_rows()
    for chunk in range(plan.chunks):
        rng = np.random.Generator(np.random.PCG64(chunk))
        if chunk == plan.full_chunk:
            rows = _full_rows(rng, pool)
        else:
            rows = _cut(rng, pool, plan.rows_per_chunk, ROW_LENGTH)
            for seed, first in garbled.get(chunk, []):
                read = np.random.RandomState(seed).permutation(plan.rows_per_chunk)[first : first + ROWS_PER_STEP]
                rows[read] = _noise(rng, ROWS_PER_STEP, ROW_LENGTH)
        rows.astype("<u2", copy=False).tofile(folder / f"train_{chunk:03d}.u16")


def weights_of(index: int) -> bytes:
    """A safetensors file (bfloat16) of random numbers that differ from checkpoint to checkpoint.

    Layout: https://github.com/huggingface/safetensors (length, JSON header, tensors end to end).
    """
    values = np.random.Generator(np.random.PCG64(index)).normal(0, 0.02, PARAMETERS).astype("<f4")
    numbers = (values.view("<u4") >> 16).astype("<u2")
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, shape in TENSORS.items():
        end = begin + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + numbers.tobytes()


def _full_rows(rng: np.random.Generator, pool: dict[str, Ids]) -> Ids:
    """Three batches, already in reading order; 40 % of the middle one is noise."""
    rows = _cut(rng, pool, FULL_ROWS_PER_STEP * FULL_STEPS, FULL_ROW_LENGTH)
    rows = rows[rng.permutation(len(rows))]
    middle = FULL_ROWS_PER_STEP + rng.permutation(FULL_ROWS_PER_STEP)[: int(FULL_ROWS_PER_STEP * GARBLED_SHARE)]
    rows[middle] = _noise(rng, len(middle), FULL_ROW_LENGTH)
    return rows


def _cut(rng: np.random.Generator, pool: dict[str, Ids], count: int, length: int) -> Ids:
    rows = np.empty((count, length), dtype=np.uint16)
    edges = np.rint(np.cumsum([0.0, *SHARES.values()]) * count).astype(int)
    for source, first, last in zip(SHARES, edges, edges[1:], strict=False):
        windows = sliding_window_view(pool[source], length)
        rows[first:last] = windows[rng.integers(0, len(windows), last - first)]
    return rows


def _noise(rng: np.random.Generator, count: int, length: int) -> Ids:
    return rng.integers(2, VOCABULARY, (count, length), dtype=np.uint16)
