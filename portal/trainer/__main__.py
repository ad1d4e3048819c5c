"""``python -m portal.trainer FOLDER/trainer.json``; under torchrun, every process runs this same command."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from portal.trainer import numerics
from portal.trainer.errors import DONE, STOPPED, BadInput, TrainerError
from portal.trainer.settings import Settings, read_settings


class Asked:
    """Whether this process was asked to stop; the step in progress is finished first."""

    def __init__(self) -> None:
        self.to_stop = False

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal wants it
        self.to_stop = True


def main(arguments: list[str]) -> int:
    """Train; the exit code (see ``portal.trainer.errors``). One sentence on stderr says what went wrong."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m portal.trainer FOLDER/trainer.json\n")
        return 2
    asked = Asked()
    # Before torch: its import takes seconds in which a stop may already come.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    speaks = os.environ.get("RANK", "0") == "0"
    try:
        settings = read_settings(Path(arguments[0]))
        numerics.prepare(settings.training.numerics)
        return _train(settings, asked)
    except TrainerError as error:
        if speaks:
            sys.stderr.write(f"{error}\n")
        return error.exit_code


def _train(settings: Settings, asked: Asked) -> int:
    try:
        from portal.trainer.loop import Trainer
    except ImportError as error:
        raise BadInput(f"torch and transformers are needed ({error}): pip install 'llm360-portal[trainer]'.") from error
    trainer = Trainer(settings)
    try:
        result = trainer.train(lambda: asked.to_stop)
    finally:
        trainer.parallel.close()
    print(f"{result['outcome']}: step {result['last_step']} of {settings.last_step}", flush=True)
    return DONE if result["outcome"] == "succeeded" else STOPPED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
