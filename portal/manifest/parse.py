"""From bytes to plain values: YAML or JSON, with what their parsers let through refused."""

from __future__ import annotations

import json
import math
from typing import Any

import yaml

from portal.errors import Fault, ManifestRefused
from portal.manifest.faults import shown, written

MAX_DEPTH = 64
MAX_NODES = 5_000_000
"""Values a document may stand for once its YAML aliases are written out."""
MAX_DIGITS = 100

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(text: bytes, source: str) -> tuple[Any, list[Fault]]:
    """The document and the keys that stand twice in one mapping.

    JSON where ``source`` ends in ``.json``, or where the text is an object and ``source`` does not
    end in ``.yaml``. Raises ManifestRefused when it is not UTF-8, has a syntax error, is nested too
    deeply, or is a bomb of aliases.
    """
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(source, f"is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from None
    is_yaml = source.endswith((".yaml", ".yml"))
    if source.endswith(".json") or (not is_yaml and decoded.lstrip().startswith("{")):
        return _parse_json(decoded, source)
    return _parse_yaml(decoded, source)


def _parse_json(text: str, source: str) -> tuple[Any, list[Fault]]:
    faults: list[Fault] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(found)
        if len(made) < len(found):
            seen: set[str] = set()
            faults.extend(_twice(key, "") for key, _ in found if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return made

    try:
        document = json.loads(
            text, object_pairs_hook=pairs, parse_constant=_constant, parse_float=_float, parse_int=_int
        )
    except (ValueError, RecursionError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"cannot be read: {error}"
        raise _refused(source, what, "Correct the syntax.") from None
    if _too_deep(document):
        raise _refused(source, f"is nested more than {MAX_DEPTH} levels deep", "A manifest needs no more than ten.")
    return document, faults


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON; leave the value out")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text)} is larger than any number that can be kept")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [v for d in level if isinstance(d, dict | list) for v in (d.values() if isinstance(d, dict) else d)]
        if not level:
            return False
    return True


def _parse_yaml(text: str, source: str) -> tuple[Any, list[Fault]]:
    try:
        extent = _Extent(source)
        for event in yaml.parse(text, Loader=_Loader):
            # Depth and aliases are judged before anything is built: building is what a bomb is made for.
            extent.take(event)
        loader = _ManifestLoader(text)
        try:
            return loader.get_single_data(), loader.faults
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else source
        raise ManifestRefused(
            source, [Fault(where, f"cannot be read as YAML: {problem}", "Correct the syntax.")]
        ) from None
    except ValueError as error:
        # A date or number that is spelt like one and is none, e.g. 2024-13-45.
        raise _refused(source, f"holds a value that cannot be read: {error}", "Put it in quotes.") from None


class _ManifestLoader(_Loader):  # type: ignore[misc]
    """The safe loader, except that a key that stands twice is noted instead of forgotten."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.faults: list[Fault] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                continue
            if key.value in seen:
                self.faults.append(_twice(key.value, f"line {key.start_mark.line + 1}"))
            seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


class _Extent:
    """How deep a YAML text is nested and how many values it stands for, from its events alone."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sizes: dict[str | None, int] = {}
        self._open: list[list[Any]] = [[None, 0]]
        """Anchor and size so far of every collection that is still open."""

    def take(self, event: yaml.Event) -> None:
        """Count one event; ManifestRefused for a bomb."""
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append([event.anchor, 1])
            if len(self._open) > MAX_DEPTH:
                raise self._refused(
                    f"is nested more than {MAX_DEPTH} levels deep", "A manifest needs no more than ten."
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = self._open.pop()
            self._add(anchor, size)
        elif isinstance(event, yaml.ScalarEvent):
            self._add(event.anchor, 1)
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in self._open):
                raise self._refused(f"contains itself through *{shown(event.anchor)}", "Write the value out.")
            self._add(None, self._sizes.get(event.anchor, 1))

    def _add(self, anchor: str | None, size: int) -> None:
        if anchor is not None:
            self._sizes[anchor] = size
        self._open[-1][1] += size
        if self._open[-1][1] > MAX_NODES:
            raise self._refused(
                f"stands for more than {MAX_NODES:,} values", "Write patterns instead of lists or aliases."
            )

    def _refused(self, what: str, remedy: str) -> ManifestRefused:
        return _refused(self._source, what, remedy)


def _twice(key: str, where: str) -> Fault:
    return Fault(where or written((key,)), f"the key {shown(key)!r} stands twice in one mapping", "Keep one of them.")


def _refused(source: str, what: str, remedy: str) -> ManifestRefused:
    return ManifestRefused(source, [Fault(source, what, remedy)])
