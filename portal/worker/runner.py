"""``python -m portal.worker.runner SPOOL``: the trainer's parent. Heartbeats, shipping, stopping; imports no torch.

With ``direct`` staging it fetches the input and talks to the portal itself, so the agent may die meanwhile. With
``relay`` it runs where no portal can be reached: it only starts and stops the trainer, and the agent does the rest by
the files of the spool. A runner that was killed and is started again finds its trainer and goes on.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from pathlib import Path

from portal.worker.spool import CONTROL, Spool
from portal.worker.supervision import BEAT_TICKS, NO, TICK, Signalled, Supervision


def main(arguments: list[str]) -> int:
    """Run the attempt in a spool; the trainer's exit code, 76 where the attempt lost its lease, 70 for a fault of ours."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signalled = Signalled()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signalled)
    spool = Spool(Path(arguments[0]).resolve())
    lease = spool.lease()
    training = Supervision(spool, lease, signalled)
    training.sign_of_life()
    if lease.staging == "relay":
        code = _relayed(training)
    else:
        # Loaded only here: it brings HTTP and readers of rows, half a second of every start.
        from portal.worker.direct import run_direct  # noqa: PLC0415

        code = run_direct(training, signalled)
    training.sign_of_life({"code": code})
    return code if 0 <= code <= 128 else 1


def _relayed(training: Supervision) -> int:
    """Start the trainer on what the agent laid out, and stop it when a file says so."""
    if not training.trainer.begun:
        training.trainer.start(training.lease)
    training.phase = "running"
    tick = 0
    while True:
        wish = str((training.spool.read(CONTROL) or {}).get("stop", NO))
        code = training.watch(wish)
        if code is not None:
            return code
        if tick % BEAT_TICKS == 0:
            training.sign_of_life()
        tick += 1
        time.sleep(TICK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
