"""What is asked of an identity provider goes this way: bounded in time and size, encrypted, and never led elsewhere."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator

import httpx

CONNECT_S, SILENCE_S, WHOLE_S = 3.0, 5.0, 10.0
MOST_BYTES = 1 << 20


class BoundedTransport(httpx.BaseTransport):
    """An answer that is too long, trickles, or comes from an address that is not encrypted is httpx.TransportError."""

    def __init__(self, context: ssl.SSLContext, plain: bool) -> None:
        """``plain`` allows http://, for a provider on this very machine."""
        self._plain = plain
        self._inner = httpx.HTTPTransport(verify=context)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request; redirects are answers like any other."""
        if request.url.scheme != "https" and not self._plain:
            raise httpx.UnsupportedProtocol("an address that is not https://")
        answer = self._inner.handle_request(request)
        end = time.monotonic() + WHOLE_S
        stream = answer.stream
        assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - a synchronous transport's
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=_Bounded(stream, end), extensions=answer.extensions
        )

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


class _Bounded(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, end: float) -> None:
        self._stream = stream
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._stream:
            size += len(part)
            if size > MOST_BYTES:
                raise httpx.ReadError("an answer of more than 1 MiB")
            if time.monotonic() > self._end:
                raise httpx.ReadTimeout("an answer that trickles")
            yield part

    def close(self) -> None:
        self._stream.close()


def timeout() -> httpx.Timeout:
    """How long each part of a request may take."""
    return httpx.Timeout(SILENCE_S, connect=CONNECT_S)
