"""``portal serve``, ``portal demo`` and ``portal migrate``: the portal itself."""

from __future__ import annotations

import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from portal.cli.attached import attached_worker, training_python
from portal.cli.catalogs import reached
from portal.cli.progress import progress_bars
from portal.cli.sending import Sending, send_demo
from portal.cli.terminal import complain, say
from portal.database import create_database_engine, migrate
from portal.demo import build_demo
from portal.errors import Unavailable
from portal.metrics.shapes import warm_up
from portal.settings import Settings
from portal.web.app import create_app
from portal.web.door.logs import configure_logging
from portal.web.door.shared import folder_of_parent, shared_folder
from portal.web.server import SendfileProtocol

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")]

TINY = "demo/tiny"
HEALTHY_S = 120
"""Seconds in which a server process has to answer the one that watches over it, or to come up."""
STALLED_S = 120
"""Seconds after which a client is given up that takes nothing of what is sent to it."""


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
    settings.data.mkdir(parents=True, exist_ok=True)
    with _listen(host, port) as listening, reached(settings):
        served = create_app(settings)  # refuses here, before a server is started, what it would refuse later
        configure_logging(settings)
        say(f"Serving on {_address(listening)}")
        if workers == 1:
            _run(served, listening)
            return
        served.state.desk.close()
        sys.stdout.flush()
        with shared_folder():
            Multiprocess(_config("portal.cli.serve:application", settings, workers), [listening]).run()


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder for the demo's catalog and files; default PORTAL_DATA.")
    ] = None,
    port: Port = 8360,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Attach no worker: jobs wait until one is attached by hand.")
    ] = False,
    only: Annotated[str | None, typer.Option(help="Build this run alone, e.g. demo/tiny.")] = None,
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="Serve nothing: publish them at this portal (with PORTAL_TOKEN).")
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token over http:// to another machine all the same.")
    ] = False,
) -> None:
    """Build the demo runs once and serve them, or publish them --to a portal."""
    # Anybody who reaches the demo may submit jobs: it listens on this machine alone.
    settings = Settings(anonymous_jobs=True) if data is None else Settings(anonymous_jobs=True, data=data.absolute())
    if to:
        send_demo(settings, Sending(to, settings.token.get_secret_value(), insecure, workers=4, dry_run=False), only)
        return
    with _listen("127.0.0.1", port) as listening, reached(settings):
        engine = create_database_engine(settings)
        migrate(engine)
        with progress_bars() as progress:
            runs = build_demo(settings, engine, only, progress)
        complain(f"{len(runs)} {'run is' if len(runs) == 1 else 'runs are'} ready.")
        address = _address(listening)
        _invite(address, runs)
        with ExitStack() as stack:
            python = None if no_worker else training_python()
            if python is not None:
                stack.enter_context(attached_worker(settings, engine, address, python))
                complain(f"A worker is attached; its log is {settings.data / 'worker' / 'worker.log'}.")
            elif not no_worker:
                complain("No worker is attached, as torch is not installed: `make trainer`, then start again.")
            engine.dispose()
            configure_logging(settings)
            _run(create_app(settings), listening, stack.close)


def migrate_database() -> None:
    """Bring the database's schema up to date."""
    settings = Settings()
    with reached(settings):
        engine = create_database_engine(settings)
        migrate(engine)
    say(f"The schema at {engine.url.render_as_string(hide_password=True)} is up to date.")
    engine.dispose()


def application() -> FastAPI:
    """The portal over the settings of the environment: what each of several server processes runs."""
    settings = Settings()
    configure_logging(settings)
    return create_app(settings, shared=folder_of_parent())


def _config(served: FastAPI | str, settings: Settings, workers: int = 1) -> uvicorn.Config:
    """How the server runs: its own words go where the portal's log goes, and who stands behind a proxy is found at the
    door, not guessed by the server."""
    return uvicorn.Config(
        served,
        factory=isinstance(served, str),
        workers=workers,
        http=SendfileProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=settings.stop_seconds,
        # A process that is started beside busy ones takes seconds to come up.
        timeout_worker_healthcheck=HEALTHY_S,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket: taken first, so that a port in use is refused before anything is built."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(f"{host} port {port}: {error.strerror}.", "Choose another --port or --host.") from None
    listening.set_inheritable(True)
    if sys.platform == "linux":
        # Handed on to every connection: a client that takes nothing for so long is cut off.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_S * 1000)
    _allow_connections()
    return listening


def _allow_connections() -> None:
    """As many open files as this process may have: each client takes one."""
    _soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _run(served: FastAPI, listening: socket.socket, before_end: Callable[[], None] | None = None) -> None:
    """Answer until SIGTERM or Ctrl-C; running answers are finished first, and before them ``before_end``."""
    sys.stdout.flush()
    # The server repeats the signal that ended it; a service that was told to stop has not failed.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    # Beside answering: readers of the first figure need not wait for plotly, and the start does not either.
    threading.Thread(target=warm_up, daemon=True).start()
    config = _config(served, served.state.desk.settings)
    (uvicorn.Server(config) if before_end is None else _LastWords(config, before_end)).run(sockets=[listening])


class _LastWords(uvicorn.Server):
    """A server that still answers while ``before_end`` runs: who is ended there has things to tell. Asked again, it ends."""

    def __init__(self, config: uvicorn.Config, before_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_end: Callable[[], None] | None = before_end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        before_end, self._before_end = self._before_end, None
        if before_end is None:
            super().handle_exit(sig, frame)
            return

        def end() -> None:
            before_end()
            # What the server does on a signal, without repeating that signal afterwards.
            self.should_exit = True

        threading.Thread(target=end, daemon=True).start()


def _invite(address: str, runs: list[str]) -> None:
    say(f"\nThe portal is at {address}.".lstrip() if TINY in runs else f"The portal is at {address}/runs/{runs[0]}")
    if TINY in runs:
        say("Try:")
        say(f"  open    {address}/runs/{TINY} and click the spike in the loss")
        say(f"  portal at {TINY} 150 --url {address}")
        say(f"  portal tokens {TINY} 150 --rows 0:3 --url {address}")
        say(f"  portal pair {TINY} 150 --to pair --url {address}")
