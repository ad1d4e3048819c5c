"""Files at ``https://`` and ``http://`` addresses, read by range."""

from __future__ import annotations

from collections.abc import Iterator

from portal.errors import Unavailable
from portal.storage.answered import modified_of, read_piece, refusal, size_of
from portal.storage.ranged import Piece, RangedStore
from portal.storage.store import Meter, StoredFile
from portal.storage.wire import Asked, Reply, Wire, shown


class HttpsStore(RangedStore):
    """The `Store` of web addresses. An address is taken as it is written; nothing is known of folders."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire.patience)
        self._wire = wire

    def list_files(self, uri: str) -> Iterator[StoredFile]:
        """Unavailable: a web server does not say what it holds."""
        raise Unavailable(
            f"{shown(uri)} cannot be listed: a web server does not say what lies below an address.",
            "List the files in the manifest.",
        )

    def public_url(self, uri: str, name: str = "") -> str | None:  # noqa: ARG002 - the address says it
        """The address itself."""
        return uri

    def name(self, uri: str) -> str:
        """The address without its query, which may hold a signature."""
        return shown(uri)

    def _stat(self, uri: str, meter: Meter) -> StoredFile:
        reply = self._wire.send(Asked(uri, "HEAD"), meter)
        if reply.status != 200 or size_of(reply) is None:
            # Addresses signed for GET answer 403 to HEAD, and some servers do not know HEAD or tell no length.
            reply = self._first_byte(uri, meter, reply)
        size = size_of(reply)
        if size is None:
            raise Unavailable(
                f"{self.name(uri)}: the server does not say how long it is.", "Use a server that tells lengths."
            )
        path = shown(uri).rpartition("/")[2]
        return StoredFile(uri, path, size, modified_of(reply), reply.headers.get("etag", ""))

    def _first_byte(self, uri: str, meter: Meter, head: Reply) -> Reply:
        reply = self._wire.send(Asked(uri, headers={"Range": "bytes=0-0"}, limit=1), meter)
        if reply.status == 416 and reply.headers.get("content-range", "").endswith("*/0"):
            return Reply(reply.url, 200, {**reply.headers, "content-length": "0"}, b"", False)
        if reply.status not in (200, 206):
            raise refusal(head if head.status in (404, 410) else reply, self.name(uri))
        return reply

    def _piece(self, uri: str, offset: int, length: int, meter: Meter) -> Piece:
        asked = Asked(uri, headers={"Range": f"bytes={offset}-{offset + length - 1}"}, limit=length)
        reply = self._wire.send(asked, meter)
        return read_piece(reply, self.name(uri), offset, length, lambda size: self.cut_short(uri, offset, length, size))
