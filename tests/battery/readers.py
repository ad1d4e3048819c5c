"""Damaged and invented files for every importer and reader: a clear error of the portal's own, or an answer, nothing else."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portal.errors import PortalError
from tests.battery.figures import Figures, Scale
from tests.battery.samples import SAMPLES, Sample

MOST_REPORTED = 20


def run(scale: Scale) -> Figures:
    """Each reader over its sound file in many damaged forms."""
    figures = Figures(f"damaged files for {len(SAMPLES)} readers and importers")
    count = scale.pick(25, 500, 20_000)
    taken = 0
    for sample in SAMPLES:
        with tempfile.TemporaryDirectory(prefix="battery-") as folder:
            tried, accepted, wrong = damage(sample, Path(folder), count)
        figures.tried += tried
        taken += accepted
        figures.wrong += wrong[:MOST_REPORTED]
    figures.more["read all the same"] = taken
    return figures


def damage(sample: Sample, folder: Path, count: int) -> tuple[int, int, list[str]]:
    """(tried, read all the same, what was wrong) of ``count`` damaged forms; seeded, so that each can be had again."""
    sound = sample.make(folder)
    read = sample.read
    read(folder, sound)
    accepted, wrong = 0, []
    for number in range(count):
        dice = random.Random(f"{sample.name} {number}")
        damaged = mutate(sound, dice, sample.words)
        try:
            read(folder, damaged)
            accepted += 1
        except PortalError as error:
            if not str(error).strip():
                wrong.append(f"{sample.name} {number}: {type(error).__name__} says nothing")
        except Exception as error:
            wrong.append(f"{sample.name} {number}: {type(error).__name__}: {str(error)[:200]}")
    return count, accepted, wrong


def mutate(sound: bytes, dice: random.Random, words: tuple[bytes, ...]) -> bytes:
    """One to four of the ways in which files break."""
    body = bytearray(sound)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        dice.choice(_WAYS)(body, dice, words)
    return bytes(body)


def _flip(body: bytearray, dice: random.Random, _words: Any) -> None:
    if body:
        body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)


def _cut(body: bytearray, dice: random.Random, _words: Any) -> None:
    del body[dice.randrange(len(body) + 1) :]


def _drop(body: bytearray, dice: random.Random, _words: Any) -> None:
    at = dice.randrange(len(body) + 1)
    del body[at : at + dice.choice((1, 2, 8, 100))]


def _double(body: bytearray, dice: random.Random, _words: Any) -> None:
    at, length = dice.randrange(len(body) + 1), dice.choice((1, 8, 64, 500))
    body[at:at] = body[at : at + length]


def _noise(body: bytearray, dice: random.Random, _words: Any) -> None:
    at = dice.randrange(len(body) + 1)
    noise = dice.randbytes(dice.choice((1, 4, 8)))
    body[at : at + len(noise)] = noise


def _extreme(body: bytearray, dice: random.Random, _words: Any) -> None:
    at = dice.randrange(len(body) + 1)
    value = dice.choice((0, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1))
    body[at : at + 8] = value.to_bytes(8, "little")


def _word(body: bytearray, dice: random.Random, words: tuple[bytes, ...]) -> None:
    at = dice.randrange(len(body) + 1)
    word = dice.choice(words)
    body[at : at + dice.choice((0, len(word)))] = word


_WAYS: tuple[Callable[[bytearray, random.Random, tuple[bytes, ...]], None], ...] = (
    _flip, _cut, _drop, _double, _noise, _extreme, _word,
)  # fmt: skip
