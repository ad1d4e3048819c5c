"""Training data of demo/tiny: its tokenizer, its chunks and the order in which their rows were read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from portal.demo.text import SOURCES, documents

END, PAD = "<|endoftext|>", "<|pad|>"
END_ID, PAD_ID = 0, 1
VOCABULARY = 320
ROW_LENGTH = 129
"""128 inputs and, one further, 128 targets."""
ROWS_PER_STEP = 16
SEED = 360

SPIKE_STEP = 301
"""Reads the sixteen garbled rows, all at once."""
NAN_STEP = 451
"""Reads the row that is nothing but padding: the mean over its targets is 0/0."""

Ids = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class ChunkPlan:
    """One chunk: its stage, its file format and how many rows of each source it holds."""

    name: str
    stage: str
    format: str
    rows: dict[str, int]

    @property
    def path(self) -> str:
        """Of its file, inside the release."""
        return f"data/{self.name}.{'u16' if self.format == 'flat' else self.format}"


@dataclass(frozen=True)
class StagePlan:
    """One stage: its steps; the order file lists its rows one after another."""

    name: str
    first_step: int
    last_step: int


@dataclass(frozen=True)
class Rows:
    """Rows of a chunk: ids of shape (rows, 129) and the source each row is labelled with."""

    ids: Ids
    sources: list[str]


STAGES = (StagePlan("main", 1, 500), StagePlan("anneal", 501, 600))
CHUNKS = (
    ChunkPlan("main_000", "main", "jsonl", {"arithmetic": 144, "code": 96, "facts": 96, "stories": 144}),
    ChunkPlan("main_001", "main", "jsonl", {"arithmetic": 144, "code": 96, "facts": 96, "stories": 144}),
    ChunkPlan("main_002", "main", "parquet", {"arithmetic": 144, "code": 96, "facts": 96, "stories": 144}),
    ChunkPlan("main_003", "main", "flat", {"stories": 480}),
    ChunkPlan("anneal_000", "anneal", "jsonl", {"arithmetic": 128, "code": 32, "facts": 128, "stories": 32}),
    ChunkPlan("anneal_001", "anneal", "parquet", {"arithmetic": 128, "code": 32, "facts": 128, "stories": 32}),
)
GARBLED = ("main_001", range(200, 216))
"""Rows labelled code that are noise, as when a binary file passes for text."""
EMPTY = ("main_003", 77)
"""A row of padding only."""


def train_tokenizer() -> Tokenizer:
    """Byte-level BPE of 320 ids: two special tokens, every byte, and the 62 most useful merges; digits stay single."""
    tokenizer = Tokenizer(models.BPE())
    # numbers are learnt digit by digit, so that 12 and 21 share their parts
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    text = [document for source in SOURCES for document in islice(documents(source, SEED), 500)]
    tokenizer.train_from_iterator(text, trainer)
    return tokenizer


def make_chunks(tokenizer: Tokenizer) -> dict[str, Rows]:
    """The rows of every chunk, in file order: sorted by source, as Amber's published chunks are."""
    streams = {source: cut_rows(tokenizer, source, SEED) for source in SOURCES}
    made = {}
    for plan in CHUNKS:
        rows = [row for source, count in plan.rows.items() for row in islice(streams[source], count)]
        labels = [source for source, count in plan.rows.items() for _ in range(count)]
        made[plan.name] = Rows(np.array(rows, dtype=np.uint16), labels)
    noise = np.random.RandomState(SEED).randint(2, VOCABULARY, (len(GARBLED[1]), ROW_LENGTH))
    made[GARBLED[0]].ids[GARBLED[1].start : GARBLED[1].stop] = noise
    made[EMPTY[0]].ids[EMPTY[1]] = PAD_ID
    return made


def cut_rows(tokenizer: Tokenizer, source: str, seed: int) -> Iterator[list[int]]:
    """Endless rows of one source: documents, each followed by ``<|endoftext|>``, cut every 129 ids without overlap."""
    held: list[int] = []
    for document in documents(source, seed):
        held += [*tokenizer.encode(document).ids, END_ID]
        while len(held) >= ROW_LENGTH:
            yield held[:ROW_LENGTH]
            held = held[ROW_LENGTH:]


def make_order() -> npt.NDArray[np.uint32]:
    """Row numbers in reading order, 16 per step over all steps.

    Numbers count the rows of a stage's chunks as listed, so they begin at 0 again where a stage begins. A stage
    reads its chunks over and over, every pass in a fresh shuffle; the garbled rows and the empty row are kept out
    of the shuffles and stand where the spike and the NaN are to be.
    """
    return np.concatenate([_stage_order(stage) for stage in STAGES])


def stage_chunks(stage: str) -> list[ChunkPlan]:
    """The chunks of a stage as its order lists them."""
    return [plan for plan in CHUNKS if plan.stage == stage]


def rows_of_step(step: int, chunks: dict[str, Rows], order: npt.NDArray[np.uint32]) -> Rows:
    """The batch of ``step``: ids of shape (16, 129) and the sources of its rows."""
    stage = next(s for s in STAGES if s.first_step <= step <= s.last_step)
    plans = stage_chunks(stage.name)
    numbers = order[(step - 1) * ROWS_PER_STEP : step * ROWS_PER_STEP]
    ids = np.concatenate([chunks[plan.name].ids for plan in plans])
    labels = [label for plan in plans for label in chunks[plan.name].sources]
    return Rows(ids[numbers], [labels[number] for number in numbers])


def write_data(folder: Path, tokenizer: Tokenizer, chunks: dict[str, Rows], order: npt.NDArray[np.uint32]) -> None:
    """Write tokenizer, chunk files and order file into a release folder."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": ROW_LENGTH - 1,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(described, option=orjson.OPT_INDENT_2) + b"\n")
    for plan in CHUNKS:
        _WRITE[plan.format](folder / plan.path, chunks[plan.name])
    order.astype("<u4").tofile(folder / "data" / "order.u32")


def _stage_order(stage: StagePlan) -> npt.NDArray[np.uint32]:
    plans = stage_chunks(stage.name)
    starts = dict(zip((p.name for p in plans), np.cumsum([0, *(sum(p.rows.values()) for p in plans)]), strict=False))
    total = sum(sum(p.rows.values()) for p in plans)
    garbled = [int(starts[GARBLED[0]]) + row for row in GARBLED[1]] if GARBLED[0] in starts else []
    empty = [int(starts[EMPTY[0]]) + EMPTY[1]] if EMPTY[0] in starts else []
    plain = [number for number in range(total) if number not in {*garbled, *empty}]
    wanted = (stage.last_step - stage.first_step + 1) * ROWS_PER_STEP - len(garbled) - len(empty)
    order: list[int] = list(islice(_passes(plain, stage.name), wanted))
    if garbled:
        place = (SPIKE_STEP - stage.first_step) * ROWS_PER_STEP
        order[place:place] = garbled
    if empty:
        place = (NAN_STEP - stage.first_step) * ROWS_PER_STEP + 5
        order[place:place] = empty
    return np.array(order, dtype=np.uint32)


def _passes(numbers: list[int], stage: str) -> Iterator[int]:
    rng = random.Random(f"{stage}/{SEED}")
    while True:
        shuffled = list(numbers)
        rng.shuffle(shuffled)
        yield from shuffled


def _write_jsonl(path: Path, rows: Rows) -> None:
    lines = [
        orjson.dumps({"token_ids": ids, "source": source})
        for ids, source in zip(rows.ids.tolist(), rows.sources, strict=True)
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")


def _write_parquet(path: Path, rows: Rows) -> None:
    table = pa.table(
        {
            "token_ids": pa.array(rows.ids.tolist(), pa.list_(pa.uint16())),
            "source": pa.array(rows.sources).dictionary_encode(),
        }
    )
    # Small groups: reading one row decodes its whole group.
    pq.write_table(table, path, row_group_size=64, compression="zstd")


def _write_flat(path: Path, rows: Rows) -> None:
    rows.ids.astype("<u2").tofile(path)


_WRITE: dict[str, Any] = {"jsonl": _write_jsonl, "parquet": _write_parquet, "flat": _write_flat}
