"""Publishing: hashing against ``sha256sum`` on every core, a 360-checkpoint folder besides hashing, and again unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from portal.database import create_database_engine, migrate
from portal.exchange.publish import PublishReport, publish
from portal.settings import Settings
from portal.storage.hashing import HashJob, hash_files, usable_cores

FILE_BYTES = 512 << 20
CHECKPOINTS = 360
FILES = 10
ROUNDS = 3


def main() -> None:
    """Print one line per figure; times are the best of the rounds, because the machine may be shared."""
    with tempfile.TemporaryDirectory() as folder:
        _hashing(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        _publishing(Path(folder))


def _hashing(folder: Path) -> None:
    cores = usable_cores()
    paths = [folder / f"{k}.bin" for k in range(cores)]
    for path in paths:
        with path.open("wb") as stream:
            for _ in range(FILE_BYTES >> 20):
                stream.write(os.urandom(1 << 20))
    ours, floor, library = [], [], []
    for _ in range(ROUNDS):
        floor.append(_spent(lambda: _sha256sum(paths)))
        library.append(_spent(lambda: _hashlib(paths)))
        ours.append(_spent(lambda: list(hash_files([HashJob(str(p), p, FILE_BYTES) for p in paths], cores))))
    total = cores * FILE_BYTES / 1e9
    print(
        f"hashing {cores} files of {FILE_BYTES / 1e9:.2f} GB on {cores} cores (sha256 and blake3 blocks in one read):"
    )
    for name, spent in (("portal", ours), ("sha256sum", floor), ("hashlib sha256 alone", library)):
        wall, cpu = min(w for w, _ in spent), min(c for _, c in spent)
        print(f"  {name}: {total / wall:.2f} GB/s, {cpu / total:.2f} CPU s/GB")
    for name, spent in (("sha256sum", floor), ("hashlib sha256 alone", library)):
        wall = min(w for w, _ in spent) / min(w for w, _ in ours)
        cpu = min(c for _, c in spent) / min(c for _, c in ours)
        print(f"  portal / {name}: {wall:.2f}x in wall time, {cpu:.2f}x per core")


def _spent(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds, those of finished children included."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used)

    before, began = cpu(), time.perf_counter()
    work()
    return time.perf_counter() - began, cpu() - before


def _sha256sum(paths: list[Path]) -> None:
    for process in [subprocess.Popen(["sha256sum", path], stdout=subprocess.DEVNULL) for path in paths]:
        process.wait()


def _hashlib(paths: list[Path]) -> None:
    threads = [threading.Thread(target=_digest, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _digest(path: Path) -> None:
    with path.open("rb", buffering=0) as stream:
        hashlib.file_digest(stream, "sha256")


class _Phases:
    """Wall and CPU seconds of each phase of a publication."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._phase, self._began, self._cpu = "looking", time.perf_counter(), time.process_time()

    def begin(self, phase: str, total_bytes: int) -> None:  # noqa: ARG002 - the protocol of a publication
        now, cpu = time.perf_counter(), time.process_time()
        self.seconds[self._phase] = now - self._began
        self.cpu[self._phase] = cpu - self._cpu
        self._phase, self._began, self._cpu = phase.split()[0], now, cpu

    def advance(self, count: int) -> None:
        """Bytes are of no interest here."""


def _publishing(folder: Path) -> None:
    release = folder / "release"
    _build(release)
    settings = Settings(data=folder / "data")
    engine = create_database_engine(settings)
    migrate(engine)
    phases = _Phases()
    report = publish(release, settings, engine, progress=phases)
    phases.begin("done", 0)
    hashing = phases.seconds.pop("Hashing")
    print(
        f"publishing {report.checkpoints} checkpoints, {report.chunks} chunks, {report.files:,} files: "
        f"{report.seconds - hashing:.2f} s ({sum(phases.cpu.values()) - phases.cpu['Hashing']:.2f} CPU s) "
        f"besides {hashing:.2f} s of hashing "
        f"({', '.join(f'{name} {seconds:.2f}' for name, seconds in phases.seconds.items())})"
    )
    again: list[PublishReport] = [publish(release, settings, engine) for _ in range(ROUNDS)]
    print(f"publishing it again, unchanged: {min(r.seconds for r in again):.2f} s ({again[0].state})")
    engine.dispose()


def _build(release: Path) -> None:
    """Small files in Amber's numbers: the parts of each checkpoint, one chunk per checkpoint."""
    header = json.dumps({"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    for k in range(CHECKPOINTS):
        checkpoint = release / "checkpoints" / f"ckpt_{k:03d}"
        checkpoint.mkdir(parents=True)
        for part in range(FILES - 1):
            body = struct.pack("<Q", len(header)) + header + os.urandom(8)
            (checkpoint / f"model-{part:05d}.safetensors").write_bytes(body)
        (checkpoint / "config.json").write_text("{}")
    (release / "data").mkdir()
    row = json.dumps({"token_ids": list(range(8)), "source": "c4"}) + "\n"
    for k in range(CHECKPOINTS):
        (release / "data" / f"train_{k:03d}.jsonl").write_text(row * 80)
    (release / "train.csv").write_text("step,loss\n" + "".join(f"{s},{3 - s / 7200:.4f}\n" for s in range(1, 7201)))
    (release / "release.yaml").write_text(f"""\
format: llm360-portal/release/1
run: bench/amber-shape
training: {{sequence_length: 8, row_length: 8, rows_per_step: 4, last_step: {CHECKPOINTS * 20}}}
cadence: 20
checkpoints:
  - steps: {{first: 20, every: 20, count: {CHECKPOINTS}}}
    labels: ["ckpt_{{index:03d}}"]
    location: "checkpoints/ckpt_{{index:03d}}"
data:
  chunks:
    - names: {{pattern: "train_{{index:03d}}", count: {CHECKPOINTS}}}
      files: [{{path: "data/train_{{index:03d}}.jsonl"}}]
      format: jsonl
      rows: 80
  order:
    - {{first_step: 1, last_step: {CHECKPOINTS * 20}, chunks: {{pattern: "train_{{index:03d}}", count: {CHECKPOINTS}}}, kind: sequential}}
metrics: [{{file: train.csv}}]
""")


if __name__ == "__main__":
    main()
