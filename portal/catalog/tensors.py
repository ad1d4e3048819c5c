"""Tensors of a checkpoint: names, shapes and dtypes from the headers of its files, never from a pickle."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlmodel import Session, col

from portal.catalog.answers import TensorFile, TensorTable, TensorView
from portal.catalog.checkpoints import find_checkpoint
from portal.catalog.files import FileRow, load_files
from portal.catalog.paging import slice_page
from portal.catalog.release import load_facts
from portal.errors import PortalError
from portal.models import File
from portal.settings import Settings
from portal.storage import open_store
from portal.tensors import Header, ReadRange, read_header, read_index

SAFETENSORS = ".safetensors"
INDEX = ".safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_FILES = 1000
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
    listed = _list(chosen, settings)
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
        disagreements=_compare(rows, listed, settings) if role == "weights" else [],
        items=page.items,
        total=page.total,
        next=page.next,
    )


def _holds_tensors(row: FileRow) -> bool:
    return row.path.endswith((SAFETENSORS, *PICKLED))


def _list(rows: Sequence[FileRow], settings: Settings) -> _Listed:
    listed = _Listed()
    for count, row in enumerate(rows):
        fault = _unread(row)
        if fault is None and (count >= MAX_FILES or listed.header_bytes >= MAX_HEADERS):
            fault = f"Not read: one answer covers up to {MAX_FILES:,} files and {MAX_HEADERS >> 20} MiB of headers."
        header = Header([], {}, 0)
        if fault is None:
            try:
                header = read_header(_reader(row, settings), _size(row, settings), row.path)
            except PortalError as error:
                fault = str(error)
        listed.header_bytes += header.length
        listed.tensors += [
            TensorView(t.name, list(t.shape), t.dtype, t.parameters, t.bytes, row.path) for t in header.tensors
        ]
        parameters = sum(t.parameters for t in header.tensors)
        listed.files.append(
            TensorFile(row.path, row.role, len(header.tensors), parameters, header.length, header.metadata, fault)
        )
    return listed


def _unread(row: FileRow) -> str | None:
    """Why a file is not looked into at all."""
    if not row.path.endswith(SAFETENSORS):
        return "A pickle: reading it would run code it carries, so the portal never opens it."
    if row.local is None:
        where = row.places[0].uri if row.places else "an unknown place"
        lost = any(place.uri.startswith("file://") for place in row.places)
        return (
            "It is no longer where it was published."
            if lost
            else f"It lies at {where}; this portal holds no copy and does not read there yet."
        )
    return None


def _reader(row: FileRow, settings: Settings) -> ReadRange:
    uri = row.local.uri if row.local else ""
    store = open_store(uri, settings)
    return lambda offset, length: store.read_range(uri, offset, length)


def _size(row: FileRow, settings: Settings) -> int:
    """As the file is now, so that one cut short is told by its header and not by a failed read."""
    uri = row.local.uri if row.local else ""
    return open_store(uri, settings).stat(uri).size


def _compare(rows: Sequence[FileRow], listed: _Listed, settings: Settings) -> list[str]:
    """What the index of a sharded model says otherwise; nothing where a shard could not be read."""
    if any(file.fault for file in listed.files):
        return []
    found = {t.name: t.file.rsplit("/", 1)[-1] for t in listed.tensors}
    told: list[str] = []
    for row in rows:
        if row.path.endswith(INDEX) and row.local is not None:
            try:
                told += read_index(_reader(row, settings), _size(row, settings), row.path).compare(found)
            except PortalError as error:
                told.append(str(error))
    return told


def _by_name(tensor: TensorView) -> list[tuple[int, str]]:
    """``layers.2`` before ``layers.10``."""
    parts = _DIGITS.split(tensor.name)
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)]
