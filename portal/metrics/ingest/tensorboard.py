"""TensorBoard event files: TFRecord framing, checked record by record, around Event messages.

Framing: u64 length, u32 masked CRC32C of it, the record, u32 masked CRC32C of the record, all
little-endian (tensorflow/core/lib/io/record_writer.cc). Scalars are ``simple_value`` (float32)
or a tensor of one element. Tags ``… vs samples`` count consumed samples on x, not steps
(Megatron writes each metric both ways).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event

from portal.errors import DataFault
from portal.manifest.schema import MetricFile, SeriesDefinition
from portal.metrics.ingest.assemble import assemble
from portal.metrics.ingest.table import SHOWN, Column, Ingested, IngestNote, StepsOf, Table

SAMPLES = " vs samples"
MAX_RECORD = 1 << 30
X = "event step"
"""Name of the x column of one tag's table."""
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}
"""TensorFlow DataType codes of scalars, for ``tensor_content``."""
_FIELDS = {1: "float_val", 2: "double_val", 3: "int_val", 9: "int64_val", 19: "half_val"}


def read_tensorboard(path: Path, spec: MetricFile, source: str, steps_of: StepsOf | None) -> Ingested:
    """Every scalar tag as a series (or those that ``spec.series`` names by ``column``).

    With ``x_kind: samples`` the ``… vs samples`` tags are read and their x converted by ``steps_of``;
    otherwise they are left out with a note. Raises DataFault with the byte offset for a truncated
    record or a CRC that does not match.
    """
    points, others = _scalars(path)
    notes: list[IngestNote] = []
    by_samples = spec.x_kind == "samples"
    left = [tag for tag in points if tag.endswith(SAMPLES) != by_samples]
    if left:
        kept = "consumed samples" if by_samples else "steps"
        message = f"{path.name}: {len(left)} tags do not count {kept} on x and are left out: {', '.join(left[:SHOWN])}."
        notes.append(IngestNote("tags-by-other-x", message, {"file": path.name, "tags": left}))
    if others:
        message = f"{path.name}: {sum(others.values())} summaries are no scalars and are left out ({len(others)} tags)."
        notes.append(
            IngestNote(
                "summaries-without-scalars", message, {"file": path.name, "tags": dict(list(others.items())[:20])}
            )
        )
    chosen = {tag: cells for tag, cells in points.items() if tag not in left}
    if not chosen:
        raise DataFault(f"{path.name} holds no scalar by {spec.x_kind}.", "Set x_kind to what its tags count.")
    unknown = [d.column for d in spec.series.values() if d.column not in chosen]
    if unknown:
        raise DataFault(f"{path.name} has no tag {unknown[0]!r}.", f"Name one of: {', '.join(chosen)}.")
    definitions = spec.series or {tag: SeriesDefinition(column=tag, group=spec.group) for tag in chosen}
    series = []
    for name, definition in definitions.items():
        table = _table(path.name, definition.column, chosen[definition.column])
        one = assemble(table, spec.model_copy(update={"x": X, "series": {name: definition}}), source, steps_of)
        series += one.series
        notes += one.notes
    return Ingested(series, _merged(notes))


def _scalars(path: Path) -> tuple[dict[str, tuple[list[int], list[float]]], dict[str, int]]:
    """Per tag its x and values in file order; and how many summaries of other kinds each other tag has."""
    points: dict[str, tuple[list[int], list[float]]] = {}
    others: dict[str, int] = {}
    for offset, record in _records(path):
        try:
            event = Event.FromString(record)
        except DecodeError as error:
            raise DataFault(
                f"{path.name}, byte {offset}: not a TensorBoard event ({error}).", "Copy the file again."
            ) from None
        for value in event.summary.value:
            number = _scalar(value)
            if number is None:
                others[value.tag] = others.get(value.tag, 0) + 1
                continue
            cells = points.get(value.tag)
            if cells is None:
                cells = points[value.tag] = ([], [])
            cells[0].append(event.step)
            cells[1].append(number)
    return points, others


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        offset = 0
        while head := file.read(12):
            if len(head) < 12:
                raise _truncated(path, offset)
            length, check = struct.unpack("<QI", head)
            if _masked(head[:8]) != check:
                raise DataFault(
                    f"{path.name}, byte {offset}: the CRC of a record's length does not match.", "Copy the file again."
                )
            if length > MAX_RECORD:
                raise DataFault(f"{path.name}, byte {offset}: a record of {length} bytes.", "Write scalars only.")
            body = file.read(length + 4)
            if len(body) < length + 4:
                raise _truncated(path, offset)
            record = body[:length]
            if _masked(record) != struct.unpack_from("<I", body, length)[0]:
                raise DataFault(
                    f"{path.name}, byte {offset}: the CRC of a record does not match.", "Copy the file again."
                )
            yield offset, record
            offset += length + 16
        if not offset:
            raise DataFault(f"{path.name} is empty.", "Publish the file that holds the numbers.")


def _masked(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _truncated(path: Path, offset: int) -> DataFault:
    return DataFault(f"{path.name}, byte {offset}: the file ends inside a record.", "Copy the file again.")


def _scalar(value: Any) -> float | None:
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return float(value.simple_value)
    if kind != "tensor":
        return None
    tensor = value.tensor
    if any(dim.size != 1 for dim in tensor.tensor_shape.dim):
        return None
    if tensor.tensor_content and tensor.dtype in _DTYPES:
        numbers = np.frombuffer(tensor.tensor_content, _DTYPES[tensor.dtype])
        return float(numbers[0]) if len(numbers) == 1 else None
    found = getattr(tensor, _FIELDS[tensor.dtype]) if tensor.dtype in _FIELDS else []
    if len(found) != 1:
        return None
    if tensor.dtype == 19:  # half floats travel as the integer of their bits
        return float(np.array(found[0], dtype="<u2").view("<f2"))
    return float(found[0])


def _table(file: str, tag: str, cells: tuple[list[int], list[float]]) -> Table:
    x, values = (np.array(part, dtype=np.float64) for part in cells)
    columns = {X: Column(x, None), tag: Column(values, None)}
    return Table(file, len(x), columns, lambda row: f"event {row + 1} of {tag!r}")


def _merged(notes: list[IngestNote]) -> list[IngestNote]:
    """One note per code: a restart makes the same remark about every tag."""
    first: dict[str, IngestNote] = {}
    for note in notes:
        known = first.get(note.code)
        if known is None:
            first[note.code] = note
        else:
            series = known.evidence.get("series", {}) | note.evidence.get("series", {})
            evidence = {**known.evidence, "notes": known.evidence.get("notes", 1) + 1}
            first[note.code] = IngestNote(
                note.code, known.message, evidence | ({"series": series} if series else {}), known.step
            )
    return list(first.values())
