"""PostgreSQL killed with all its processes while runs are published: what was acknowledged is there when it is back."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from pathlib import Path

from tests.battery.figures import Figures, Scale
from tests.battery.portals import a_durable_postgres, prepare
from tests.battery.publishers import Publisher, acknowledged, lost, wait_for_more

CLIENTS = 3


def run(scale: Scale) -> Figures:
    """The portal runs through; only its database goes."""
    figures = Figures("SIGKILL of PostgreSQL while runs are published, acknowledged writes counted")
    dice = random.Random(4)
    with a_durable_postgres() as server, tempfile.TemporaryDirectory(prefix="battery-") as folder:
        portal = prepare(Path(folder), server.url(server.create_database("portal")))
        portal.start()
        stop = threading.Event()
        publishers = [Publisher(portal, f"d{k}", stop) for k in range(CLIENTS)]
        threads = [threading.Thread(target=p.run) for p in publishers]
        try:
            for thread in threads:
                thread.start()
            told = 0
            for _ in range(scale.pick(2, 30, 200)):
                # A server that is killed before anything was written loses nothing.
                told = wait_for_more(publishers, told)
                time.sleep(dice.uniform(0, 0.5))
                server.kill()
                time.sleep(dice.uniform(0, 0.3))
                server.start_again()
                figures.injected += 1
            time.sleep(0.5)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        gone = lost(portal, publishers)
        figures.lost, figures.wrong = len(gone), gone + [w for p in publishers for w in p.wrong]
        figures.tried = acknowledged(publishers)
        figures.more["acknowledged"] = figures.tried
        portal.kill()
    return figures
