"""``python -m portal.trainer [--processes N] FOLDER/trainer.json``; under torchrun, every process runs this command."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType

from portal.trainer import numerics
from portal.trainer.errors import DONE, FAILED, STOPPED, TrainerError, Unfit, writing
from portal.trainer.launch import launch
from portal.trainer.settings import Settings, read_settings


class Asked:
    """Whether this process was asked to stop; the step in progress is finished first."""

    def __init__(self) -> None:
        self.to_stop = False

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal wants it
        self.to_stop = True


def main(arguments: list[str]) -> int:
    """Train; the exit code (see ``portal.trainer.errors``). One sentence on stderr says what went wrong."""
    processes, path = _read_arguments(arguments)
    if path is None:
        sys.stderr.write("usage: python -m portal.trainer [--processes N] FOLDER/trainer.json\n")
        return 2
    asked = Asked()
    # Before torch: its import takes seconds in which a stop may already come.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    try:
        settings = read_settings(Path(path))
        if processes > 1:
            return launch(processes, path, lambda: asked.to_stop)
        numerics.prepare(settings.training.numerics)
        return _train(settings, asked)
    except TrainerError as error:
        return _say(error)


def _read_arguments(arguments: list[str]) -> tuple[int, str | None]:
    match arguments:
        case ["--processes", count, path] if count.isdecimal() and int(count) > 0:
            return int(count), path
        case [path] if not path.startswith("-"):
            return 1, path
    return 1, None


def _train(settings: Settings, asked: Asked) -> int:
    try:
        from portal.trainer.loop import Trainer
        from portal.trainer.parallel import leave
    except ImportError as error:
        raise Unfit(f"torch and transformers are needed ({error}): pip install 'llm360-portal[trainer]'.") from error
    code = FAILED
    try:
        with writing(settings.output, "the log"):
            trainer = Trainer(settings)
            result = trainer.train(lambda: asked.to_stop)
            trainer.parallel.wait()
            if trainer.parallel.speaks:
                print(f"{result['outcome']}: step {result['last_step']} of {settings.last_step}", flush=True)
        code = DONE if result["outcome"] == "succeeded" else STOPPED
    except TrainerError as error:
        code = _say(error)
    except Exception:
        traceback.print_exc()
    leave(code)
    return code


def _say(error: TrainerError) -> int:
    if os.environ.get("RANK", "0") == "0":
        with suppress(OSError):  # on a full disk the exit code alone gets through
            sys.stderr.write(f"{error}\n")
    return error.exit_code


def _end(code: int) -> None:
    """Leave. All is said and saved: a further stop must not turn the exit code into a signal's, as Python's end would."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    _end(main(sys.argv[1:]))
