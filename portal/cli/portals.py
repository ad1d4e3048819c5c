"""The portal a reading command asks: the one at ``--url``, else the local catalog over a private socket.

Both ways go through the same API and the same client, so a command behaves alike for both.
"""

from __future__ import annotations

import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portal.cli.loading import fast_imports
from portal.client import Portal
from portal.errors import Unavailable, UsageError
from portal.settings import Settings

if TYPE_CHECKING:
    import uvicorn

Url = Annotated[str, typer.Option("--url", help="Portal to ask; default PORTAL_URL, else the local catalog.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="org/name, e.g. llm360/amber.")]
StepArgument = Annotated[str, typer.Argument(metavar="STEP", help="Training step; 0 is the initial model.")]

START_SECONDS = 30.0

_STEP = re.compile(r"[+-]?[0-9]{1,1000}", re.ASCII)


def checked_step(step: str) -> str:
    """``step`` when it is a whole number of any size; UsageError otherwise."""
    if not _STEP.fullmatch(step):
        raise UsageError(f"{step[:100]!r} is not a step.", "A step is a whole number, e.g. 1000.")
    return step


@contextmanager
def open_portal(url: str) -> Iterator[Portal]:
    """The portal at ``url``, at PORTAL_URL, or the local catalog."""
    settings = Settings()
    address = url or settings.url
    if address:
        with Portal(address) as portal:
            yield portal
        return
    with _local_portal(settings) as portal:
        yield portal


@contextmanager
def _local_portal(settings: Settings) -> Iterator[Portal]:
    """The local catalog's portal on a Unix socket that only this user can reach."""
    # Imported here because asking a remote portal needs none of it, and it takes a second.
    with fast_imports():
        import httpx  # noqa: PLC0415
        import uvicorn  # noqa: PLC0415

        from portal.cli.catalogs import reached  # noqa: PLC0415
        from portal.web.app import create_app  # noqa: PLC0415

    with reached(settings):
        application = create_app(settings)
    with tempfile.TemporaryDirectory(prefix="portal-") as folder, socket.socket(socket.AF_UNIX) as listening:
        path = Path(folder) / "socket"
        listening.bind(str(path))
        config = uvicorn.Config(application, log_level="error", access_log=False, lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            _wait(server, thread)
            # Nothing is encrypted on a socket, so no certificates are loaded.
            transport = httpx.HTTPTransport(uds=str(path), verify=False)
            with Portal("http://local-catalog", transport=transport) as portal:
                yield portal
        finally:
            server.should_exit = True
            thread.join(5)


def _wait(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise Unavailable("The local catalog could not be opened.", "Try `portal serve` and read what it says.")
        time.sleep(0.005)
