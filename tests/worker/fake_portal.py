"""The worker's side of the portal's API in memory, for what a real portal cannot be made to do: faults on demand.

`faults` is asked before every request: 503, a reset connection, a slow answer. `stale`, `cancel` and `revoked` answer as
a portal does whose mind has changed. What was acknowledged is kept, so that a test can tell whether anything was lost.
"""

from __future__ import annotations

import hashlib
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, LENGTH, PER_STEP = 64, 9, 4


def digest(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()


@dataclass
class Said:
    """What one attempt was heard to say."""

    log: bytearray = field(default_factory=bytearray)
    points: dict[tuple[int, str], Any] = field(default_factory=dict)
    outputs: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)
    phases: list[str] = field(default_factory=list)
    beats: int = 0
    ended: dict[str, Any] | None = None
    gaps: int = 0


class FakePortal:
    """One portal with one job at a time."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.attempts: dict[int, Said] = {}
        self.queue: list[dict[str, Any]] = []
        self.workers: dict[str, str] = {}
        self.asked: list[dict[str, Any]] = []
        self.stale: set[int] = set()
        self.cancel: dict[int, str] = {}
        self.revoked = False
        self.heartbeat_seconds = 0.2
        self.downloads: dict[str, int] = {}
        self.faults: Callable[[str], Any] = lambda _path: None
        self.lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"portal": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def offer(self, attempt: int = 1, resume: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """Queue attempt ``attempt`` of job 1; its spec, with ``changes``."""
        spec = self.spec(**changes)
        self.attempts[attempt] = Said()
        files = [self._file("checkpoint", "runs/model/model.safetensors", b"weights"),
                 self._file("checkpoint", "runs/model/config.json", b'{"vocab_size": 512}')]  # fmt: skip
        files += [{**f, "what": "chunk", "url": f"{self.url}/files/{f['sha256']}/c"} for f in spec["data"]["files"]]
        lease = {
            "job": 1,
            "attempt": attempt,
            "fence": attempt,
            "attempt_token": f"secret-{attempt}",
            "lease_until": 0,
            "spec": spec,
            "spec_digest": "",
            "plan_url": f"{self.url}/api/v1/jobs/1/plan",
            "resume": resume,
            "files": files,
        }
        self.queue.append(lease)
        return lease

    def resume_from(self, attempt: int, step: int) -> dict[str, Any]:
        """What a lease says of a partial checkpoint."""
        files = self.attempts[attempt].outputs[step]
        for file in files:
            self.files[file["sha256"]] = self.blobs[file["sha256"]]
        return {"step": step, "files": [{**f, "url": f"{self.url}/files/{f['sha256']}/r"} for f in files]}

    def spec(self, last_step: int = 10, save_every: int | None = 4, **changes: Any) -> dict[str, Any]:
        """A job over rows of a flat chunk, in an order of its own."""
        rows = np.arange(ROWS * LENGTH, dtype="<u2").reshape(ROWS, LENGTH) % 512
        chunk = self._file("chunk", "data/c1.u16", rows.tobytes())
        order = np.random.default_rng(7).permutation(ROWS)[: last_step * PER_STEP]
        count = len(order)
        plan = pa.table({
            "step": pa.array([1 + k // PER_STEP for k in range(count)], pa.int64()),
            "position": pa.array([k % PER_STEP for k in range(count)], pa.int32()),
            "chunk": pa.array(["c1"] * count).dictionary_encode(),
            "row": pa.array([int(r) for r in order], pa.int64()),
            "source": pa.array(["stories" if r % 2 else None for r in order]),
        })  # fmt: skip
        sink = io.BytesIO()
        pq.write_table(plan, sink)
        self.plan = sink.getvalue()
        self.expected = {
            1 + k: float(rows[order[k * PER_STEP : (k + 1) * PER_STEP]].astype(np.int64).sum())
            for k in range(last_step)
        }
        about = {"format": "flat", "dtype": "u16", "row_length": LENGTH, "rows": ROWS, "chunk": "c1"}
        found = {
            "first_step": 1,
            "last_step": last_step,
            "data": {
                "plan": {"sha256": digest(self.plan), "size": len(self.plan), "rows": count, "steps": last_step},
                "files": [{**about, **{k: chunk[k] for k in ("path", "size", "sha256")}}],
            },
            "training": {"row_length": LENGTH, "rows_per_step": PER_STEP, "pad_id": None, "numerics": {"threads": 1}},
            "save_every": save_every,
            "resources": {"gpus": 0},
            "trainer": "portal.trainer",
        }
        return {**found, **changes}

    def _file(self, what: str, path: str, data: bytes) -> dict[str, Any]:
        sha256 = digest(data)
        self.files[sha256] = data
        place = f"{self.url}/files/{sha256}/{path.rsplit('/', 1)[-1]}"
        return {"what": what, "path": path, "size": len(data), "sha256": sha256, "url": place}


class Server(ThreadingHTTPServer):
    """Says nothing of connections that break: breaking them is what tests do."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    portal: FakePortal
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        place = urlsplit(self.path)
        fault = self.portal.faults(place.path)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return None
        if isinstance(fault, float):
            time.sleep(fault)
        elif isinstance(fault, int):
            return self._send(fault, {"detail": "not now", "code": "unavailable"})
        with suppress(BrokenPipeError, ConnectionResetError):
            parts = place.path.removeprefix("/api/v1").strip("/").split("/")
            self._route(parts, {k: v[0] for k, v in parse_qs(place.query).items()}, body)
        return None

    def _route(self, parts: list[str], query: dict[str, str], body: bytes) -> None:
        with self.portal.lock:
            if parts[0] == "files" or parts[-1] == "plan":
                return self._file(parts)
            if parts[0] == "blobs":
                return self._blob(parts[1], body)
            if parts[0] == "workers":
                return self._worker(parts, json.loads(body))
            return self._attempt(int(parts[3]), parts[4], query, body)

    def _file(self, parts: list[str]) -> None:
        name = parts[-1] if parts[-1] == "plan" else parts[1]
        data = self.portal.plan if name == "plan" else self.portal.files.get(name)
        if data is None:
            return self._send(404, {"detail": "No such file.", "code": "file-missing"})
        if self.command == "GET":
            self.portal.downloads[name] = self.portal.downloads.get(name, 0) + 1
        ranged = self.headers.get("range")
        begin, end = 0, len(data)
        if ranged:
            low, _, high = ranged.removeprefix("bytes=").partition("-")
            begin, end = int(low), int(high) + 1
            self.send_response(206)
            self.send_header("content-range", f"bytes {begin}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("accept-ranges", "bytes")
        self.send_header("content-length", str(end - begin))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[begin:end])
        return None

    def _blob(self, sha256: str, body: bytes) -> None:
        sha256 = sha256.partition("?")[0]
        held = self.portal.blobs.get(sha256)
        if self.command == "HEAD":
            told = {} if held is None else {"upload-offset": str(len(held)), "upload-complete": "?1"}
            return self._send(404 if held is None else 200, None, told)
        if digest(body) != sha256:
            return self._send(409, {"detail": "These are other bytes.", "code": "integrity"})
        self.portal.blobs[sha256] = body
        return self._send(201, {})

    def _worker(self, parts: list[str], body: dict[str, Any]) -> None:
        token = self.headers.get("authorization", "")
        if self.portal.revoked or token == "Bearer wrong":
            return self._send(401, {"detail": "This token is unknown, expired or revoked.", "code": "unauthorized"})
        if len(parts) == 1:
            if self.portal.workers.setdefault(body["name"], token) != token:
                problem = {
                    "detail": "A worker named so is alive.",
                    "code": "worker-name-taken",
                    "remedy": "Stop it.",
                }
                return self._send(409, problem)
            self.portal.asked.append(body)
            rules = {"lease_seconds": 90, "heartbeat_seconds": self.portal.heartbeat_seconds, "poll_seconds": 0.1}
            return self._send(200, {"worker": 1, "registration": len(self.portal.asked), **rules})
        self.portal.asked.append(body)
        if not self.portal.queue or body["draining"] or not body["free_slots"]:
            return self._send(204, None)
        return self._send(200, self.portal.queue.pop(0))

    def _attempt(self, number: int, what: str, query: dict[str, str], body: bytes) -> None:
        said = self.portal.attempts[number]
        told = {} if what == "logs" else json.loads(body)
        fence = int(query["fence"]) if what == "logs" else told.pop("fence")
        if number in self.portal.stale or fence != number or self.portal.revoked:
            return self._send(409, {"detail": "The job went to another attempt.", "code": "stale-lease"})
        if said.ended is not None:
            same = what == "complete" and said.ended == told
            problem = {"detail": "It ended otherwise.", "code": "conflict"}
            return self._send(200, {"state": "ended"}) if same else self._send(409, problem)
        self.number, self.query, self.body = number, query, body
        return getattr(self, f"_{what}")(said, told)

    def _heartbeat(self, said: Said, told: dict[str, Any]) -> None:
        said.beats += 1
        if told["phase"] not in said.phases:
            said.phases.append(told["phase"])
        self._send(200, {"lease_until": 0, "cancel": self.portal.cancel.get(self.number, "no")})

    def _logs(self, said: Said, _told: dict[str, Any]) -> None:
        offset, here = int(self.query["offset"]), len(said.log)
        if offset > here:
            said.gaps += 1
            return self._send(409, {"detail": "A gap.", "code": "log-gap", "expected": here})
        said.log += self.body[here - offset :]
        return self._send(200, {"offset": len(said.log)})

    def _metrics(self, said: Said, told: dict[str, Any]) -> None:
        for point in told["points"]:
            said.points[point["step"], point["name"]] = point["value"]
        self._send(200, {"stored": len(told["points"])})

    def _outputs(self, said: Said, told: dict[str, Any]) -> None:
        missing = [f["sha256"] for f in told["files"] if f["sha256"] not in self.portal.blobs]
        if missing:
            return self._send(409, {"detail": "Not here.", "code": "blob-missing", "missing": missing})
        model = next(f for f in told["files"] if f["path"] == "model.safetensors")
        if self.portal.blobs[model["sha256"]] == b"no tensors":
            return self._send(422, {"detail": "It does not load.", "code": "data-fault"})
        said.outputs[told["step"]] = told["files"]
        said.kinds[told["step"]] = told["kind"]
        return self._send(200, {"resume_from": told["step"]})

    def _complete(self, said: Said, told: dict[str, Any]) -> None:
        said.ended = told
        self._send(200, {"state": told["outcome"]})

    def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        data = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        if status >= 400:
            self.send_header("content-type", "application/problem+json")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
