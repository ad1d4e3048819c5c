"""Tensors as numbers: every float type, differences, and what is not finite."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from portal.errors import DataFault
from portal.tensors.values import Stored, TensorBytes, as_floats, compare, first_not_finite, open_tensors


def stored(path: Path, tensors: dict[str, Any]) -> dict[str, Stored]:
    save_file(tensors, path)
    data = path.read_bytes()
    read = partial(lambda held, offset, length: held[offset : offset + length], data)
    return open_tensors([TensorBytes(path.name, len(data), read)])


def test_bfloat16_is_the_upper_half_of_a_float32() -> None:
    values = np.array([1.0, -2.5, 0.0, 3e38, np.inf, np.nan], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    found = as_floats(halves, "BF16")
    assert found[:3].tolist() == [1.0, -2.5, 0.0]
    assert math.isinf(found[4])
    assert math.isnan(found[5])
    with pytest.raises(DataFault):
        as_floats(b"1", "F8_E4M3")


def test_differences_are_found_to_the_bit(tmp_path: Path) -> None:
    a = np.linspace(-1, 1, 1000, dtype=np.float32).reshape(10, 100)
    b = a.copy()
    b[3, 7] = np.nextafter(b[3, 7], np.float32(9))
    one, other = stored(tmp_path / "a", {"w": a})["w"], stored(tmp_path / "b", {"w": b})["w"]
    assert compare(one, one).equal
    told = compare(one, other)
    assert not told.equal
    assert told.max_abs == float(np.float64(b[3, 7]) - np.float64(a[3, 7]))
    assert told.dot / math.sqrt(told.norm_a * told.norm_b) == pytest.approx(1.0)
    half = stored(tmp_path / "h", {"w": a.astype(np.float16)})["w"]
    assert not compare(one, half).equal
    assert compare(one, half).max_abs < 1e-3
    with pytest.raises(DataFault, match="shape"):
        compare(one, stored(tmp_path / "s", {"w": a.T.copy()})["w"])


def test_what_is_not_finite_is_named(tmp_path: Path) -> None:
    values = np.ones(100, np.float32)
    assert first_not_finite(stored(tmp_path / "a", {"w": values})["w"]) is None
    values[42] = np.inf
    bad = stored(tmp_path / "b", {"w": values})["w"]
    assert first_not_finite(bad) == 42
    assert compare(bad, bad).max_abs == 0
    other = values.copy()
    other[42] = np.nan
    assert math.isnan(compare(bad, stored(tmp_path / "c", {"w": other})["w"]).max_abs)
