"""Streaming pieces: what the page cache lacks, who hangs up, and files that shrink meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from portal.errors import IntegrityError
from portal.web import sending
from portal.web.sending import ByteRange, SendFile


async def _send(sender: SendFile, hang_up_after: int | None = None) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    gone = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)
        if hang_up_after is not None and len(sent) >= hang_up_after:
            gone.set()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    await sender({"type": "http", "method": "GET"}, receive, send)
    return sent


def _run(sending_: Coroutine[Any, Any, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Run on a loop of its own in a thread: browser tests keep one running in the main thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, sending_).result()


def _sender(path: Path, length: int) -> SendFile:
    return SendFile(os.open(path, os.O_RDONLY), 200, {"Content-Length": str(length)}, ByteRange(0, length - 1))


@pytest.mark.parametrize("nowait", [sending._NOWAIT, 0])
def test_pieces_join_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowait: int) -> None:
    monkeypatch.setattr(sending, "_NOWAIT", nowait)
    body = os.urandom(3 * sending.COLD_PIECE + 17)
    path = tmp_path / "file"
    path.write_bytes(body)
    sent = _run(_send(_sender(path, len(body))))
    assert b"".join(bytes(m.get("body", b"")) for m in sent) == body
    assert sent[-1]["more_body"] is False


def test_a_piece_that_is_not_in_memory_is_read_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(sending.os, "preadv", refuse)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    sent = _run(_send(_sender(path, 100)))
    assert sent[-1]["body"] == b"x" * 100


def test_nobody_is_sent_to_after_hanging_up(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (20 * sending.PIECE))
    sent = _run(_send(_sender(path, 20 * sending.PIECE), hang_up_after=3))
    assert len(sent) < 8


def test_a_file_that_shrinks_is_not_padded(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with pytest.raises(IntegrityError, match="cut short"):
        _run(_send(_sender(path, 200)))


def test_the_descriptor_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    descriptor = os.open(path, os.O_RDONLY)
    _run(_send(SendFile(descriptor, 200, {}, ByteRange(0, 0))))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
