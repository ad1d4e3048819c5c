"""A TCP proxy on the loopback whose connections can be cut, as a bad network does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class CutLine:
    """Passes bytes on in both directions; while it is ``down``, whoever comes is hung up on."""

    def __init__(self, address: str) -> None:
        self._to = (urlsplit(address).hostname or "", urlsplit(address).port or 80)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.down = False
        self.refused = 0
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Hang up on everybody."""
        with self._lock:
            ended, self._open = self._open, []
        for one in ended:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self.down = True
        # Closing alone would not wake the thread that waits for the next one.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self.down:
                self.refused += 1
                near.close()
                continue
            far = socket.create_connection(self._to)
            with self._lock:
                self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_line(address: str) -> Iterator[CutLine]:
    """A line to ``address`` until the block ends."""
    line = CutLine(address)
    try:
        yield line
    finally:
        line.close()
