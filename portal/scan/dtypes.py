"""Precision: dtypes that change along a run, and files that hold another dtype than declared.

Only the header of a safetensors file is read, and that before anything is compared.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ReadFile, ScanInput, ScannedCheckpoint
from portal.errors import DataFault, PortalError, TooLarge
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.blobs import is_here
from portal.tensors import read_header

NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8",
    "F8_E5M2": "float8",
}
READ_AT_ONCE = 8
"""Headers read side by side: where the store is a bucket each is two requests."""
ALIASES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "float": "float32", "half": "float16"}


@dataclass(frozen=True)
class _Precision:
    step: int
    dtype: str
    origin: str


Dtypes = Mapping[str, "Counter[str] | str"]
"""How many tensors of each dtype a file holds, by URI; or, as text, why its header cannot be read."""


def read_dtypes(files: Iterable[ReadFile], settings: Settings) -> dict[str, Counter[str] | str]:
    """What the headers of those weights say that are here; files that are missing are left out."""
    here = {
        f.uri: f
        for f in files
        if f.role == "weights" and f.path.endswith(".safetensors") and f.state != "missing" and is_here(f.uri, settings)
    }
    with ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="headers") as pool:
        return dict(zip(here, pool.map(partial(_header_dtypes, settings), here.values()), strict=True))


def find_dtype_flips(scanned: ScanInput, dtypes: Dtypes) -> list[FoundFinding]:
    """Changes of precision between neighbouring checkpoints, and declared dtypes the files contradict."""
    known: list[_Precision] = []
    findings: list[FoundFinding] = []
    for checkpoint in scanned.checkpoints:
        if checkpoint.step is None:
            continue
        declared = _name(checkpoint.checkpoint.dtype)
        stored = _stored_dtype(checkpoint, dtypes)
        if declared and stored and declared != stored:
            findings.append(_contradiction(checkpoint.step, declared, stored))
        if dtype := stored or declared:
            known.append(_Precision(checkpoint.step, dtype, "file header" if stored else "manifest"))
    return findings + list(_flips(known))


def _flips(known: list[_Precision]) -> Iterator[FoundFinding]:
    for before, after in itertools.pairwise(known):
        if before.dtype != after.dtype:
            yield FoundFinding(
                "dtype-flip",
                "warning",
                f"Weights change from {before.dtype} at step {before.step:,} to {after.dtype} at step {after.step:,}.",
                after.step,
                {"before": before.__dict__, "after": after.__dict__},
            )


def _contradiction(step: int, declared: str, stored: str) -> FoundFinding:
    return FoundFinding(
        "dtype-contradicts-file",
        "error",
        f"The manifest says {declared} at step {step:,}, the file holds {stored}.",
        step,
        {"declared": declared, "stored": stored},
    )


def _stored_dtype(checkpoint: ScannedCheckpoint, dtypes: Dtypes) -> str | None:
    """The dtype most weights have, by tensor count; None where no header was read."""
    counted: Counter[str] = Counter()
    for file in checkpoint.files:
        held = dtypes.get(file.uri)
        if isinstance(held, Counter):
            counted.update(held)
    return NAMES.get(counted.most_common(1)[0][0], counted.most_common(1)[0][0].lower()) if counted else None


def _header_dtypes(settings: Settings, file: ReadFile) -> Counter[str] | str:
    store = open_store(file.uri, settings)
    try:
        header = read_header(
            lambda offset, length: store.read_range(file.uri, offset, length), file.size or 0, file.path
        )
    except (DataFault, TooLarge) as error:
        return str(error)
    except PortalError:
        return Counter()  # whether a file is still there is a question of `fixity`
    return Counter(t.dtype for t in header.tensors)


def _name(dtype: str | None) -> str | None:
    if dtype is None:
        return None
    plain = dtype.lower().removeprefix("torch.")
    return ALIASES.get(plain, plain)
