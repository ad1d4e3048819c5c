"""The published index file of a data order: raw little-endian integers, or NPY."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from portal.errors import DataFault
from portal.manifest.expand import OrderEntry
from portal.storage import Meter
from portal.tokens.readers.numbers import DTYPES, has_npy_magic, read_npy_header
from portal.tokens.readers.rows import ReadableFile, Tally
from portal.tokens.readers.source import FileBytes


class OrderFile:
    """Entries by position: ``order_file(start, count)``; fewer come back where the file ends.

    OLMo's ``global_indices.npy`` is raw in spite of its name. A raw file cannot begin with the NPY magic by
    accident: as numbers, those bytes name rows far beyond any data set.
    """

    def __init__(self, entry: OrderEntry, file: ReadableFile, meter: Meter | None = None) -> None:
        self.tally = Tally(meter=meter or Meter())
        self.source = FileBytes.of(file, self.tally)
        declared = DTYPES[entry.dtype] if entry.dtype else None
        if has_npy_magic(self.source):
            header = read_npy_header(self.source)
            if declared is not None and header.dtype != declared:
                raise DataFault(
                    f"{file.path} is declared as {declared}, but its NPY header says {header.dtype}.",
                    "Correct `dtype` of the data order.",
                )
            self.dtype, self.begin, self.entries = header.dtype, header.length, header.numbers
        elif declared is None:
            raise DataFault(
                f"{file.path} is raw numbers and the data order does not say of which type.",
                "State `dtype` of the data order (u32 for OLMo).",
            )
        else:
            self.dtype, self.begin = declared, 0
            self.entries = self.source.size // declared.itemsize
        if self.begin + self.entries * self.dtype.itemsize != self.source.size:
            raise DataFault(
                f"{file.path} is {self.source.size:,} bytes long, which is not {self.entries:,} "
                f"whole {self.dtype.name} entries{' behind its header' if self.begin else ''}.",
                "The file is cut short, or `dtype` is wrong: compare it with the release.",
            )

    def __call__(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """Entries ``start .. start+count`` as far as the file has them."""
        count = max(min(count, self.entries - start), 0)
        if not count or start < 0:
            return np.zeros(0, dtype=np.int64)
        raw = self.source.read(self.begin + start * self.dtype.itemsize, count * self.dtype.itemsize)
        found = np.frombuffer(raw, self.dtype)
        if self.dtype.kind == "u" and found.max() > np.iinfo(np.int64).max:
            raise DataFault(f"{self.source.path} holds entries beyond 2**63.", "Check `dtype` of the data order.")
        return found.astype(np.int64)

    def close(self) -> None:
        """Give the file back."""
        self.source.close()


def open_order_file(entry: OrderEntry, file: ReadableFile, meter: Meter | None = None) -> OrderFile:
    """Open the index file of an order of kind ``index``; what it reads elsewhere is counted in ``meter``.

    Raises DataFault where dtype, header and size contradict each other; FileMissing when it is not there.
    """
    return OrderFile(entry, file, meter)
