"""Small inputs that ask for much: each is refused (or answered) soon, in bounded memory, and the portal answers on.

Requests go to a real portal; files are published in a process of their own, whose time and memory are its own.
"""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.battery.figures import Figures, Scale
from tests.battery.portals import Portal, a_portal
from tests.battery.wire import Probe, Wire
from tests.conftest import REPOSITORY

MOST_S = 5.0
"""Seconds an answer may take; two on a machine that does nothing else."""
MOST_BYTES = 160 << 20
"""Memory it may take beyond what the process had: a body of the largest manifest, and what is made of it."""
MANIFEST: dict[str, Any] = {"format": "llm360-portal/release/1", "run": "lab/bomb", "training": {"last_step": 20}}


def run(scale: Scale) -> Figures:
    """Throw all of them."""
    figures = Figures("bombs refused in time and memory")
    slowest, largest = 0.0, 0
    with a_portal(more={"PORTAL_UPLOAD_SECONDS": "1"}) as portal:
        for name, thrown in REQUESTS.items():
            seconds, grown, said = _watched(portal, thrown)
            slowest, largest = max(slowest, seconds), max(largest, grown)
            figures.tried += 1
            figures.wrong += _judge(name, seconds, grown, said)
    for name in FILES if scale.name != "short" else list(FILES)[:4]:
        with tempfile.TemporaryDirectory(prefix="battery-") as folder:
            seconds, grown, said = _published(name, Path(folder))
        slowest, largest = max(slowest, seconds), max(largest, grown)
        figures.tried += 1
        figures.wrong += _judge(name, seconds, grown, said)
    figures.more |= {"slowest s": round(slowest, 2), "most MB": largest >> 20}
    return figures


def _judge(name: str, seconds: float, grown: int, said: str) -> list[str]:
    wrong = [f"{name}: {said}"] if said else []
    if seconds > MOST_S:
        wrong.append(f"{name}: {seconds:.1f} s")
    if grown > MOST_BYTES:
        wrong.append(f"{name}: {grown >> 20} MB more memory")
    return wrong


def _watched(portal: Portal, thrown: Callable[[Portal], str]) -> tuple[float, int, str]:
    """Seconds, bytes of memory more, and what was wrong with the answer."""
    assert portal.process is not None
    process = psutil.Process(portal.process.pid)
    before, started = process.memory_info().rss, time.monotonic()
    said = thrown(portal)
    seconds = time.monotonic() - started
    grown = process.memory_info().rss - before
    return seconds, max(grown, 0), said or ("" if portal.answers() else "the portal does not answer any more")


def _ask(portal: Portal, method: str, path: str, body: bytes = b"", **headers: str) -> str:
    """What is wrong with the answer: it must be one of those that refuse."""
    given = {
        "Authorization": f"Bearer {portal.tokens['publisher']}",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    answer = Wire(portal.port).ask(Probe(method, path, given, body or None))
    # A server may also hang up on what no request is.
    return f"answered {answer.status}" if answer.status >= 500 else ""


def _release(portal: Portal, body: bytes, **headers: str) -> str:
    return _ask(portal, "POST", "/api/v1/releases", body, Content_Type="application/json", **headers)


def _aliases(portal: Portal) -> str:
    lines = [b"a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 10)}]".encode() for k in range(1, 12)]
    return _release(portal, b"\n".join(lines))


def _many_keys(portal: Portal) -> str:
    return _release(
        portal, json.dumps({**MANIFEST, "links": {f"k{k}": "https://e.org" for k in range(200_000)}}).encode()
    )


def _slow_body(portal: Portal) -> str:
    """A body that trickles: cut off, and no thread is held meanwhile."""
    head = f"PUT /api/v1/blobs/{'1' * 64} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {portal.tokens['publisher']}\r\n"
    with closing(socket.create_connection(("127.0.0.1", portal.port), timeout=10)) as link:
        link.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode())
        with suppress(OSError):
            for _ in range(30):
                link.sendall(b"x")
                link.settimeout(0.1)
                with suppress(TimeoutError):
                    return "" if link.recv(100).startswith(b"HTTP/1.1 408") else "not cut off as too slow"
    return "never cut off"


REQUESTS: dict[str, Callable[[Portal], str]] = {
    "gzip 1,000:1 as the body": lambda p: _release(p, gzip.compress(bytes(64 << 20)), Content_Encoding="gzip"),
    "YAML aliases for 10^12 values": _aliases,
    "JSON 200,000 lists deep": lambda p: _release(p, b'{"manifest": {"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}, \"files\": {}}"),
    "YAML 100,000 lists deep": lambda p: _release(p, b"a: " + b"[" * 100_000),
    "YAML indented 20,000 deep": lambda p: _release(p, b"\n".join(b" " * k + b"a:" for k in range(0, 3_000))),
    "65 MiB of manifest": lambda p: _release(p, b'{"a": "' + b"x" * (65 << 20) + b'"}'),
    "200,000 links": _many_keys,
    "10^15 checkpoints by a pattern": lambda p: _release(p, json.dumps({"manifest": {**MANIFEST, "checkpoints": [
        {"steps": {"first": 1, "every": 1, "count": 10**15}, "location": "hf://lab/x@s{step}"}]}, "files": {}}).encode()),
    "10^15 chunks by a pattern": lambda p: _release(p, json.dumps({"manifest": {**MANIFEST, "data": {"chunks": [
        {"names": {"pattern": "c{index}", "count": 10**15}, "files": [], "format": "jsonl"}]}}, "files": {}}).encode()),
    "a format of 99 million digits": lambda p: _release(p, json.dumps({"manifest": {**MANIFEST, "checkpoints": [
        {"step": 1, "labels": ["{step:099999999d}"], "location": "hf://lab/x@s"}]}, "files": {}}).encode()),
    "4,000 ranges": lambda p: _ask(p, "GET", f"/files/{'0' * 64}/x", Range="bytes=" + ",".join(f"{k}-{k}" for k in range(4000))),
    "a query of 1 MB": lambda p: _ask(p, "GET", "/api/v1/search?q=" + "a" * (1 << 20)),
    "a header of 1 MB": lambda p: _ask(p, "GET", "/", X_Large="a" * (1 << 20)),
    "a cookie of 60,000 parts": lambda p: _ask(p, "GET", "/", Cookie="; ".join(f"a{k}=b" for k in range(6_000))),
    "100,000 parts of a form": lambda p: _ask(p, "POST", "/sign-in", b"".join(
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' for _ in range(100_000)) + b"--x--\r\n",
        Content_Type="multipart/form-data; boundary=x", Sec_Fetch_Site="same-origin"),
    "300,000 fields of a form": lambda p: _ask(p, "POST", "/sign-in", b"&".join(b"a=1" for _ in range(300_000)),
                                               Content_Type="application/x-www-form-urlencoded", Sec_Fetch_Site="same-origin"),
    "a body that trickles": _slow_body,
    "20,000 series asked for": lambda p: _ask(p, "GET", "/api/v1/runs/lab/small/metrics/data?series=" + "a," * 9_000),
}  # fmt: skip


def _zstd(folder: Path) -> dict[str, Any]:
    import zstandard

    packer = zstandard.ZstdCompressor(level=3).compressobj()
    with (folder / "c.jsonl.zst").open("wb") as file:
        for _ in range(64):
            file.write(packer.compress(bytes(16 << 20)))
        file.write(packer.flush())
    return _chunk("c.jsonl.zst")


def _gzip(folder: Path) -> dict[str, Any]:
    with gzip.open(folder / "c.jsonl.gz", "wb", compresslevel=6) as file:
        for _ in range(32):
            file.write(bytes(16 << 20))
    return _chunk("c.jsonl.gz")


def _long_line(folder: Path) -> dict[str, Any]:
    with (folder / "c.jsonl").open("wb") as file:
        file.truncate(1 << 30)
    return _chunk("c.jsonl")


def _columns(folder: Path) -> dict[str, Any]:
    names = ",".join(f"c{k}" for k in range(100_000))
    (folder / "log.csv").write_text(f"step,{names}\n" + ",".join("1" for _ in range(100_001)) + "\n")
    return {"metrics": [{"file": "log.csv"}]}


def _safetensors(folder: Path) -> dict[str, Any]:
    with (folder / "model.safetensors").open("wb") as file:
        file.write((400 << 20).to_bytes(8, "little"))
        file.truncate(500 << 20)
    return {"checkpoints": [{"step": 1, "files": [{"path": "model.safetensors"}]}]}


def _many_tensors(folder: Path) -> dict[str, Any]:
    header = json.dumps(
        {f"t{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(200_000)}
    ).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return {"checkpoints": [{"step": 1, "files": [{"path": "model.safetensors"}]}]}


def _regex(folder: Path) -> dict[str, Any]:
    name = "a" * 60 + "!.json"
    (folder / name).write_text(json.dumps({"results": {"t": {"acc": 1}}}))
    return {"evaluations": [{"file": name, "step_pattern": "^(?P<step>(a+)+)$"}]}


def _npy(folder: Path) -> dict[str, Any]:
    head = b"{'descr': '<u4', 'fortran_order': False, 'shape': (1152921504606846976,), }".ljust(117) + b"\n"
    (folder / "c.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    return {
        "data": {
            "chunks": [{"name": "c", "files": [{"path": "c.npy"}], "format": "flat", "header": "npy", "row_length": 8}]
        }
    }


def _links(folder: Path) -> dict[str, Any]:
    (folder / "ckpt").mkdir()
    for k in range(2):
        (folder / "ckpt" / f"loop{k}").symlink_to(folder / "ckpt")
    (folder / "ckpt" / "w.bin").write_bytes(b"x")
    return {"checkpoints": [{"step": 1, "location": "ckpt"}]}


def _config(folder: Path) -> dict[str, Any]:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]", *(f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 10))]
    (folder / "train.yaml").write_text("\n".join(lines))
    return {"configs": [{"file": "train.yaml"}]}


def _zip(folder: Path) -> dict[str, Any]:
    with zipfile.ZipFile(folder / "evals.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.json", bytes(64 << 20))
    return {"evaluations": [{"file": "evals.zip"}]}


def _chunk(name: str) -> dict[str, Any]:
    return {"data": {"chunks": [{"name": "c", "files": [{"path": name}], "format": "jsonl", "row_length": 8}]}}


FILES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "an expression that backtracks for ever": _regex,
    "a config of aliases": _config,
    "an NPY header of 2^60 rows": _npy,
    "links in a circle": _links,
    "100,000 columns": _columns,
    "a safetensors header of 400 MB": _safetensors,
    "200,000 empty tensors": _many_tensors,
    "a zip as an evaluation": _zip,
    "gzip of 512 MB without a line": _gzip,
    "zstd of 1 GB without a line": _zstd,
    "a line of 1 GB": _long_line,
}

_CHILD = """
import json, resource, sys, time
from pathlib import Path
from portal.database import create_database_engine, migrate
from portal.errors import PortalError
from portal.exchange.publish import publish
from portal.settings import Settings
folder = Path(sys.argv[1])
settings = Settings(data=folder / "data")
engine = create_database_engine(settings)
migrate(engine)
import h5py, pyarrow.parquet, portal.scan
before, started, said = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), ""
try:
    publish(folder / "release", settings, engine)
except PortalError as error:
    said = "" if str(error) else "refused without a word"
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([time.monotonic() - started, grown * 1024, said]))
"""


def _published(name: str, folder: Path) -> tuple[float, int, str]:
    release = folder / "release"
    release.mkdir()
    (release / "release.json").write_text(json.dumps({**MANIFEST, **FILES[name](release)}))
    command = [sys.executable, "-c", _CHILD, str(folder)]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return 60.0, 0, "never ended"
    if done.returncode:
        return 0.0, 0, done.stderr.strip().splitlines()[-1][:300]
    seconds, grown, said = json.loads(done.stdout.splitlines()[-1])
    return seconds, grown, said
