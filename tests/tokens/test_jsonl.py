"""Line files: stored indexes, compressed texts, and lines that are no rows."""

from __future__ import annotations

import gzip
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import DataFault, TooLarge
from portal.tokens.readers import OffsetBuilder, Row, RowFault, RowReader, index_path, open_reader, save_index
from portal.tokens.readers.source import FileBytes
from tests.tokens.chunks_on_disk import entry, files_of, lines

ROWS = [[1000 * row + column for column in range(5)] for row in range(11)]


def opened(folder: Path, text: bytes, name: str = "rows.jsonl", **options: Any) -> RowReader:
    path = folder / name
    path.write_bytes(text)
    return open_reader(entry("jsonl", [path], None), files_of([path]), folder / "indexes", **options)


def faults(reader: RowReader) -> dict[int, str]:
    return {f.row: f.message for f in reader.read(range(reader.rows)) if isinstance(f, RowFault)}


@given(st.lists(st.binary(max_size=40)), st.data())
def test_line_starts_do_not_depend_on_how_the_bytes_come(parts: list[bytes], data: st.DataObject) -> None:
    text = b"\n".join(parts)
    builder = OffsetBuilder()
    at = 0
    while at < len(text):
        step = data.draw(st.integers(1, 50))
        builder.feed(memoryview(text)[at : at + step])
        at += step
    starts = builder.finish().tolist()
    assert starts[-1] == len(text)
    found = [text[a:b] for a, b in pairwise(starts)]
    assert b"".join(found) == text
    assert all(b"\n" not in line[:-1] and line for line in found)


def test_a_line_across_scanned_pieces_is_one_line() -> None:
    builder = OffsetBuilder()
    builder.feed(b"x" * 300_000 + b"\n" + b"y" * 300_000)
    assert builder.finish().tolist() == [0, 300_001, 600_001]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst"):
        packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(name).suffix, bytes)
        assert opened(tmp_path, packed(b""), name).rows == 0


def test_every_kind_of_bad_line_is_named_and_the_rest_is_readable(tmp_path: Path) -> None:
    bad = {
        1: (b'{"token_ids": [1, "x", 3]}', 'token 1 of the row is "x"'),
        2: (b'{"token_ids": [1, 2.5]}', "token 1 of the row is 2.5"),
        3: (b'{"token_ids": [1, true]}', "token 1 of the row is true"),
        4: (b'{"token_ids": [1, null]}', "token 1 of the row is null"),
        5: (b'{"token_ids": "abc"}', "no list"),
        6: (b'{"ids": [1]}', "no key 'token_ids' (it has ids)"),
        7: (b"[1, 2, 3]", "it has list"),
        8: (b"", "not JSON"),
        9: (b'{"token_ids": [1,, 2]}', "not JSON"),
        10: (b'{"token_ids": [1, -2]}', "id -2"),
        11: (b'{"token_ids": [5000000000]}', "id 5000000000, outside the vocabulary of 32000"),
        12: (b'{"token_ids": [36893488147419103232]}', "which is no token id"),
        13: (b'{"token_ids": [1, NaN]}', "not JSON"),
        14: (b'\xff{"token_ids": [1]}', "not JSON"),
        16: (b'{"token_ids": [1, 2', "cut off before its end"),
    }
    good = b'{"token_ids": [1, 2, 31999]}'
    text = b"\n".join(bad[k][0] if k in bad else good for k in range(17))
    reader = opened(tmp_path, text, vocabulary=32_000)
    found = faults(reader)
    assert set(found) == set(bad)
    for row, (_, said) in bad.items():
        assert said in found[row], row
    assert all(isinstance(reader.read([row])[0], Row) for row in (0, 15))


def test_empty_rows_and_zero_and_one_are_ids(tmp_path: Path) -> None:
    reader = opened(tmp_path, b'{"token_ids": []}\n{"token_ids": [0, 1]}\n{"token_ids": [9007199254740993]}\n')
    assert [row.token_ids.tolist() for row in reader.read(range(3)) if isinstance(row, Row)] == [
        [],
        [0, 1],
        [2**53 + 1],
    ]


def test_further_keys_of_a_row_are_kept(tmp_path: Path) -> None:
    """K2's rows name the file and line they come from."""
    row = {"token_ids": [1], "source": "github", "subset_name": "fim", "src_filename": "a.jsonl", "line_idx_in_src": 7}
    found = opened(tmp_path, json.dumps(row).encode()).read([0])[0]
    assert isinstance(found, Row)
    assert found.source == "github"
    assert found.extra == {"subset_name": "fim", "src_filename": "a.jsonl", "line_idx_in_src": 7}


def test_a_source_that_is_no_text_is_kept_aside(tmp_path: Path) -> None:
    found = opened(tmp_path, b'{"token_ids": [1], "source": {"name": "x"}}').read([0])[0]
    assert isinstance(found, Row)
    assert (found.source, found.extra) == (None, {"source": {"name": "x"}})


def test_another_column_can_hold_the_ids(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"input_ids": [4, 5]}\n')
    reader = open_reader(entry("jsonl", [path], 2, column="input_ids"), files_of([path]), tmp_path / "indexes")
    assert reader.read([0])[0].token_ids.tolist() == [4, 5]  # type: ignore[union-attr]


def test_a_line_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    text = lines(ROWS[:1]) + b'{"token_ids": [' + b"1, " * 5000 + b"1]}\n" + lines(ROWS[1:2])
    reader = opened(tmp_path, text, max_line_bytes=1000)
    found = reader.read([0, 1, 2])
    assert isinstance(found[1], RowFault)
    assert "15,019 bytes" in found[1].message
    assert "PORTAL_MAX_LINE_BYTES" in found[1].remedy
    assert reader.bytes_read < 1000
    assert [row.token_ids.tolist() for row in (found[0], found[2]) if isinstance(row, Row)] == ROWS[:2]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"])
def test_a_text_of_empty_lines_is_refused_before_its_index_fills_the_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.tokens.readers.lines.FINE_LINES", 1000)
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(name).suffix, bytes)
    with pytest.raises(TooLarge, match=rf"{name} has more than 1,000 lines of under 8 bytes"):
        opened(tmp_path, packed(b"\n" * 5000), name)
    assert [p for p in (tmp_path / "indexes").rglob("*") if p.is_file()] == []
    assert opened(tmp_path, packed(lines(ROWS) * 500), name).rows == 5500


def test_a_line_of_a_hundred_thousand_brackets_is_a_fault(tmp_path: Path) -> None:
    reader = opened(tmp_path, b"[" * 100_000 + b"\n" + lines(ROWS[:1]))
    assert "not JSON" in faults(reader)[0]
    assert isinstance(reader.read([1])[0], Row)


class TestIndex:
    """Line starts are found once and stored."""

    def test_it_is_built_once_and_reused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened(tmp_path, lines(ROWS))
        monkeypatch.setattr(OffsetBuilder, "feed", lambda *_: pytest.fail("the file was scanned again"))
        path = tmp_path / "rows.jsonl"
        again = open_reader(entry("jsonl", [path], None), files_of([path]), tmp_path / "indexes")
        assert again.rows == 11
        assert again.bytes_read == 0

    def test_one_made_while_publishing_is_found_by_its_hash(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_bytes(lines(ROWS))
        builder = OffsetBuilder()
        builder.feed(path.read_bytes())
        save_index(index_path(tmp_path / "indexes", "ab" * 32), builder.finish())
        monkeypatch.setattr(OffsetBuilder, "feed", lambda *_: pytest.fail("the file was scanned again"))
        reader = open_reader(entry("jsonl", [path], 5), files_of([path], sha256="ab" * 32), tmp_path / "indexes")
        assert reader.read([10])[0].token_ids.tolist() == ROWS[10]  # type: ignore[union-attr]

    def test_a_changed_file_gets_a_new_one(self, tmp_path: Path) -> None:
        opened(tmp_path, lines(ROWS))
        shorter = opened(tmp_path, lines(ROWS[:3]))
        assert shorter.rows == 3
        os.utime(tmp_path / "rows.jsonl", ns=(1, 1))
        path = tmp_path / "rows.jsonl"
        assert open_reader(entry("jsonl", [path], None), files_of([path]), tmp_path / "indexes").rows == 3

    @pytest.mark.parametrize("damage", [b"", b"\x93NUMPY rubbish", b"not an index at all"])
    @pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"])
    def test_a_damaged_one_is_built_again(self, tmp_path: Path, name: str, damage: bytes) -> None:
        packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(name).suffix, bytes)
        text = packed(lines(ROWS))
        opened(tmp_path, text, name)
        kept = os.stat(tmp_path / name).st_mtime_ns
        for path in (tmp_path / "indexes").rglob("*"):
            if path.is_file():
                path.write_bytes(damage)
        (tmp_path / name).write_bytes(text)
        os.utime(tmp_path / name, ns=(kept, kept))
        reader = open_reader(entry("jsonl", [tmp_path / name], None), files_of([tmp_path / name]), tmp_path / "indexes")
        assert [row.token_ids.tolist() for row in reader.read(range(11)) if isinstance(row, Row)] == ROWS

    @pytest.mark.parametrize("gone", ["points", "frames"])
    def test_half_an_index_folder_is_no_harm(self, tmp_path: Path, gone: str) -> None:
        name, packed = ("rows.jsonl.gz", gzip.compress) if gone == "points" else ("rows.jsonl.zst", zstandard.compress)
        opened(tmp_path, packed(lines(ROWS)), name)
        for path in (tmp_path / "indexes").rglob(f"*{gone}*"):
            path.unlink()
        reader = open_reader(entry("jsonl", [tmp_path / name], None), files_of([tmp_path / name]), tmp_path / "indexes")
        assert [row.token_ids.tolist() for row in reader.read([10, 0]) if isinstance(row, Row)] == [ROWS[10], ROWS[0]]

    def test_nothing_half_written_stays_behind(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl.gz"
        path.write_bytes(gzip.compress(lines(ROWS))[:-20])
        with pytest.raises(DataFault, match="cannot be decompressed"):
            open_reader(entry("jsonl", [path], None), files_of([path]), tmp_path / "indexes")
        assert [p for p in (tmp_path / "indexes").rglob("*") if p.is_file()] == []


class TestCompressed:
    """gzip and zstd texts."""

    @pytest.mark.parametrize("frames", [1, 40])
    def test_zst_of_one_long_frame_and_of_many(self, tmp_path: Path, frames: int) -> None:
        rows = np.random.default_rng(1).integers(0, 32_000, (1600, 1000)).tolist()
        text = lines(rows)
        assert len(text) > 10 << 20
        size = -(-len(text) // frames)
        packed = b"".join(zstandard.compress(text[at : at + size], 1) for at in range(0, len(text), size))
        reader = opened(tmp_path, packed, "rows.jsonl.zst")
        copies = list((tmp_path / "indexes").rglob("*.zst.copy"))
        assert len(copies) == (1 if frames == 1 else 0)
        before = reader.bytes_read
        asked = [1599, 0, 3, 2, 800]
        assert [row.token_ids.tolist() for row in reader.read(asked) if isinstance(row, Row)] == [
            rows[k] for k in asked
        ]
        assert reader.bytes_read - before < len(packed) / 3

    def test_gz_reads_from_a_seek_point(self, tmp_path: Path) -> None:
        rows = np.random.default_rng(1).integers(0, 32_000, (1600, 1000)).tolist()
        packed = gzip.compress(lines(rows), 1)
        reader = opened(tmp_path, packed, "rows.jsonl.gz")
        assert [row.token_ids.tolist() for row in reader.read([1599, 5]) if isinstance(row, Row)] == [
            rows[1599],
            rows[5],
        ]
        assert reader.bytes_read < len(packed)

    def test_gz_of_several_members_and_padding(self, tmp_path: Path) -> None:
        packed = b"".join(gzip.compress(lines(ROWS[k : k + 4])) for k in (0, 4, 8)) + bytes(600)
        reader = opened(tmp_path, packed, "rows.jsonl.gz")
        assert [row.token_ids.tolist() for row in reader.read(range(11)) if isinstance(row, Row)] == ROWS

    @pytest.mark.parametrize("cut", [1, 8, 9, 20, 2000])
    @pytest.mark.parametrize("members", [1, 2])
    def test_gz_cut_short_is_refused_not_shortened(self, tmp_path: Path, cut: int, members: int) -> None:
        rows = np.random.default_rng(1).integers(0, 32_000, (40, 500)).tolist()
        half = 40 // members
        packed = b"".join(gzip.compress(lines(rows[k : k + half])) for k in range(0, 40, half))
        with pytest.raises(DataFault, match="cannot be decompressed"):
            opened(tmp_path, packed[:-cut], "rows.jsonl.gz")

    @pytest.mark.parametrize("name", ["bomb.jsonl.gz", "bomb.jsonl.zst"])
    def test_a_bomb_is_refused(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("portal.tokens.readers.ratio.ALWAYS_FINE", 1 << 20)
        packed = {".gz": gzip.compress, ".zst": zstandard.compress}[Path(name).suffix](b"\n" * (8 << 20))
        with pytest.raises(TooLarge, match="over 100 times its size"):
            opened(tmp_path, packed, name)

    @pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst"])
    def test_a_refusal_is_told_again_without_reading_until_the_file_is_another_one(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packed = {".gz": gzip.compress, ".zst": zstandard.compress}[Path(name).suffix](lines(ROWS))
        path = tmp_path / name
        path.write_bytes(packed[:-9])
        reads = []
        monkeypatch.setattr(FileBytes, "read", lambda *asked, read=FileBytes.read: reads.append(1) or read(*asked))
        for _ in range(2):
            with pytest.raises(DataFault, match="cut short"):
                open_reader(entry("jsonl", [path], None), files_of([path]), tmp_path / "indexes")
            reads.append(0)
        assert reads.index(0) > 0
        assert reads[reads.index(0) :] == [0, 0]
        assert opened(tmp_path, packed, name).rows == len(ROWS)

    def test_a_window_beyond_the_limit_is_refused(self, tmp_path: Path) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        packed = compressor.compress(lines(ROWS)) + compressor.flush()
        with pytest.raises(DataFault, match="cannot be decompressed"):
            opened(tmp_path, packed, "rows.jsonl.zst")

    @pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst"])
    def test_plain_text_under_a_compressed_name_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DataFault, match=name):
            opened(tmp_path, lines(ROWS), name)


@pytest.mark.parametrize("left", ["abandoned", "in use"])
def test_what_a_killed_builder_left_is_cleared_and_what_another_writes_is_not(tmp_path: Path, left: str) -> None:
    path = index_path(tmp_path, "ab" * 32)
    path.parent.mkdir(parents=True)
    other = path.with_name(f".{path.name}.x1")
    other.write_bytes(b"half an index")
    if left == "abandoned":
        os.utime(other, (1, 1))
    save_index(path, np.array([0, 5], np.uint64))
    assert other.exists() == (left == "in use")
