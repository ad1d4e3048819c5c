"""Permutations are the ones the trainers drew, number for number."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import OrderUnknown
from portal.tokens.permutations import MAX_ENTRIES, PermutationCache, draw_permutation, permutation

AMBER_ROWS = 1_706_976


def test_amber_begins_with_the_rows_its_trainer_drew_first() -> None:
    """`np.random.seed(11111); np.random.permutation(1706976)` of Amber's chunk 0."""
    assert permutation("numpy-RandomState", 11111, 0, AMBER_ROWS)[:5].tolist() == [
        77555,
        207597,
        940258,
        991812,
        849731,
    ]


@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 400))
def test_random_state_draws_as_numpy_permutation_does(seed: int, draw: int, length: int) -> None:
    stream = np.random.RandomState(seed)
    expected = [stream.permutation(length) for _ in range(draw + 1)][-1]
    assert draw_permutation("numpy-RandomState", seed, draw, length).tolist() == expected.tolist()


@given(st.integers(0, 2**53 - 1), st.integers(0, 3), st.integers(0, 400))
def test_pcg64_shuffles_as_olmo_does_and_as_generator_permutation(seed: int, draw: int, length: int) -> None:
    """OLMo shuffles ``arange(n, uint32)``; `datasets` calls ``default_rng(seed).permutation(n)``."""
    olmo, datasets = np.random.Generator(np.random.PCG64(seed)), np.random.default_rng(seed)
    for _ in range(draw + 1):
        shuffled = np.arange(length, dtype=np.uint32)
        olmo.shuffle(shuffled)
        permuted = datasets.permutation(length)
    drawn = draw_permutation("numpy-PCG64", seed, draw, length).tolist()
    assert drawn == shuffled.tolist()
    assert drawn == permuted.tolist()


def test_pcg64_gives_known_numbers() -> None:
    """Seed 6198 is OLMo's; numpy does not promise this stream forever, so a changed one must be noticed."""
    assert draw_permutation("numpy-PCG64", 42, 0, AMBER_ROWS)[:5].tolist() == [1622752, 621696, 703671, 803483, 1454845]


@given(st.integers(0, 2**53 - 1), st.integers(0, 3), st.integers(0, 200))
def test_python_random_shuffles_a_list(seed: int, draw: int, length: int) -> None:
    stream = random.Random(seed)
    for _ in range(draw + 1):
        numbers = list(range(length))
        stream.shuffle(numbers)
    assert draw_permutation("python-random", seed, draw, length).tolist() == numbers


def test_a_kept_permutation_is_the_same_object_and_cannot_be_changed() -> None:
    first = permutation("numpy-PCG64", 1, 0, 100)
    assert permutation("numpy-PCG64", 1, 0, 100) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_the_cache_holds_no_more_than_its_bytes() -> None:
    cache = PermutationCache(max_bytes=1000)
    for seed in range(10):
        cache.get(("numpy-PCG64", seed, 0, 100))
        assert cache.held_bytes <= 1000
    assert cache.held_bytes == 800
    big = cache.get(("numpy-PCG64", 0, 0, 1000))
    assert len(big) == 1000
    assert cache.held_bytes == big.nbytes


def test_olmos_950_million_rows_are_declined_with_a_way_out() -> None:
    with pytest.raises(OrderUnknown, match="950,000,000") as caught:
        permutation("numpy-PCG64", 6198, 0, 950_000_000)
    assert "kind: index" in caught.value.remedy


@pytest.mark.parametrize(
    ("rng", "seed", "draw", "length", "said"),
    [
        ("numpy-RandomState", 1, 10**12, 100, "entries"),
        ("python-random", 1, 0, MAX_ENTRIES["python-random"] + 1, "rows"),
        ("numpy-RandomState", 2**32, 0, 10, "32 bits"),
        ("jax", 1, 0, 10, "'jax'"),
    ],
)
def test_what_cannot_be_drawn_is_said(rng: str, seed: int, draw: int, length: int, said: str) -> None:
    with pytest.raises(OrderUnknown, match=said):
        permutation(rng, seed, draw, length)
