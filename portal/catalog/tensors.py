"""Tensors of a checkpoint: names, shapes and dtypes from the headers of its files, never from a pickle."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

from sqlmodel import Session, col

from portal.catalog.answers import TensorFile, TensorTable, TensorView
from portal.catalog.checkpoints import find_checkpoint
from portal.catalog.files import FileRow, load_files, place_in_reach
from portal.catalog.paging import slice_page
from portal.catalog.reach import is_far, readable_file
from portal.catalog.release import load_facts
from portal.database import let_go
from portal.errors import PortalError
from portal.models import File
from portal.settings import Settings
from portal.tensors import Header, ReadRange, read_header, read_index
from portal.tokens.readers import ReadableFile

SAFETENSORS = ".safetensors"
INDEX = ".safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_FILES = 1000
PARALLEL = 16
"""Headers read at once where they lie on another server."""
MAX_HEADERS = 64 << 20
"""Bytes of headers read for one answer, over all files."""
_DIGITS = re.compile(r"([0-9]{1,18})")


@dataclass
class _Listed:
    files: list[TensorFile] = field(default_factory=list)
    tensors: list[TensorView] = field(default_factory=list)
    header_bytes: int = 0


def list_tensors(  # noqa: PLR0913 - the whole question in one call
    session: Session,
    settings: Settings,
    run: str,
    step_or_label: int | str,
    role: str = "weights",
    name: str = "",
    limit: int = 100,
    cursor: str | None = None,
) -> TensorTable:
    """Tensors of the files of ``role`` whose name contains ``name``, by name, numbers counted as numbers.

    A file that is not here, is pickled, or has a broken header carries its fault; the others are listed.
    """
    facts = load_facts(session, run)
    checkpoint = find_checkpoint(facts, step_or_label)
    rows = load_files(session, facts.head.id, col(File.checkpoint_id) == checkpoint.id)
    chosen = [row for row in rows if row.role == role and _holds_tensors(row)]
    opened = {row.id: readable_file(session, settings, row) for row in rows if _is_wanted(row, chosen)}
    if is_far(list(opened.values())):
        let_go(session)
    listed = _list(chosen, opened)
    named = [t for t in listed.tensors if name.lower() in t.name.lower()]
    page = slice_page(sorted(named, key=_by_name), facts.head.version, limit, cursor)
    dtypes: Counter[str] = Counter()
    for tensor in listed.tensors:
        dtypes[tensor.dtype] += tensor.parameters
    return TensorTable(
        run=run,
        step=checkpoint.row.step,
        label=next(iter(checkpoint.row.labels), None),
        role=role,
        roles=list(dict.fromkeys(row.role for row in rows if _holds_tensors(row))),
        files=listed.files,
        parameters=sum(t.parameters for t in listed.tensors),
        bytes=sum(t.bytes for t in listed.tensors),
        dtypes=dict(dtypes.most_common()),
        disagreements=_compare(rows, listed, opened) if role == "weights" else [],
        items=page.items,
        total=page.total,
        next=page.next,
    )


def lie_elsewhere(session: Session, settings: Settings, run: str, step_or_label: int | str, role: str) -> bool:
    """Whether `list_tensors` would ask another server."""
    facts = load_facts(session, run)
    rows = load_files(session, facts.head.id, col(File.checkpoint_id) == find_checkpoint(facts, step_or_label).id)
    chosen = [row for row in rows if row.role == role and _holds_tensors(row)]
    return is_far([readable_file(session, settings, row) for row in rows if _is_wanted(row, chosen)])


def _holds_tensors(row: FileRow) -> bool:
    return row.path.endswith((SAFETENSORS, *PICKLED))


def _is_wanted(row: FileRow, chosen: Sequence[FileRow]) -> bool:
    return place_in_reach(row) is not None and (
        row.path.endswith(INDEX) or (row in chosen and row.path.endswith(SAFETENSORS))
    )


def _list(rows: Sequence[FileRow], opened: Mapping[int, ReadableFile]) -> _Listed:
    listed = _Listed()
    far = is_far(list(opened.values()))
    with ThreadPoolExecutor(PARALLEL) if far else nullcontext() as pool:
        for first in range(0, len(rows), PARALLEL):
            some = [(row, _unread(row, first, listed)) for row in rows[first : first + PARALLEL]]
            ask = partial(_header, opened)
            for (row, _), (header, fault) in zip(some, (pool.map if pool else map)(ask, some), strict=True):
                _add(listed, row, header, fault)
    return listed


def _header(opened: Mapping[int, ReadableFile], asked: tuple[FileRow, str | None]) -> tuple[Header, str | None]:
    row, fault = asked
    if fault is None:
        try:
            return read_header(_reader(opened[row.id]), _size(opened[row.id]), row.path), None
        except PortalError as error:
            fault = str(error)
    return Header([], {}, 0), fault


def _add(listed: _Listed, row: FileRow, header: Header, fault: str | None) -> None:
    listed.header_bytes += header.length
    listed.tensors += [
        TensorView(t.name, list(t.shape), t.dtype, t.parameters, t.bytes, row.path) for t in header.tensors
    ]
    parameters = sum(t.parameters for t in header.tensors)
    listed.files.append(
        TensorFile(row.path, row.role, len(header.tensors), parameters, header.length, header.metadata, fault)
    )


def _unread(row: FileRow, count: int, listed: _Listed) -> str | None:
    """Why a file is not looked into at all."""
    if not row.path.endswith(SAFETENSORS):
        return "A pickle: reading it would run code it carries, so the portal never opens it."
    if place_in_reach(row) is None:
        where = row.places[0].uri if row.places else "an unknown place"
        lost = any(place.uri.startswith("file://") for place in row.places)
        return (
            "It is no longer where it was published."
            if lost
            else f"It lies at {where}; this portal holds no copy and does not read there."
        )
    if count >= MAX_FILES or listed.header_bytes >= MAX_HEADERS:
        return f"Not read: one answer covers up to {MAX_FILES:,} files and {MAX_HEADERS >> 20} MiB of headers."
    return None


def _reader(file: ReadableFile) -> ReadRange:
    return lambda offset, length: file.store.read_range(file.uri, offset, length)


def _size(file: ReadableFile) -> int:
    """As the file is now, so that one cut short is told by its header and not by a failed read."""
    return file.store.seen(file.uri).size


def _compare(rows: Sequence[FileRow], listed: _Listed, opened: Mapping[int, ReadableFile]) -> list[str]:
    """What the index of a sharded model says otherwise; nothing where a shard could not be read."""
    if any(file.fault for file in listed.files):
        return []
    found = {t.name: t.file.rsplit("/", 1)[-1] for t in listed.tensors}
    told: list[str] = []
    for row in rows:
        if row.path.endswith(INDEX) and row.id in opened:
            file = opened[row.id]
            try:
                told += read_index(_reader(file), _size(file), row.path).compare(found)
            except PortalError as error:
                told.append(str(error))
    return told


def _by_name(tensor: TensorView) -> list[tuple[int, str]]:
    """``layers.2`` before ``layers.10``."""
    parts = _DIGITS.split(tensor.name)
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)]
