"""What stores elsewhere have in common: ranges in parallel, retries, and files pinned to the state first seen."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from portal.errors import BadRequest, DataFault, FileMissing, IntegrityError, PortalError, Unavailable
from portal.storage.joining import join_ranges
from portal.storage.retries import Passing, Patience, persist
from portal.storage.store import Meter, StoredFile

PIECE = 8 << 20
"""Bytes of one request at most: a longer range is several, side by side."""
PARALLEL_REQUESTS = 16
PINNED = 4096
PINNED_S = 300.0
"""Seconds after which a file is looked at anew; every answer is compared with what was seen last."""

FIRST_BYTES = 16
"""Bytes fetched by the first look at a file: as many as tell what kind of file it is."""

Span = tuple[int, int]
Result = TypeVar("Result")

log = logging.getLogger("portal.storage")


@dataclass(frozen=True)
class _Pin:
    """A file as it was seen last."""

    file: StoredFile
    at: float
    head: bytes = b""
    """Its first bytes, where they are known."""


@dataclass(frozen=True)
class Piece:
    """One answered range, and what the answer says of the whole file."""

    data: bytes
    size: int | None = None
    etag: str = ""


class RangedStore(ABC):
    """A `Store` whose every read is a request; safe to use from several threads."""

    kind = "The store"
    """Its name in messages."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._pins: OrderedDict[str, _Pin] = OrderedDict()
        self._lock = threading.Lock()

    def stat(self, uri: str, meter: Meter | None = None) -> StoredFile:
        """Size, time and etag of one file as they are now, asked for anew."""
        counted = meter or Meter()
        found = self._ask(uri, lambda: self._stat(uri, counted))
        self._pin(uri, _Pin(found, time.monotonic()))
        return found

    def forget(self, uri: str) -> None:
        """Look at a file as if for the first time when it is read next."""
        with self._lock:
            self._pins.pop(uri, None)

    def find(self, uri: str) -> StoredFile | None:
        """What `stat` says, or None where nothing is there: to whoever asks whether it is, that is no failure."""
        try:
            return self._ask(uri, lambda: self._stat(uri, Meter()), FileMissing)
        except FileMissing:
            return None

    def seen(self, uri: str, meter: Meter | None = None) -> StoredFile:
        """Size and etag as they were seen lately, or are now.

        A look is a request for the first bytes: its answer tells what a HEAD would, and spares the reader that asks
        next what kind of file it is another request.
        """
        with self._lock:
            pin = self._pins.get(uri)
        if pin is not None and time.monotonic() - pin.at < PINNED_S:
            return pin.file
        counted = meter or Meter()
        try:
            first = self._ask(uri, lambda: self._whole_piece(uri, 0, FIRST_BYTES, counted))
        except DataFault:
            return self.stat(uri, counted)
        if first.size is None:
            return self.stat(uri, counted)
        found = StoredFile(uri, uri.rpartition("/")[2], first.size, None, first.etag)
        self._pin(uri, _Pin(found, time.monotonic(), first.data))
        return found

    @abstractmethod
    def list_files(self, uri: str) -> Iterator[StoredFile]:
        """Every file below a folder, by path."""

    def read_range(self, uri: str, offset: int, length: int, meter: Meter | None = None) -> bytes:
        """Exactly ``length`` bytes from ``offset``; FileMissing, DataFault when the file ends before, IntegrityError
        when it was replaced since it was first looked at, Unavailable when the store does not answer."""
        return self.read_ranges(uri, [(offset, length)], meter)[0]

    def read_ranges(self, uri: str, ranges: Sequence[Span], meter: Meter | None = None) -> list[bytes]:
        """Several ranges: neighbours in one request, the others side by side; errors as of `read_range`."""
        for offset, length in ranges:
            if offset < 0 or length < 0:
                raise BadRequest(f"Bytes {offset} to {offset + length} of {uri} cannot be read.", "Count bytes from 0.")
        counted = meter or Meter()
        wanted = [span for span in ranges if span[1]]
        for offset, length in ranges:
            if not length and offset > self.seen(uri, counted).size:
                raise self.cut_short(uri, offset, length)
        joined = join_ranges(wanted, PIECE)
        pieces = self._read_pieces(uri, joined.pieces, counted)
        counted.count(unverified=sum(length for _, length in wanted))
        found = iter(joined.take_apart(pieces))
        return [next(found) if length else b"" for _, length in ranges]

    def local_path(self, uri: str) -> Path | None:  # noqa: ARG002 - as the protocol wants it
        """None: nothing of it is on this machine."""
        return None

    @abstractmethod
    def public_url(self, uri: str, name: str = "") -> str | None:
        """An address at which a client of the portal gets the bytes itself, or None where there is none."""

    @abstractmethod
    def name(self, uri: str) -> str:
        """The object as messages call it, which anybody may read: no secret, and no place that only the operator knows."""

    def inside(self, uri: str) -> str:
        """The object as the operator's log calls it: where the portal itself asks."""
        return self.name(uri)

    def cut_short(self, uri: str, offset: int, length: int, size: int | None = None) -> DataFault:
        """The fault of a range that reaches past the end."""
        ends = f"is {size:,} bytes long and ends" if size is not None else "ends"
        return DataFault(
            f"{self.name(uri)} {ends} before byte {offset + length:,}.",
            "The file is cut short or its description is wrong: compare it with the release.",
        )

    @abstractmethod
    def _stat(self, uri: str, meter: Meter) -> StoredFile:
        """One try; Passing for what may pass."""

    @abstractmethod
    def _piece(self, uri: str, offset: int, length: int, meter: Meter) -> Piece:
        """One try at a range of at most `PIECE` bytes, at least one; Passing for what may pass."""

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(PARALLEL_REQUESTS, thread_name_prefix="ranges")

    def _pin(self, uri: str, pin: _Pin) -> None:
        with self._lock:
            self._pins[uri] = pin
            self._pins.move_to_end(uri)
            while len(self._pins) > PINNED:
                self._pins.popitem(last=False)

    def _read_pieces(self, uri: str, pieces: Sequence[Span], meter: Meter) -> list[bytes]:
        if len(pieces) < 2:
            return [self._read_piece(uri, span, meter) for span in pieces]
        waiting = [self._pool.submit(self._read_piece, uri, span, meter) for span in pieces]
        try:
            return [one.result() for one in waiting]
        finally:
            for one in waiting:
                one.cancel()

    def _read_piece(self, uri: str, span: Span, meter: Meter) -> bytes:
        offset, length = span
        with self._lock:
            pinned = self._pins.get(uri)
        if pinned is not None and offset + length <= len(pinned.head):
            return pinned.head[offset : offset + length]
        piece = self._ask(uri, lambda: self._whole_piece(uri, offset, length, meter))
        if pinned is not None and not _is_same(pinned.file, piece):
            with self._lock:
                # Whoever read the old bytes must not go on with the new ones: only a new look lets anybody read again.
                self._pins[uri] = replace(pinned, at=-PINNED_S, head=b"")
            raise IntegrityError(
                f"{self.name(uri)} was replaced while it was being read.",
                "Ask again; if the new bytes are meant, publish the run again.",
            )
        return piece.data

    def _whole_piece(self, uri: str, offset: int, length: int, meter: Meter) -> Piece:
        piece = self._piece(uri, offset, length, meter)
        if len(piece.data) != length:
            if piece.size is not None and piece.size < offset + length:
                raise self.cut_short(uri, offset, length, piece.size)
            raise Passing(f"it sent {len(piece.data):,} bytes where {length:,} were asked for")
        return piece

    def _ask(self, uri: str, attempt: Callable[[], Result], expected: type[PortalError] | tuple[()] = ()) -> Result:
        """What ``attempt`` returns, tried again where that may help; failures of the store, but those ``expected``, are
        logged in full."""
        try:
            return persist(self.patience, attempt, self._lost(uri))
        except (FileMissing, Unavailable) as error:
            if not isinstance(error, expected):
                log.warning("%s (%s)", error.message, self.inside(uri))
            raise

    def _lost(self, uri: str) -> Callable[[str], PortalError]:
        return lambda why: Unavailable(
            f"{self.name(uri)} could not be read: {why}.",
            "Try again later, or look at the store's own state.",
            unanswered=True,
        )


def _is_same(pinned: StoredFile, piece: Piece) -> bool:
    if piece.size is not None and piece.size != pinned.size:
        return False
    return not (piece.etag and pinned.etag) or piece.etag == pinned.etag
