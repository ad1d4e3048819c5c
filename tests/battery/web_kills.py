"""The portal killed while runs are published: what it had acknowledged is there afterwards, once."""

from __future__ import annotations

import random
import threading
import time

from tests.battery.figures import Figures, Scale
from tests.battery.portals import DATABASES, a_portal
from tests.battery.publishers import Publisher, acknowledged, lost, wait_for_more

CLIENTS = 3


def run(scale: Scale) -> Figures:
    """Half of the kills over each database."""
    figures = Figures("kill -9 of the portal while runs are published, acknowledged writes counted")
    kills = scale.pick(2, 40, 300)
    for database in DATABASES:
        figures.add(_kill(database, max(kills // 2, 1), figures))
    return figures


def _kill(database: str, kills: int, told: Figures) -> Figures:
    figures, dice = Figures(""), random.Random(database)
    with a_portal(database) as portal:
        stop = threading.Event()
        publishers = [Publisher(portal, f"k{k}", stop) for k in range(CLIENTS)]
        threads = [threading.Thread(target=p.run) for p in publishers]
        for thread in threads:
            thread.start()
        count = 0
        for _ in range(kills):
            count = wait_for_more(publishers, count)
            time.sleep(dice.uniform(0, 0.5))
            portal.kill()
            portal.start()
            figures.injected += 1
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
        gone = lost(portal, publishers)
        figures.lost, figures.wrong = len(gone), gone + [w for p in publishers for w in p.wrong]
        figures.tried = acknowledged(publishers)
    told.more["acknowledged"] = int(told.more.get("acknowledged", 0)) + figures.tried
    return figures
