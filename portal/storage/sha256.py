"""A sha256 whose state can be written down, so that hashing goes on after a kill where it was.

hashlib keeps its state to itself; OpenSSL's own functions keep it in plain memory of the caller. Where that library is
not found, or does not compute what it should, hashing works all the same and cannot be interrupted.
"""

from __future__ import annotations

import ctypes
import hashlib
from ctypes.util import find_library
from functools import cache
from typing import Any

NAMES = ("libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.3.dylib")
STATE_BYTES = 112
"""Of OpenSSL's SHA256_CTX: eight words, a length of 64 bits, one block, two counts."""
_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class Sha256:
    """As `hashlib.sha256`, continued from a ``state`` that `save` gave in another process."""

    def __init__(self, state: bytes = b"") -> None:
        self._library = _library()
        if self._library is None:
            self._plain = hashlib.sha256()
            return
        self._state = ctypes.create_string_buffer(STATE_BYTES)
        if state:
            ctypes.memmove(self._state, state, STATE_BYTES)
        else:
            self._library.SHA256_Init(self._state)

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._library is None:
            self._plain.update(data)
        else:
            self._library.SHA256_Update(self._state, data, len(data))

    def hexdigest(self) -> str:
        """Of all bytes up to now; more may follow."""
        if self._library is None:
            return self._plain.hexdigest()
        copy, digest = ctypes.create_string_buffer(self._state.raw, STATE_BYTES), ctypes.create_string_buffer(32)
        self._library.SHA256_Final(digest, copy)
        return digest.raw.hex()

    def save(self) -> bytes:
        """The state; empty where it cannot be had."""
        return b"" if self._library is None else self._state.raw


@cache
def _library() -> Any:
    for name in (find_library("crypto"), *NAMES):
        if name is None:
            continue
        try:
            found = _declared(ctypes.CDLL(name))
        except (OSError, AttributeError):
            continue
        if _computes(found):
            return found
    return None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    library.SHA256_Init.argtypes = [ctypes.c_void_p]
    library.SHA256_Update.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.SHA256_Final.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return library


def _computes(library: ctypes.CDLL) -> bool:
    # Room to spare, so that a larger state than expected is noticed instead of written over something else.
    state, digest = ctypes.create_string_buffer(4 * STATE_BYTES), ctypes.create_string_buffer(32)
    guard = b"\xa5" * (3 * STATE_BYTES)
    ctypes.memmove(ctypes.addressof(state) + STATE_BYTES, guard, len(guard))
    library.SHA256_Init(state)
    library.SHA256_Update(state, b"abc", 3)
    library.SHA256_Final(digest, state)
    return digest.raw.hex() == _ABC and state.raw[STATE_BYTES:] == guard
