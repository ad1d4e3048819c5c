"""Source files of an import, read strictly: what is wrong is named by file and line, and nothing is guessed."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from portal.errors import DataFault, FileMissing

MAX_SOURCE_BYTES = 64 << 20
"""Lists and configs are small; a larger file is not one."""

SHOWN_FAULTS = 5


@dataclass(frozen=True)
class TableRow:
    """One data row of a CSV with the line it stands on (1 is the header)."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


def read_table(path: Path, required: tuple[str, ...]) -> list[TableRow]:
    """Rows of a CSV file that must have the columns ``required``.

    Raises DataFault when columns are absent or rows have another width, naming every faulty line.
    """
    lines = list(csv.reader(_text(path).splitlines()))
    header = [name.strip() for name in lines[0]] if lines else []
    absent = [name for name in required if name not in header]
    if absent:
        raise DataFault(
            f"{path} has no column {', '.join(absent)}; it has {', '.join(header) or 'nothing'}.",
            "Check that this is the file the importer expects.",
        )
    numbered = [(number, cells) for number, cells in enumerate(lines[1:], start=2) if cells]
    refuse_lines(
        path,
        [
            f"line {n} has {len(cells)} columns, {len(header)} expected"
            for n, cells in numbered
            if len(cells) != len(header)
        ],
    )
    return [TableRow(n, {k: v.strip() for k, v in zip(header, cells, strict=True)}) for n, cells in numbered]


def whole_numbers(path: Path, rows: list[TableRow], column: str) -> list[int]:
    """The column as integers >= 0; every line that is not one is named."""
    refuse_lines(
        path,
        [
            f"line {row.line}: {column} is {row[column]!r}, not a whole number"
            for row in rows
            if not re.fullmatch(r"[0-9]{1,15}", row[column])
        ],
    )
    return [int(row[column]) for row in rows]


def refuse_lines(path: Path, faults: list[str]) -> None:
    """Raise one DataFault for all ``faults`` of a file; nothing when there are none."""
    if not faults:
        return
    shown = "; ".join(faults[:SHOWN_FAULTS])
    more = f"; and {len(faults) - SHOWN_FAULTS:,} more" if len(faults) > SHOWN_FAULTS else ""
    raise DataFault(
        f"{path} cannot be used: {shown}{more}.", "Correct these lines, or fetch the file again.", faults=faults
    )


def read_json(path: Path) -> Any:
    """The JSON document in ``path``; DataFault when it is none."""
    try:
        return orjson.loads(_text(path))
    except orjson.JSONDecodeError as error:
        raise DataFault(f"{path} is not JSON: {error}.", "Fetch the file again.") from None


def read_parameters(path: Path) -> dict[str, Any]:
    """Hyper-parameters from YAML or the JSON-in-YAML dialect of GPT-NeoX (comments, trailing commas, ``True``).

    Numbers such as ``5e12`` are numbers (YAML 1.2), dates stay text, infinities become text: the result is JSON.
    """
    try:
        document = yaml.load(_text(path), Loader=_ParameterLoader)  # noqa: S506 - derived from the safe loader
    except (yaml.YAMLError, RecursionError) as error:
        raise DataFault(f"{path} is not YAML: {error}.", "Fetch the file again.") from None
    if not isinstance(document, dict):
        raise DataFault(f"{path} holds no mapping of parameters.", "Check that this is a training config.")
    return {str(key): _jsonable(value) for key, value in document.items()}


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileMissing(
            f"{path} does not exist.", "Give the folder that holds it, as it lies in the public repository."
        )
    if path.stat().st_size > MAX_SOURCE_BYTES:
        raise DataFault(
            f"{path} is larger than {MAX_SOURCE_BYTES:,} bytes.", "Lists and configs are small; this is another file."
        )
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataFault(f"{path} is not UTF-8 text: {error}.", "Fetch the file again.") from None


class _ParameterLoader(yaml.SafeLoader):
    """The safe loader without dates and with YAML 1.2 floats."""


_ParameterLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_ParameterLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
