"""Safetensors files made by hand, sound and broken."""

from __future__ import annotations

import json
import struct
from typing import Any

from portal.tensors import Header, read_header


def packed(header: Any, data: int = 0) -> bytes:
    """A file with this header (JSON value or raw bytes) and ``data`` zero bytes."""
    body = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(body)) + body + bytes(data)


def tensor(dtype: str, shape: list[Any], begin: Any, end: Any) -> dict[str, Any]:
    """One entry of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def parsed(file: bytes) -> Header:
    """The header of these bytes."""
    return read_header(lambda offset, length: file[offset : offset + length], len(file), "model.safetensors")
