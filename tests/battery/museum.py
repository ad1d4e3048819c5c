"""The museum of broken runs: every exhibit gets its verdict, on both databases."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

from portal.database import create_database_engine, migrate
from portal.settings import Settings
from tests.battery.figures import Figures, Scale
from tests.museum.exhibit import EXHIBITS, Room
from tests.postgres import start_postgres

ROOMS = ("data", "orders", "checkpoints", "numbers")


def run(scale: Scale) -> Figures:
    """Show every exhibit; on PostgreSQL as well but in the short form."""
    for room in ROOMS:
        importlib.import_module(f"tests.museum.{room}")
    figures = Figures("broken runs, each with its verdict")
    server = None if scale.name == "short" else start_postgres()
    try:
        for exhibit in EXHIBITS:
            for database in ("sqlite", "postgres")[: 1 if server is None else 2]:
                with tempfile.TemporaryDirectory(prefix="battery-") as folder:
                    url = (
                        server.url(server.create_database(f"m{figures.tried}"))
                        if server and database == "postgres"
                        else ""
                    )
                    settings = Settings(data=Path(folder) / "data", **({"database_url": url} if url else {}))
                    engine = create_database_engine(settings)
                    migrate(engine)
                    said = Room(engine, settings).judge(exhibit, Path(folder) / "release")
                    engine.dispose()
                figures.tried += 1
                figures.wrong += [f"{exhibit.name} ({database}): {one}" for one in said]
    finally:
        if server:
            server.stop()
    figures.more["exhibits"] = len(EXHIBITS)
    return figures
