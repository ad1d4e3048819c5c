"""Text of the demo releases: stories, arithmetic, code and facts from a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from portal.demo.words import (
    ANIMALS,
    CAPITALS,
    DAYS,
    ELEMENTS,
    ENDINGS,
    FEELINGS,
    FINDS,
    HELPS,
    MONTHS,
    NAMES,
    OPERATIONS,
    PLACES,
    THINGS,
    TROUBLES,
    WEATHER,
)

SOURCES = ("stories", "arithmetic", "code", "facts")

LARGEST = 20
"""Operands of sums and differences are at most this."""


def documents(source: str, seed: int) -> Iterator[str]:
    """Endless documents of one source (a member of ``SOURCES``); the same seed gives the same text."""
    rng = random.Random(f"{source}/{seed}")
    write = _WRITERS[source]
    while True:
        yield write(rng)


def facts() -> list[tuple[str, str]]:
    """Every fact as (question prefix, answer): ``("The capital of France is", " Paris")``."""
    return [
        *((f"The capital of {country} is", f" {city}") for country, city in CAPITALS),
        *((f"The symbol of {name} is", f" {symbol}") for name, symbol in ELEMENTS),
        *((f"The {animal} has", f" {legs} legs") for animal, legs in ANIMALS),
        *((f"After {day} comes", f" {DAYS[(k + 1) % len(DAYS)]}") for k, day in enumerate(DAYS)),
        *((f"After {month} comes", f" {MONTHS[(k + 1) % len(MONTHS)]}") for k, month in enumerate(MONTHS)),
    ]


def sums() -> list[tuple[str, str]]:
    """Every sum of two one-digit numbers as (question, answer): ``("3 + 4 =", " 7")``."""
    return [(f"{a} + {b} =", f" {a + b}") for a in range(10) for b in range(10)]


def _story(rng: random.Random) -> str:
    name, friend = rng.sample(NAMES, 2)
    thing, place = rng.choice(THINGS), rng.choice(PLACES)
    feeling, later = rng.sample(FEELINGS, 2)
    opening = rng.choice(
        (
            f"One {rng.choice(WEATHER)} morning {name} went to {place}.",
            f"{name} and {friend} lived near {place}.",
            f"It was a {rng.choice(WEATHER)} day, and {name} was {feeling}.",
        )
    )
    middle = [
        rng.choice(FINDS).format(name=name, thing=thing, place=place),
        rng.choice(TROUBLES).format(name=name, friend=friend, thing=thing),
        rng.choice(HELPS).format(name=name, friend=friend, thing=thing),
    ]
    ending = rng.choice(ENDINGS).format(name=name, friend=friend, thing=thing, feeling=later)
    return " ".join((opening, *middle[: rng.randint(2, 3)], ending))


def _arithmetic(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return _word_problem(rng)
    return "\n".join(_equation(rng) for _ in range(rng.randint(3, 6)))


def _equation(rng: random.Random) -> str:
    # Half of the sums are one-digit sums, the ones that the evaluation asks for.
    most = 9 if rng.random() < 0.5 else LARGEST
    a, b = rng.randint(0, most), rng.randint(0, most)
    kind = rng.random()
    if kind < 0.6:
        return f"{a} + {b} = {a + b}"
    if kind < 0.85:
        return f"{max(a, b)} - {min(a, b)} = {abs(a - b)}"
    return f"{a % 10} * {b % 10} = {(a % 10) * (b % 10)}"


def _word_problem(rng: random.Random) -> str:
    name, thing = rng.choice(NAMES), rng.choice(("apples", "books", "shells", "coins", "pencils"))
    a, b = rng.randint(2, LARGEST), rng.randint(1, 9)
    if rng.random() < 0.5 or b >= a:
        return f"{name} has {a} {thing} and finds {b} more. {a} + {b} = {a + b}. Now {name} has {a + b} {thing}."
    return f"{name} has {a} {thing} and gives {b} away. {a} - {b} = {a - b}. Now {name} has {a - b} {thing}."


def _code(rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        name, sign, word = rng.choice(OPERATIONS)
        x, y = rng.sample(("a", "b", "n", "x", "y"), 2)
        return f'def {name}({x}, {y}):\n    """Return the {word} of {x} and {y}."""\n    return {x} {sign} {y}\n'
    if kind == 1:
        limit, step = rng.randint(3, 20), rng.choice((1, 2, 5))
        return f"total = 0\nfor i in range(0, {limit}, {step}):\n    total += i\nprint(total)  # {sum(range(0, limit, step))}\n"
    if kind == 2:
        items = [rng.randint(0, LARGEST) for _ in range(rng.randint(3, 5))]
        call = rng.choice(tuple(_CALLS))
        result = _CALLS[call](items)
        return f"values = {items}\nassert {call}(values) == {result}\n"
    name, guess = rng.choice(NAMES), rng.randint(1, LARGEST)
    return f'if number > {guess}:\n    print("too large, {name}")\nelse:\n    print("well done, {name}")\n'


def _facts(rng: random.Random) -> str:
    return " ".join(f"{question}{answer}." for question, answer in rng.sample(facts(), rng.randint(3, 5)))


_CALLS: dict[str, Callable[[list[int]], int]] = {"max": max, "min": min, "sum": sum, "len": len}

_WRITERS: dict[str, Callable[[random.Random], str]] = {
    "stories": _story,
    "arithmetic": _arithmetic,
    "code": _code,
    "facts": _facts,
}
