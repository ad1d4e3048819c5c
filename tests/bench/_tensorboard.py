"""``python -m tests.bench._tensorboard FOLDER``: three series as TensorBoard's own writer writes them; runs where it is installed."""

from __future__ import annotations

import sys
import time

from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-not-found, unused-ignore]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-not-found, unused-ignore]
from tensorboard.summary.writer.event_file_writer import EventFileWriter  # type: ignore[import-not-found, unused-ignore]

STEPS = 274_320
SERIES = ("train/loss", "train/grad_norm", "train/lr")


def main() -> None:
    """Write every step, one event for all three, as a trainer does."""
    writer = EventFileWriter(sys.argv[1])
    began = time.time()
    for step in range(1, STEPS + 1):
        values = [Summary.Value(tag=tag, simple_value=2 + 8 / (1 + step / 500) ** 0.6) for tag in SERIES]
        writer.add_event(Event(step=step, wall_time=began + step, summary=Summary(value=values)))
    writer.close()


if __name__ == "__main__":
    main()
