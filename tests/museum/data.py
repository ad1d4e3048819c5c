"""Chunks that are lost, cut, doubled, of another kind than declared, or written with another tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.builders import byte_tokenizer
from tests.museum.exhibit import Release, exhibit, published, refused

ROWS = np.arange(40 * 8, dtype="<u2").reshape(40, 8)


@exhibit("A chunk was never uploaded.", refused("data.chunks[1] (part_1): data/part_1.jsonl is not there"))
def missing_chunk(run: Release) -> None:
    run.path("data/part_1.jsonl").unlink()


@exhibit("The order names a chunk that the list has lost.", refused("data.order[0].chunks[1]: 'part_1' is no chunk"))
def chunk_named_only_in_the_order(run: Release) -> None:
    del run.manifest["data"]["chunks"][1]


@exhibit(
    "A chunk was skipped after its loss was NaN, and the first chunk read again in its place, as in Amber.",
    published(),
    {"tokens 11": "part_0:0 part_0:1 part_0:2 part_0:3", "pair 10": "10 + part_0"},
)
def chunk_skipped_and_the_first_read_again(run: Release) -> None:
    run.chunk(1)["skipped"] = True
    rule = {"chunks": ["part_0"], "kind": "sequential"}
    run.manifest["data"]["order"] = [
        {"first_step": 1, "last_step": 10, **rule},
        {"first_step": 11, "last_step": 20, **rule},
    ]
    run.manifest["events"] = [{"step": 11, "kind": "chunk_skipped", "chunk": "part_1", "note": "NaN loss"}]


@exhibit("A chunk is declared skipped and the order reads it all the same.", published("skipped-chunk-read"))
def skipped_chunk_still_read(run: Release) -> None:
    run.chunk(1)["skipped"] = True


@exhibit("A released chunk is read by no step.", published("chunk-never-read", "order-past-data@1"))
def chunk_nobody_reads(run: Release) -> None:
    run.orders[0]["chunks"] = ["part_0"]


@exhibit(
    "The same file stands under two names, as part-104 of OLMo 2's dclm.",
    published("same-chunk"),
    {"pair 10": "10 + part_1"},
)
def same_file_under_two_names(run: Release) -> None:
    run.path("data/part_1.jsonl").write_bytes(run.path("data/part_0.jsonl").read_bytes())


@exhibit("The manifest declares more rows than the file holds.", published("chunk-rows-differ"))
def fewer_rows_than_declared(run: Release) -> None:
    run.chunk(0)["rows"] = 41


@exhibit("A chunk ends before the steps that read it.", published("order-past-data@1"), {"tokens 20": "order-unknown"})
def chunk_shorter_than_its_steps(run: Release) -> None:
    lines = run.path("data/part_1.jsonl").read_text().splitlines(keepends=True)
    run.path("data/part_1.jsonl").write_text("".join(lines[:36]))


@exhibit(
    "The last line of a chunk is cut off, as after a full disk.",
    published("row-unreadable"),
    {"tokens 20": "part_1:36 part_1:37 part_1:38 !part_1:39"},
)
def last_line_cut_off(run: Release) -> None:
    path = run.path("data/part_1.jsonl")
    path.write_bytes(path.read_bytes()[:-30])


@exhibit(
    "Rows are one id longer than declared: labels were not cut off.", published("row-unreadable", "row-unreadable")
)
def rows_longer_than_declared(run: Release) -> None:
    run.manifest["training"]["row_length"] = 7


@exhibit(
    "Token ids lie beyond the vocabulary: the data were written with another tokenizer.",
    published("row-unreadable", "row-unreadable"),
)
def ids_beyond_the_vocabulary(run: Release) -> None:
    run.manifest["model"] = {"vocabulary": 50}


@exhibit("The tokenizer knows more ids than the model has.", published("tokenizer-too-large"))
def tokenizer_larger_than_the_model(run: Release) -> None:
    run.path("tokenizer.json").write_text(byte_tokenizer().to_str())
    run.manifest["tokenizer"] = "tokenizer.json"
    run.manifest["model"] = {"vocabulary": 200}


@exhibit("The tokenizer's file is another file.", published("tokenizer-unreadable"))
def tokenizer_that_is_none(run: Release) -> None:
    run.path("tokenizer.json").write_text("<html>404</html>")
    run.manifest["tokenizer"] = "tokenizer.json"


@exhibit("A raw memmap named .npy is declared to have an NPY header, as OLMo's.", published("chunk-unreadable"))
def raw_numbers_declared_as_npy(run: Release) -> None:
    _flat(run, "rows.npy", ROWS.tobytes(), header="npy")


@exhibit("A real NPY file is declared as raw numbers: its header would become tokens.", published("chunk-unreadable"))
def npy_declared_as_raw_numbers(run: Release) -> None:
    with run.path("data/rows.npy").open("wb") as file:
        np.save(file, ROWS)
    _flat(run, "rows.npy", None, dtype="u16")


@exhibit("Raw u16 ids are declared as u32.", published("chunk-rows-differ", "row-unreadable"))
def flat_of_another_width(run: Release) -> None:
    run.manifest["model"] = {"vocabulary": 400}
    _flat(run, "rows.bin", ROWS.tobytes(), dtype="u32")


@exhibit("A raw file ends in the middle of a row.", published("chunk-contradicts-itself", "chunk-rows-differ"))
def flat_cut_in_a_row(run: Release) -> None:
    _flat(run, "rows.bin", ROWS.tobytes()[:-6], dtype="u16")


@exhibit("A Megatron index without its .bin shard.", refused("data.chunks[0] (part_0): data/x.bin is not there"))
def megatron_index_without_its_numbers(run: Release) -> None:
    run.path("data/x.idx").write_bytes(megatron_index(40))
    _chunk(run, ["data/x.idx", "data/x.bin"], format="megatron")


@exhibit("A Megatron index is cut off.", published("chunk-unreadable"))
def megatron_index_cut_off(run: Release) -> None:
    run.path("data/x.idx").write_bytes(megatron_index(40)[:-100])
    run.path("data/x.bin").write_bytes(ROWS.tobytes())
    _chunk(run, ["data/x.idx", "data/x.bin"], format="megatron")


@exhibit("The .bin beside a Megatron index is cut off, as a shard of Pythia's.",
         published("row-unreadable", "chunk-contradicts-itself"))  # fmt: skip
def megatron_numbers_cut_off(run: Release) -> None:
    run.path("data/x.idx").write_bytes(megatron_index(40))
    run.path("data/x.bin").write_bytes(ROWS.tobytes()[:-50])
    _chunk(run, ["data/x.idx", "data/x.bin"], format="megatron")


@exhibit("A chunk is an HTML page: the download had asked for a login.", published("chunk-unreadable"))
def login_page_instead_of_parquet(run: Release) -> None:
    run.path("data/rows.parquet").write_text("<!doctype html><title>Sign in</title>")
    _chunk(run, ["data/rows.parquet"], format="parquet")


@exhibit("Sources of a chunk add up to 130 %.", published("sources-disagree"))
def sources_of_more_than_the_whole(run: Release) -> None:
    run.chunk(0)["sources"] = {"web": 0.9, "books": 0.4}


@exhibit("The tokens of a chunk are not its rows times their length.", published("chunk-tokens-disagree"))
def tokens_of_a_chunk_miscounted(run: Release) -> None:
    run.chunk(0).update(rows=40, tokens=40 * 9)


@exhibit("The sha256 in the manifest is that of another file.", refused("data.chunks[0] (part_0): "))
def digest_of_another_file(run: Release) -> None:
    run.chunk(0)["files"] = [{"path": "data/part_0.jsonl", "sha256": "ab" * 32}]


@exhibit("The size in the manifest is that of another file.", refused("data.chunks[0] (part_0): "))
def size_of_another_file(run: Release) -> None:
    run.chunk(0)["files"] = [{"path": "data/part_0.jsonl", "size": 7}]


def _swap(run: Release) -> None:
    one, other = run.path("data/part_0.jsonl"), run.path("data/part_1.jsonl")
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


@exhibit(
    "Two chunks changed places after publication.",
    published(),
    {
        "verify deep": "file-changed:data/part_0.jsonl file-changed:data/part_1.jsonl",
        "findings": "file-changed file-changed",
    },
    later=_swap,
)
def files_that_changed_places(run: Release) -> None:
    run.manifest["title"] = "Swapped"


@exhibit("Two chunks have one name.", refused("data.chunks[1].name: 'part_0' is already a chunk"))
def two_chunks_of_one_name(run: Release) -> None:
    run.chunk(1)["name"] = "part_0"
    run.orders[0]["chunks"] = ["part_0"]


@exhibit("A path leads out of the release.", refused("data.chunks[0].files[0].path: '../secret.jsonl' leads out"))
def path_that_leads_out(run: Release) -> None:
    (run.folder.parent / "secret.jsonl").write_text("{}\n")
    run.chunk(0)["files"] = [{"path": "../secret.jsonl"}]


@exhibit("A link leads out of the release.", refused("data.chunks[0] (part_0): "))
def link_that_leads_out(run: Release) -> None:
    outside = run.folder.parent / "secret.jsonl"
    outside.write_text("{}\n")
    run.path("data/part_0.jsonl").unlink()
    run.path("data/part_0.jsonl").symlink_to(outside)


def megatron_index(rows: int, code: int = 8) -> bytes:
    """An index of ``rows`` rows of 8 ids of u16, each a document."""
    sizes = np.full(rows, 8, "<i4").tobytes()
    pointers = (np.arange(rows, dtype="<i8") * 16).tobytes()
    documents = np.arange(rows + 1, dtype="<i8").tobytes()
    counts = np.array([rows, rows + 1], "<u8").tobytes()
    head = b"MMIDIDX\x00\x00" + np.array([1], "<u8").tobytes() + bytes([code])
    return head + counts + sizes + pointers + documents


def _flat(run: Release, name: str, content: bytes | None, **about: Any) -> None:
    path: Path = run.path(f"data/{name}")
    if content is not None:
        path.write_bytes(content)
    _chunk(run, [f"data/{name}"], format="flat", rows=40, **about)


def _chunk(run: Release, files: list[str], **about: Any) -> None:
    """In place of the first chunk."""
    run.manifest["data"]["chunks"][0] = {"name": "part_0", "files": [{"path": f} for f in files], "rows": 40, **about}
    json.dumps(run.manifest["data"]["chunks"][0])
