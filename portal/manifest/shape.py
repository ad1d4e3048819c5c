"""Faults of shape in words a person can act on, and what is left of a manifest without them."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pydantic import BaseModel, ValidationError

from portal.manifest.expand import expand_names
from portal.manifest.faults import Contradiction, Place, listed, nearest, shown
from portal.manifest.schema import FORMAT, MAX_INT, Manifest, NamePattern

MAX_NAMES = 100_000

_FORMATS = {
    "run": ("is not a run name", "Write org/name in lower-case letters, digits, dots, dashes and underscores."),
    "sha256": ("is not a sha256", "Write its 64 hexadecimal digits in lower case."),
}


@dataclass
class Salvaged:
    """What of a document has the right shape."""

    manifest: Manifest | None
    faults: list[Contradiction]
    numbers: dict[Place, list[int]] = field(default_factory=dict)
    """For each shortened list, the number that each of its entries has in the document."""
    dropped: dict[Place, dict[int, Any]] = field(default_factory=dict)
    """Entries with faults, by list and by their number in the document."""

    @property
    def dropped_chunks(self) -> frozenset[str]:
        """Names of chunks that have faults: they exist, so an order that lists them is not wrong for that."""
        names: set[str] = set()
        for entry in self.dropped.get(("data", "chunks"), {}).values():
            if isinstance(entry, dict):
                names |= _names_of(entry)
        return frozenset(names)

    def place(self, place: Place) -> Place:
        """A place in ``manifest`` as a place in the document."""
        for length in range(len(place)):
            head, number = place[:length], place[length]
            if head in self.numbers and isinstance(number, int):
                return (*head, self.numbers[head][number], *place[length + 1 :])
        return place


def salvage(document: Any) -> Salvaged:
    """Validate a document; where parts have faults, the rest is kept so that it can be checked as well."""
    try:
        return Salvaged(Manifest.model_validate(document), [])
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=True)
    faults = _in_words(errors, document)
    left = Salvaged(None, faults)
    if isinstance(document, dict):
        rest = _without([_real_place(e["loc"], document) for e in errors], document, left)
        try:
            left.manifest = Manifest.model_validate(rest)
        except ValidationError:
            left.manifest = None
    return left


def _in_words(errors: list[Any], document: Any) -> list[Contradiction]:
    found: dict[Place, Contradiction] = {}
    places = [_real_place(error["loc"], document) for error in errors]
    deeper = {place[:length] for place in places for length in range(len(place))}
    for error, place in zip(errors, places, strict=True):
        # A union reports one error a member: the member that looks inside the value is the one that was meant,
        # else the first.
        if error["type"] in ("list_type", "model_type") and place in deeper:
            continue
        found.setdefault(place, Contradiction(place, *_words(error, place)))
    return list(found.values())


def _words(error: Any, place: Place) -> tuple[str, str]:
    value, context, kind = error.get("input"), error.get("ctx", {}), error["type"]
    name = str(place[-1]) if place else ""
    if kind == "missing":
        return "is missing", _remedy_for_missing(place)
    if kind == "extra_forbidden":
        known = _keys_at(place[:-1])
        return "is not a key of the manifest", nearest(name, known) or f"Known here are {listed(known, 40)}."
    if kind == "string_pattern_mismatch":
        what, remedy = _FORMATS.get(name, ("has the wrong form", f"It must match {context.get('pattern', '')}."))
        return f"{shown(value)!r} {what}", remedy
    if kind == "literal_error":
        return f"{shown(value)!r} is none of {context.get('expected', '')}", _did_you_mean(value, context)
    if kind in _PLAIN:
        return f"{shown(value)} {_PLAIN[kind][0]}", _PLAIN[kind][1]
    told = _WORDS.get(kind)
    return told(value, context) if told else (f"is wrong: {error['msg']}", "Correct the value.")


_Words = Callable[[Any, Mapping[str, Any]], tuple[str, str]]


def _number(value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
    if isinstance(value, str):
        return (
            f"{shown(value)!r} is text, not a whole number",
            "Write its digits without quotes, separators or exponent.",
        )
    return f"{shown(value)} is not a whole number", "Write a whole number."


def _text(value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
    remedy = "Put it in quotes." if isinstance(value, int | float | date | bool) else "Write text."
    return f"{shown(value)} is not text", remedy


def _mapping(value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
    return f"{shown(value)} is not a mapping", "Write `key: value` pairs."


def _list(value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
    return f"{shown(value)} is not a list", "Write a list, `[...]` or one `- ` line an entry."


_WORDS: dict[str, _Words] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _number),
    **dict.fromkeys(("string_type", "string_unicode"), _text),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), _mapping),
    "list_type": _list,
    "greater_than_equal": lambda v, c: (f"{shown(v)} is too small", f"The smallest value is {c.get('ge')}."),
    "less_than_equal": lambda v, c: (f"{shown(v)} is too large", _largest(c.get("le"))),
    "string_too_long": lambda v, c: (f"is {len(v):,} characters long", f"Write at most {c.get('max_length'):,}."),
}
_PLAIN = {
    "string_too_short": ("is empty text", "Write at least one character."),
    "bool_type": ("is neither true nor false", "Write true or false."),
    "bool_parsing": ("is neither true nor false", "Write true or false."),
    "float_type": ("is not a number", "Write a number."),
    "float_parsing": ("is not a number", "Write a number."),
    "finite_number": ("is not a finite number", "Write a number, or leave the key out."),
}


def _largest(limit: Any) -> str:
    return f"The largest value is {limit}" + (" (2^53 - 1, exact everywhere)." if limit == MAX_INT else ".")


def _did_you_mean(value: Any, context: Mapping[str, Any]) -> str:
    expected = [part.strip(" '") for part in str(context.get("expected", "")).replace(" or ", ", ").split(",")]
    if len(expected) == 1:
        return f"Write {expected[0]}."
    return nearest(value, expected) if isinstance(value, str) else "Write one of them."


def _remedy_for_missing(place: Place) -> str:
    if place == ("format",):
        return f"Write `format: {FORMAT}`."
    if place == ("run",):
        return "Write `run: org/name`."
    return f"Add `{place[-1]}`."


def _real_place(location: tuple[int | str, ...], document: Any) -> Place:
    """pydantic's location without the names of union members, which stand nowhere in the document."""
    place: list[int | str] = []
    value = document
    for number, part in enumerate(location):
        last = number == len(location) - 1
        in_list = isinstance(part, int) and isinstance(value, list) and part < len(value)
        if in_list or (isinstance(value, dict) and part in value):
            value = value[part]
        elif not (isinstance(part, str) and last and isinstance(value, dict) and "[" not in part):
            continue
        if part == "[key]":
            continue
        place.append(part)
    return tuple(place)


def _keys_at(place: Place) -> list[str]:
    model: Any = Manifest
    for part in place:
        model = _member(model, part)
    found = _model_in(model)
    return list(found.model_fields) if found else []


def _member(annotation: Any, part: int | str) -> Any:
    model = _model_in(annotation)
    if isinstance(part, str) and model and part in model.model_fields:
        return model.model_fields[part].annotation
    for option in _options(annotation):
        if typing.get_origin(option) in (list, dict):
            return typing.get_args(option)[-1]
    return None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    return next((o for o in _options(annotation) if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _options(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        return _options(typing.get_args(annotation)[0])
    return (annotation,)


def _names_of(entry: dict[str, Any]) -> set[str]:
    if isinstance(entry.get("name"), str):
        return {entry["name"]}
    try:
        pattern = NamePattern.model_validate(entry.get("names"))
        return {name for _, name in expand_names(None, pattern)} if pattern.count <= MAX_NAMES else set()
    except (ValidationError, KeyError, ValueError, TypeError):
        return set()


_STAND_INS: dict[str, Any] = {"format": FORMAT, "run": "not/named", "training": {"last_step": 0}}


def _without(places: list[Place], document: dict[str, Any], left: Salvaged) -> dict[str, Any]:
    """The document without its wrong parts: entries of lists whole, other values by their key."""
    rest: dict[str, Any] = deepcopy(document) if document else {}
    lists: dict[Place, set[int]] = {}
    for place in places:
        number = next((k for k, part in enumerate(place) if isinstance(part, int)), None)
        if number is not None:
            lists.setdefault(place[:number], set()).add(int(place[number]))
        elif place:
            _drop(rest, place)
    for place, numbers in lists.items():
        holder = _at(rest, place)
        if isinstance(holder, list):
            left.dropped[place] = {k: entry for k, entry in enumerate(holder) if k in numbers}
            left.numbers[place] = [k for k in range(len(holder)) if k not in numbers]
            holder[:] = [holder[k] for k in left.numbers[place]]
    for key, value in _STAND_INS.items():
        if key == "training" and isinstance(rest.get(key), dict):
            rest[key].setdefault("last_step", 0)
        rest.setdefault(key, value)
    return rest


def _drop(document: dict[str, Any], place: Place) -> None:
    holder = _at(document, place[:-1])
    if isinstance(holder, dict):
        holder.pop(place[-1], None)


def _at(document: Any, place: Place) -> Any:
    for part in place:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document
