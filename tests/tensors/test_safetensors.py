"""Headers: what the format's own writer writes, and every way to lie in one."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from portal.errors import DataFault, PortalError, TooLarge
from portal.tensors import MAX_HEADER, read_header, read_index
from tests.tensors.headers import packed, parsed, tensor


def test_a_file_of_the_formats_own_writer() -> None:
    arrays = {"b": np.zeros((3, 4), np.float32), "a": np.zeros(5, np.float16), "none": np.zeros((0, 7), np.int64)}
    header = parsed(save(arrays, {"format": "np"}))
    assert {t.name: (t.dtype, t.shape, t.parameters, t.bytes) for t in header.tensors} == {
        "b": ("F32", (3, 4), 12, 48),
        "a": ("F16", (5,), 5, 10),
        "none": ("I64", (0, 7), 0, 0),
    }
    assert header.metadata == {"format": "np"}


def test_a_scalar_and_an_empty_file() -> None:
    assert parsed(packed({"x": tensor("F32", [], 0, 4)}, 4)).tensors[0].parameters == 1
    assert parsed(packed({})).tensors == []


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"", "has 0 bytes"),
        (b"\x01\x02", "has 2 bytes"),
        (struct.pack("<Q", 2**63) + bytes(100), "9,223,372,036,854,775,808 bytes long"),
        (struct.pack("<Q", 2**64 - 1), "bytes follow"),
        (packed(b"{nope"), "no JSON"),
        (packed(b"\xff\xfe{}"), "no JSON"),
        (packed(b"[" * 5000), "no JSON"),
        (packed([]), "no JSON object"),
        (packed({"__metadata__": [1]}), "__metadata__"),
        (packed({"x": 3}), "dtype nobody knows"),
        (packed({"x": tensor("PICKLE", [1], 0, 4)}, 4), "dtype nobody knows"),
        (packed({"x": {"dtype": ["F32"]}}), "dtype nobody knows"),
        (packed({"x": tensor("F32", [-1], 0, 4)}, 4), "shape"),
        (packed({"x": tensor("F32", [True], 0, 4)}, 4), "shape"),
        (packed({"x": tensor("F32", [1.0], 0, 4)}, 4), "shape"),
        (packed({"x": tensor("F32", [2**40, 2**40], 0, 4)}, 4), "shape"),
        (packed({"x": tensor("F32", [1] * 40, 0, 4)}, 4), "shape"),
        (packed({"x": tensor("F32", [1], 4, 0)}, 4), "offsets"),
        (packed({"x": tensor("F32", [1], 0, 2**70)}, 4), "offsets"),
        (packed({"x": {"dtype": "F32", "shape": [1]}}, 4), "offsets"),
        (packed({"x": tensor("F32", [3], 0, 4)}, 4), "do not fill"),
        (packed({"x": tensor("F32", [1], 0, 4), "y": tensor("F32", [1], 2, 6)}, 6), "overlaps"),
        (packed({"x": tensor("F32", [1], 0, 4), "y": tensor("F32", [1], 8, 12)}, 12), "4 bytes unused"),
        (packed({"x": tensor("F32", [1], 0, 4)}, 9), "holds 9"),
        (packed({"x" * 2000: tensor("F32", [1], 0, 4)}, 4), "2,000 characters"),
    ],
)
def test_a_header_that_lies_is_told_apart(file: bytes, says: str) -> None:
    with pytest.raises(DataFault, match=r"model\.safetensors") as refused:
        parsed(file)
    assert says in refused.value.message
    assert len(refused.value.message) < 600


def test_an_enormous_header_is_refused_unread() -> None:
    asked: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return struct.pack("<Q", 100_000_000) + bytes(length - 8)

    with pytest.raises(TooLarge, match="100,000,000"):
        read_header(read, 200_000_000, "big.safetensors")
    assert sum(length for _, length in asked) < MAX_HEADER / 100


def test_a_long_header_takes_two_reads_and_no_byte_of_a_tensor() -> None:
    entries = {f"layer.{k}": tensor("F32", [1], 4 * k, 4 * k + 4) for k in range(3000)}
    file = packed(entries, 12_000)
    asked: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return file[offset : offset + length]

    assert len(read_header(read, len(file), "m").tensors) == 3000
    assert len(asked) == 2
    assert asked[1][0] + asked[1][1] == len(file) - 12_000


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(file: bytes) -> None:
    with contextlib.suppress(PortalError):
        parsed(file)


_json: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), _json, max_size=4), st.integers(0, 64))
def test_any_json_is_read_or_refused(header: dict[str, Any], data: int) -> None:
    with contextlib.suppress(PortalError):
        parsed(packed(header, data))


def test_an_index_and_where_the_shards_differ() -> None:
    body = json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}}).encode()
    index = read_index(lambda _o, _n: body, len(body), "index.json")
    assert index.compare({"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}) == []
    told = index.compare({"a": "2.safetensors", "b": "2.safetensors", "d": "2.safetensors"})
    assert [t.split(" are ")[1].split(",")[0] for t in told] == [
        "in the index but in no shard",
        "in a shard but not in the index",
        "in another shard than the index says",
    ]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"weight_map": 3}', b'{"weight_map": {"a": 1}}'])
def test_an_index_that_is_none(body: bytes) -> None:
    with pytest.raises(DataFault, match=r"index\.json"):
        read_index(lambda _o, _n: body, len(body), "index.json")
