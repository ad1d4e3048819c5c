"""Real rows, orders and tokenizers of open releases, read where they lie beside the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
import tokenizers

from portal.errors import DataFault
from portal.tokens.chunks import SpanOfChunk
from portal.tokens.decode import Decoder, open_decoder
from portal.tokens.orders import chunk_spans, locate_rows
from portal.tokens.permutations import permutation
from portal.tokens.readers import Row, RowFault, RowReader, open_reader
from tests.tokens.chunks_on_disk import entry, files_of
from tests.tokens.orders_made import order


@pytest.fixture(scope="module")
def llama(real_data: Path) -> tuple[Decoder, tokenizers.Tokenizer]:
    """The LLaMA-1 tokenizer that Amber, CrystalCoder and K2 use."""
    raw = (real_data / "crystalcoder/tokenizer.json").read_bytes()
    return open_decoder(raw), tokenizers.Tokenizer.from_buffer(raw)


def amber(real_data: Path, name: str, indexes: Path) -> RowReader:
    path = real_data / "amber" / name
    return open_reader(entry("jsonl", [path], 2049), files_of([path]), indexes, vocabulary=32_000)


def test_ambers_good_rows_decode_to_what_the_library_says(
    real_data: Path, tmp_path: Path, llama: tuple[Decoder, tokenizers.Tokenizer]
) -> None:
    decoder, library = llama
    found = amber(real_data, "good_sample.jsonl", tmp_path).read(range(9))
    assert len(found) == 9
    for row in found:
        assert isinstance(row, Row)
        pieces = decoder.pieces(row.token_ids)
        assert "".join(pieces) == library.decode(row.token_ids.tolist(), skip_special_tokens=False)
        starts = decoder.document_starts(row.token_ids)
        assert starts == [k + 1 for k, id_ in enumerate(row.token_ids.tolist()) if id_ == 2 and k < 2048]
        assert starts


def test_ambers_bad_sample_has_three_faults_and_seven_rows(real_data: Path, tmp_path: Path) -> None:
    found = amber(real_data, "bad_sample.jsonl", tmp_path).read(range(10))
    faults = {f.row + 1: f.message for f in found if isinstance(f, RowFault)}
    assert set(faults) == {4, 9, 10}
    assert "not JSON" in faults[4]
    assert "2050 token ids, not 2049" in faults[9]
    assert "not JSON" in faults[10]
    assert [len(row.token_ids) for row in found if isinstance(row, Row)] == [2049] * 7


def test_the_sampled_rows_of_chunk_143_are_numpys_permutation(real_data: Path) -> None:
    """`datasets.shuffle(seed=42).select(range(1000))` is default_rng(42).permutation, that is PCG64."""
    lines = (real_data / "amber/derived/chunk143_sampled_rows.jsonl").read_bytes().splitlines()
    sampled = [orjson.loads(line) for line in lines]
    drawn = permutation("numpy-PCG64", 42, 0, 1_706_976)
    assert [row["row"] for row in sampled] == drawn[:1000].tolist()
    told = (real_data / "amber/analysis/memorization/data/train_143.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["prompt"] + orjson.loads(line)["continuation"] for line in told] == [
        row["first64"] for row in sampled
    ]
    # In row order the sources are seven contiguous blocks: the file is sorted by source, not by training order.
    by_row = [row["source"] for row in sorted(sampled, key=lambda row: row["row"])]
    assert len([k for k in range(1, 1000) if by_row[k] != by_row[k - 1]]) == 6


def test_k2_reads_its_chunks_in_the_published_order(real_data: Path) -> None:
    told = orjson.loads((real_data / "k2/derived/chunk_order.json").read_bytes())
    chunks = tuple(f"chunk_{k}" for k in told["chunk_at_position"])
    steps = told["steps_per_checkpoint"]
    stated = order("sequential", chunks, last_step=told["train_iters"], per_chunk=True, steps_per_chunk=steps)
    spans = chunk_spans(stated, told["global_batch_size"], {})
    assert len(spans) == 360
    assert spans[16] == SpanOfChunk("chunk_32", 16 * steps + 1, 17 * steps)
    assert [span.chunk for span in spans[-2:]] == ["chunk_160", "chunk_186"]
    rows = dict.fromkeys(chunks, 2_000_000)
    found = locate_rows(stated, 2040, rows, 16 * steps + 2, 0, 1)[0]
    assert (found.chunk, found.row) == ("chunk_32", 2040)


class TestTrapPair:
    """Two OLMo fixtures of one suffix: raw u16, and a real NPY file of int64."""

    def opened(self, real_data: Path, name: str, tmp_path: Path, **given: str) -> RowReader:
        path = real_data / "olmo/test_fixtures" / name
        return open_reader(entry("flat", [path], 2048, **given), files_of([path]), tmp_path, vocabulary=70_000)

    def test_each_reads_under_its_own_description(self, real_data: Path, tmp_path: Path) -> None:
        raw = self.opened(real_data, "sample-tokens.npy", tmp_path, dtype="u16", header="none")
        assert raw.rows == 64
        first = raw.read([0])[0]
        assert isinstance(first, Row)
        assert first.token_ids[:4].tolist() == [0x5D, 0x6B, 0x72, 0x54]
        headed = self.opened(real_data, "random_data.npy", tmp_path, dtype="i64", header="npy")
        found = headed.read(range(headed.rows))
        expected = np.load(real_data / "olmo/test_fixtures/random_data.npy")
        assert np.concatenate([row.token_ids for row in found if isinstance(row, Row)]).tolist() == expected.tolist()

    @pytest.mark.parametrize(
        ("name", "given"),
        [
            ("sample-tokens.npy", {"dtype": "u16", "header": "npy"}),
            ("random_data.npy", {"dtype": "u16"}),
            ("random_data.npy", {"dtype": "i64", "header": "none"}),
            ("random_data.npy", {"dtype": "u16", "header": "npy"}),
        ],
    )
    def test_neither_reads_under_the_others(
        self, real_data: Path, tmp_path: Path, name: str, given: dict[str, str]
    ) -> None:
        with pytest.raises(DataFault) as caught:
            self.opened(real_data, name, tmp_path, **given)
        assert caught.value.remedy


def test_crystalcoders_rows_carry_mask_and_labels(
    real_data: Path, tmp_path: Path, llama: tuple[Decoder, tokenizers.Tokenizer]
) -> None:
    path = real_data / "crystalcoder/merged_shuffle_train_sample.jsonl"
    reader = open_reader(entry("jsonl", [path], 2048), files_of([path]), tmp_path, vocabulary=32_032)
    found = reader.read(range(reader.rows))
    assert reader.rows == 100
    assert all(isinstance(row, Row) for row in found)
    row = found[0]
    assert isinstance(row, Row)
    assert {"loss_mask", "label_ids"} <= set(row.extra)
    pieces = llama[0].pieces(row.token_ids)
    assert len(pieces) == 2048


@pytest.mark.parametrize("name", ["crystalcoder/tokenizer.json", "pythia/utils/20B_tokenizer.json"])
def test_real_tokenizers_give_back_real_text(real_data: Path, name: str) -> None:
    raw = (real_data / name).read_bytes()
    decoder, library = open_decoder(raw), tokenizers.Tokenizer.from_buffer(raw)
    text = (real_data / "amber/analysis/metrics/ppl/data/wikitext.txt").read_text()[:60_000]
    text += " 日本語 🙂🙃 é \x00 \u202e\ttab" * 20
    ids = library.encode(text, add_special_tokens=False).ids
    pieces = decoder.pieces(ids)
    assert "".join(pieces) == library.decode(ids, skip_special_tokens=False)
    assert "".join(pieces) == text
