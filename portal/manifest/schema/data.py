"""Chunks of training data and the order in which their rows were read."""

from __future__ import annotations

from typing import Literal

from portal.manifest.schema.words import Confidence, Count, File, Label, NamePattern, Part, Positive, Text

RowFormat = Literal["jsonl", "flat", "megatron", "hdf5", "parquet", "arrow"]


class Chunk(Part):
    """One chunk (``name``) or a pattern of them (``names``)."""

    name: Label | None = None
    names: NamePattern | None = None
    files: list[File]
    format: RowFormat
    dtype: Literal["u8", "u16", "u32", "i32", "i64"] | None = None
    """Of ``flat`` files: token id type, little-endian."""
    header: Literal["none", "npy"] | None = None
    """Of ``flat`` files: ``npy`` when they begin with a real NPY header."""
    dialect: Literal["neox", "megatron"] | None = None
    """Of ``megatron`` indexes: how dtype codes 6 and 7 are read."""
    column: str | None = None
    """Column (parquet, arrow) or key (jsonl) holding token ids; default ``token_ids``."""
    rows: Count | None = None
    row_length: Positive | None = None
    tokens: Count | None = None
    sources: dict[str, float] = {}
    """Share of each source, summing to about 1."""
    skipped: bool = False
    note: Text = ""


OrderKind = Literal["sequential", "index", "permutation", "unknown"]
Generator = Literal["numpy-RandomState", "numpy-PCG64", "python-random"]


class DataOrder(Part):
    """Which rows the steps of one interval read.

    The rows of ``chunks``, concatenated as listed, are numbered 0..n-1. ``kind`` orders these
    numbers; step ``first_step + k`` reads positions ``start + k*rows_per_step`` onward.
    Chunks may be listed by name or as a pattern; a chunk may stand in several orders (read
    again) or in none (skipped).
    """

    first_step: Positive
    last_step: Positive
    chunks: list[Label] | NamePattern
    kind: OrderKind
    file: File | None = None
    """Of ``index``: the published order; raw little-endian or NPY."""
    dtype: Literal["u16", "u32", "i32", "i64", "u64"] | None = None
    rng: Generator | None = None
    seed: Count | None = None
    draw: Count = 0
    """Of ``permutation``: how many permutations of the same length were drawn from the stream before."""
    per_chunk: bool = False
    """Of ``permutation``: every listed chunk is shuffled alone with seed ``seed + k`` (k-th listed chunk)
    and read for ``steps_per_chunk`` steps; what is left of a chunk is dropped."""
    steps_per_chunk: Positive | None = None
    start: Count = 0
    confidence: Confidence | None = None
    """Default: exact for sequential and index, reconstructed for permutation, unknown for unknown."""
    assumption: Text = ""
    repeats: Text = ""


class Data(Part):
    """Chunks and the order in which they were read."""

    chunks: list[Chunk] = []
    order: list[DataOrder] = []
