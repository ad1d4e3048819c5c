"""``python -m tests.bench._throttle PORT RATE``: passes connections on to PORT, all of them together RATE bytes a second.

It prints the port it listens on.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

PIECE = 64 << 10


class Link:
    """One wire that all connections share."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def pass_on(self, count: int) -> None:
        """Wait until ``count`` bytes are through."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() - 0.01) + count / self._rate
            wait = self._free_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)


def _pump(source: socket.socket, target: socket.socket, link: Link | None) -> None:
    try:
        while data := source.recv(PIECE):
            if link:
                link.pass_on(len(data))
            target.sendall(data)
    except OSError:
        pass
    finally:
        for side in (source, target):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def main() -> None:
    """Serve until killed."""
    upstream, link = int(sys.argv[1]), Link(float(sys.argv[2]))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            client = listening.accept()[0]
            server = socket.create_connection(("127.0.0.1", upstream))
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_pump, args=(client, server, None), daemon=True).start()
            threading.Thread(target=_pump, args=(server, client, link), daemon=True).start()


if __name__ == "__main__":
    main()
