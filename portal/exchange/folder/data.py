"""Data files of a local folder: their format from their names and first bytes, never from a guess that hides itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from portal.errors import DataFault
from portal.exchange.draft import Draft
from portal.exchange.patterns import escape

NPY_MAGIC = b"\x93NUMPY"
DTYPES = {"uint8": "u8", "uint16": "u16", "uint32": "u32", "int32": "i32", "int64": "i64"}
SUFFIXES = {".jsonl": "jsonl", ".h5": "hdf5", ".hdf5": "hdf5", ".parquet": "parquet", ".arrow": "arrow"}
PACKED = (".gz", ".zst")


def add_data(draft: Draft, source: Path, vocabulary: int | None) -> None:
    """One chunk per data file below ``data/`` (an .idx belongs to its .bin); the order is unknown."""
    chunks = []
    for path in sorted(p for p in (source / "data").rglob("*") if p.is_file() and not p.is_symlink()):
        chunk = _chunk(draft, source, path, vocabulary)
        if chunk is not None:
            chunks.append({"name": path.relative_to(source / "data").as_posix(), **chunk})
    if not chunks:
        return
    draft.document["data"] = {"chunks": chunks, "order": []}
    last = draft.document["training"]["last_step"]
    if last:
        draft.document["data"]["order"].append(
            {
                "first_step": 1,
                "last_step": last,
                "chunks": [chunk["name"] for chunk in chunks],
                "kind": "unknown",
                "assumption": "a folder does not say in which order its rows were read",
            }
        )


def _chunk(draft: Draft, source: Path, path: Path, vocabulary: int | None) -> dict[str, Any] | None:
    file = {"path": escape(path.relative_to(source).as_posix()), "size": path.stat().st_size}
    suffix = path.with_suffix("").suffix if path.suffix in PACKED else path.suffix
    if suffix in SUFFIXES:
        return {"files": [file], "format": SUFFIXES[suffix]}
    index = path.with_suffix(".idx")
    if suffix == ".bin" and index.is_file():
        listed = {"path": escape(index.relative_to(source).as_posix()), "size": index.stat().st_size, "role": "index"}
        return {"files": [{**file, "role": "data"}, listed], "format": "megatron"}
    if suffix in (".npy", ".bin", ".u16", ".u32"):
        return _flat(draft, file, path, vocabulary)
    return None


def _flat(draft: Draft, file: dict[str, Any], path: Path, vocabulary: int | None) -> dict[str, Any] | None:
    """A file of token ids: its NPY header says the type, else the vocabulary does."""
    with path.open("rb") as opened:
        if opened.read(len(NPY_MAGIC)) == NPY_MAGIC:
            return {"files": [file], "format": "flat", "header": "npy", **_npy(path)}
    if vocabulary is None:
        draft.find(
            "data-type-unknown",
            f"{file['path']} has no header and the vocabulary is not known, so the width of its token ids is not "
            "either; it is left out.",
            "warning",
            None,
            file=file["path"],
        )
        return None
    dtype = "u16" if vocabulary <= 1 << 16 else "u32"
    draft.find(
        "data-type-inferred",
        f"{file['path']} has no header; {dtype} token ids are inferred from a vocabulary of {vocabulary:,}.",
        "info",
        None,
        file=file["path"],
        dtype=dtype,
    )
    return {"files": [file], "format": "flat", "header": "none", "dtype": dtype}


def _npy(path: Path) -> dict[str, Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataFault(
            f"{path} begins like an NPY file and is none: {error}.", "Write the file again, or move it out of data/."
        ) from None
    if array.dtype.name not in DTYPES or array.ndim > 2:
        raise DataFault(
            f"{path} holds {array.dtype} of shape {array.shape}, not token ids.",
            "Token ids are unsigned or signed integers in one or two dimensions.",
        )
    shape = (
        {"rows": int(array.shape[0]), "row_length": int(array.shape[1])} if array.ndim == 2 and array.shape[1] else {}
    )
    return {"dtype": DTYPES[array.dtype.name], **shape}
