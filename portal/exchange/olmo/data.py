"""Data files and their order, from ``data.paths`` of a training config.

Files end in ``.npy`` and are raw token ids without an NPY header; row i of a file is bytes ``[i*L*w, (i+1)*L*w)``, what
is left of a file is dropped. Rows are numbered over the files as listed and shuffled once:
``numpy.random.Generator(PCG64(seed + epoch)).shuffle(arange(n))`` (``olmo/data/iterable_dataset.py``).
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

from portal.exchange.draft import Draft
from portal.exchange.olmo.runs import find_file
from portal.exchange.patterns import file_patterns
from portal.exchange.sources import read_table, whole_numbers

SIZES_FILE = "data-file-sizes.csv"
"""Optional, ``path,size``: sizes of the data files in bytes, as their server answers HEAD requests."""
PROVENANCE_FILE = "provenance.csv"


def geometry_of(config: dict[str, Any]) -> dict[str, int]:
    """Batch shape that a training config states; empty where it states none."""
    model = config.get("model")
    length = model.get("max_sequence_length") if isinstance(model, dict) else None
    rows = config.get("global_train_batch_size")
    if not isinstance(length, int) or not isinstance(rows, int):
        return {}
    return {"sequence_length": length, "row_length": length, "rows_per_step": rows, "tokens_per_step": rows * length}


def add_data(draft: Draft, source: Path, config: dict[str, Any], last_step: int) -> None:
    """One chunk per source of the mix with its files in training order, and the order as far as it can be known."""
    data = config.get("data")
    paths = [str(path) for path in data.get("paths") or []] if isinstance(data, dict) else []
    if not paths or not isinstance(data, dict):
        draft.notes.append("The config lists no data.paths, so there is no data to show.")
        return
    seed = data.get("seed", config.get("seed"))
    width = 4 if data.get("memmap_dtype") == "uint32" else 2
    length = int(draft.document["training"].get("sequence_length") or 2048)
    sizes = _read_sizes(source)
    datasets = _read_provenance(source, paths)
    chunks = _chunks(paths, datasets, length, width, sizes)
    draft.document["data"] = {"chunks": chunks, "order": [_order(chunks, seed, len(paths), last_step)]}
    _find_repeats(draft, paths)
    _compare_provenance(draft, datasets, paths)
    if any("rows" not in chunk for chunk in chunks):
        draft.find(
            "order-needs-sizes",
            f"Rows cannot be named: the shuffle runs over all rows of {len(paths):,} data files, whose sizes are "
            f"not in the repository. With a file {SIZES_FILE} (path,size) beside the config the order is "
            "reconstructed.",
            "warning",
            None,
            files=len(paths),
            known=sum(1 for path in set(paths) if path in sizes),
        )


def _chunks(
    paths: list[str], datasets: dict[str, str], row_length: int, width: int, sizes: dict[str, int]
) -> list[dict[str, Any]]:
    chunks: list[dict[str, Any]] = []
    taken: Counter[str] = Counter()
    for folder, group in groupby(paths, source_of):
        files = list(group)
        name = Counter(datasets.get(_stem(path), folder) for path in files).most_common(1)[0][0]
        taken[name] += 1
        chunk: dict[str, Any] = {
            "name": name if taken[name] == 1 else f"{name}.{taken[name]}",
            "format": "flat",
            "dtype": "u16" if width == 2 else "u32",
            "header": "none",
            "row_length": row_length,
            "sources": {name: 1.0},
        }
        if all(path in sizes for path in files):
            chunk["files"] = [{"path": path, "size": sizes[path]} for path in files]
            chunk["rows"] = sum(sizes[path] // (row_length * width) for path in files)
        else:
            chunk["files"] = file_patterns(files)
        chunks.append(chunk)
    return chunks


def source_of(path: str) -> str:
    """The part of the mix a data file belongs to, from its folders."""
    folders = [part for part in _below(path).split("/")[:-1] if not _SERVES_STORAGE.fullmatch(part)]
    return ".".join(folders) or "data"


_SERVES_STORAGE = re.compile(
    r"allenai|dolma2-tokenizer|gpt-neox-.*|train|documents|v\d+(?:[_-].*)?|\d+|.*-compiled-v[\d_]+"
)
"""Folders that name tokenizers, versions and owners rather than a source."""


def _order(chunks: list[dict[str, Any]], seed: Any, files: int, last_step: int) -> dict[str, Any]:
    order: dict[str, Any] = {"first_step": 1, "last_step": last_step, "chunks": [chunk["name"] for chunk in chunks]}
    if not isinstance(seed, int):
        return {**order, "kind": "unknown", "confidence": "unknown", "assumption": "the config names no seed"}
    counted = all("rows" in chunk for chunk in chunks)
    rule = (
        f"one PCG64 shuffle (seed {seed} + epoch 0) of all rows of {files:,} files in config order, as the "
        "released loader draws it"
    )
    return {
        **order,
        "kind": "permutation",
        "rng": "numpy-PCG64",
        "seed": seed,
        "confidence": "reconstructed" if counted else "unknown",
        "assumption": f"{rule}; that the run read exactly these files at these sizes is assumed"
        if counted
        else f"the rule is known: {rule}; the sizes of the files, and so the number of rows, are not, and no row "
        "can be named without them",
    }


def _find_repeats(draft: Draft, paths: list[str]) -> None:
    repeated = [path for path, times in Counter(paths).items() if times > 1]
    if repeated:
        draft.find(
            "data-listed-twice",
            f"{len(repeated)} of {len(set(paths)):,} data files stand twice in data.paths ({len(paths):,} lines): "
            "their rows are read twice in what is called one epoch.",
            "warning",
            None,
            files=repeated,
            lines=len(paths),
            unique=len(set(paths)),
        )


def _read_provenance(source: Path, paths: list[str]) -> dict[str, str]:
    """Name of the source of every data file, where ``provenance.csv`` is about these files."""
    table = find_file(source, PROVENANCE_FILE)
    if table is None:
        return {}
    listed = {_stem(row["Data Directory"]): row["Dataset"] for row in read_table(table, ("Dataset", "Data Directory"))}
    common = listed.keys() & {_stem(path) for path in paths}
    return listed if len(common) > len(listed) / 2 else {}


def _compare_provenance(draft: Draft, datasets: dict[str, str], paths: list[str]) -> None:
    used = {_stem(path) for path in paths}
    without, unused = sorted(used - datasets.keys()), sorted(datasets.keys() - used)
    if datasets and (without or unused):
        draft.find(
            "provenance-disagrees",
            f"{PROVENANCE_FILE} and data.paths differ: {len(without)} data files have no provenance, "
            f"{len(unused)} listed ones are not read.",
            "warning",
            None,
            without_provenance=without[:20],
            not_read=unused[:20],
        )


def _stem(path: str) -> str:
    return re.sub(r"\.(?:npy|csv\.gz)$", "", _below(path))


def _below(path: str) -> str:
    """The path below the bucket's folder of preprocessed data."""
    return re.sub(r"^.*?/preprocessed/", "", path)


def _read_sizes(source: Path) -> dict[str, int]:
    path = find_file(source, SIZES_FILE)
    if path is None:
        return {}
    rows = read_table(path, ("path", "size"))
    return {row["path"]: size for row, size in zip(rows, whole_numbers(path, rows, "size"), strict=True)}
