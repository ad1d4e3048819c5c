"""Stands in for the trainer where its behaviour is the test: ``fake_trainer.py BEHAVIOUR.json FOLDER/trainer.json``.

Reads and writes the files that the real one does, without torch. BEHAVIOUR may hold ``pace`` (seconds a step),
``exit_at`` {step: code}, ``kill_at`` step, ``deaf`` (ignores SIGTERM), ``noise`` (a 10 MB line and control characters),
``nan_at`` step, ``hold_at`` (a step it waits before until a file ``go`` lies beside BEHAVIOUR), ``no_checkpoint``.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from pathlib import Path


def main() -> int:
    """Train; as the real one exits."""
    behaviour_path, settings_path = Path(sys.argv[1]), Path(sys.argv[2])
    behaviour, settings = json.loads(behaviour_path.read_text()), json.loads(settings_path.read_text())
    folder = settings_path.parent
    stop = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour.get("deaf") else lambda *_: stop.append(1))
    output = folder / settings["output"]
    output.mkdir(exist_ok=True)
    (output / "environment.json").write_text('{"packages": {"torch": "none"}}')
    print("trainer begins", flush=True)
    if behaviour.get("noise"):
        sys.stdout.buffer.write(b"x" * 10_000_000 + b"\x00\x1b[31m\xff\xfe red \r\n")
        sys.stdout.flush()
    rows = (folder / settings["rows"]["file"]).read_bytes()
    first = start(folder, settings)
    with (output / "metrics.jsonl").open("a") as metrics:
        for step in range(first, settings["last_step"] + 1):
            while behaviour.get("hold_at") == step and not (behaviour_path.parent / "go").exists() and not stop:
                time.sleep(0.02)
            if stop:
                save(folder, settings, step - 1)
                print(f"preempted: step {step - 1}", flush=True)
                return 75
            code = behaviour.get("exit_at", {}).get(str(step))
            if code is not None:
                print(f"step {step} goes wrong", file=sys.stderr, flush=True)
                return int(code)
            if behaviour.get("kill_at") == step:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(behaviour.get("pace", 0.01))
            loss = "NaN" if behaviour.get("nan_at") == step else loss_of(rows, settings, step)
            metrics.write(json.dumps({"step": step, "loss": loss, "lr": 0.1}) + "\n")
            metrics.flush()
            print(f"step {step}: loss {loss}", flush=True)
            every = settings["save_every"]
            if step == settings["last_step"] or (every and step % every == 0):
                save(folder, settings, step, behaviour.get("no_checkpoint", False))
    (output / "result.json").write_text('{"outcome": "succeeded"}')
    print("succeeded", flush=True)
    return 0


def start(folder: Path, settings: dict) -> int:
    """The first step to train: after the checkpoint to resume from."""
    if settings["resume"] is None:
        assert (folder / settings["checkpoint"] / "model.safetensors").is_file()
        return settings["first_step"]
    return json.loads((folder / settings["resume"] / "trainer_state.json").read_text())["step"] + 1


def loss_of(rows: bytes, settings: dict, step: int) -> float:
    """Made of the rows of the step, so that wrong rows show."""
    width = 2 if settings["rows"]["dtype"] == "u16" else 4
    size = settings["rows"]["row_length"] * settings["training"]["rows_per_step"] * width
    begin = (step - settings["first_step"]) * size
    piece = rows[begin : begin + size]
    assert len(piece) == size, f"rows of step {step} are missing"
    return float(sum(struct.unpack(f"<{len(piece) // width}{'H' if width == 2 else 'I'}", piece)))


def save(folder: Path, settings: dict, step: int, hollow: bool = False) -> None:
    """A checkpoint folder, whole under its name."""
    place = folder / settings["output"] / "checkpoints" / f"step-{step:07d}"
    partial = place.with_name(f".{place.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    if hollow:
        (partial / "model.safetensors").write_bytes(b"no tensors")
    else:
        header = b"{}"
        (partial / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (partial / "trainer_state.json").write_text(json.dumps({"step": step}))
    partial.rename(place)


if __name__ == "__main__":
    sys.exit(main())
