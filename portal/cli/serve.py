"""``portal serve``, ``portal demo`` and ``portal migrate``: the portal itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI

from portal.cli.terminal import complain, progress_bars, say
from portal.database import create_database_engine, migrate
from portal.demo import build_demo
from portal.settings import Settings
from portal.web.app import create_app

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]
Port = Annotated[int, typer.Option(min=0, max=65535)]


def add_to(application: typer.Typer) -> None:
    """Register the commands."""
    application.command("serve")(serve)
    application.command("demo")(demo)
    application.command("migrate")(migrate_database)


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8360,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 1,
) -> None:
    """Serve pages and API. An embedded database is migrated; a shared one must be up to date."""
    settings = Settings()
    application = create_app(settings)  # refuses here, before a server is started, what it would refuse later
    say(f"Serving on http://{host}:{port}")
    if workers == 1:
        uvicorn.run(application, host=host, port=port, log_level="warning", access_log=False)
        return
    application.state.desk.engine.dispose()
    uvicorn.run(
        "portal.cli.serve:application",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_level="warning",
        access_log=False,
    )


def demo(
    data: Annotated[Path, typer.Option(help="Folder for the demo's catalog and files.")] = Path("portal-data"),
    port: Port = 8360,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Attach no worker (none is attached yet: this version runs no jobs).")
    ] = False,
    only: Annotated[str | None, typer.Option(help="Build this run alone, e.g. demo/tiny.")] = None,
) -> None:
    """Build the demo runs once and serve them."""
    settings = Settings(data=data.absolute())
    engine = create_database_engine(settings)
    migrate(engine)
    with progress_bars() as progress:
        runs = build_demo(settings, engine, only, progress)
    complain(f"{len(runs)} runs are ready.")
    engine.dispose()
    address = f"http://127.0.0.1:{port}"
    say()
    say(f"The portal is at {address}. Try:")
    say()
    say(f"  open    {address}/runs/demo/tiny and click the spike in the loss")
    say(f"  portal at demo/tiny 150 --url {address}")
    say(f"  portal tokens demo/tiny 150 --rows 0:3 --url {address}")
    say(f"  portal pair demo/tiny 150 --to pair --url {address}")
    say()
    if not no_worker:
        complain("No worker is attached: this version runs no jobs.")
    uvicorn.run(create_app(settings), host="127.0.0.1", port=port, log_level="warning", access_log=False)


def migrate_database() -> None:
    """Bring the database's schema up to date."""
    settings = Settings()
    engine = create_database_engine(settings)
    migrate(engine)
    say(f"The schema at {engine.url.render_as_string(hide_password=True)} is up to date.")


def application() -> FastAPI:
    """The portal over the settings of the environment: what each of several server processes runs."""
    return create_app(Settings())
