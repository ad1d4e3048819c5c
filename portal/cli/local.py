"""The local catalog as a portal: what is asked most is answered at once, all else by a portal on a private socket.

A portal takes a second to import; a step is arithmetic over facts that are read in milliseconds. Both give the
bytes of the same answers of the catalog.
"""

from __future__ import annotations

import re
import socket
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx
import orjson

from portal.catalog.runs import list_runs
from portal.catalog.steps import get_step
from portal.cli.catalogs import open_catalog, reached
from portal.cli.loading import fast_imports
from portal.database import Engine, open_session
from portal.errors import Unavailable
from portal.settings import Settings

if TYPE_CHECKING:
    import uvicorn

START_SECONDS = 30.0
_STEP = re.compile(r"/api/v1/runs/([^/]+/[^/]+)/steps/([+-]?[0-9]{1,1000})")
_AS_PORTAL = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


class LocalCatalog(httpx.BaseTransport):
    """Answers requests from the local catalog; PortalErrors of what is asked are raised as they are."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held = ExitStack()
        self._engine: Engine = self._held.enter_context(open_catalog(settings, create=False))
        self._portal: httpx.BaseTransport | None = None
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as the portal would."""
        found = self._look_up(request) if request.method == "GET" else None
        if found is not None:
            body = orjson.dumps(found, option=_AS_PORTAL)
            return httpx.Response(200, content=body, headers={"Content-Type": "application/json"}, request=request)
        with self._lock:
            if self._portal is None:
                self._portal = self._started()
        return self._portal.handle_request(request)

    def close(self) -> None:
        """Let go of the catalog and the portal."""
        self._held.close()

    def _look_up(self, request: httpx.Request) -> Any:
        """The answer, where the catalog alone has it."""
        path, asked = request.url.raw_path.decode("ascii").partition("?")[0], request.url.params
        step = _STEP.fullmatch(path)
        if path != "/api/v1/runs" and step is None:
            return None
        with reached(self._settings), open_session(self._engine) as session:
            if step is not None:
                run = "/".join(unquote(part) for part in step[1].split("/"))
                return get_step(session, self._settings, run, int(step[2]))
            return list_runs(session, int(asked.get("limit", "100")), asked.get("cursor"))

    def _started(self) -> httpx.BaseTransport:
        """A portal on a Unix socket that only this user can reach."""
        with fast_imports():
            import uvicorn  # noqa: PLC0415 - most commands need no portal

            from portal.web.app import create_app  # noqa: PLC0415

        with reached(self._settings):
            application = create_app(self._settings, operator=True)
        folder = self._held.enter_context(tempfile.TemporaryDirectory(prefix="portal-"))
        listening = self._held.enter_context(socket.socket(socket.AF_UNIX))
        path = Path(folder) / "socket"
        listening.bind(str(path))
        server = uvicorn.Server(uvicorn.Config(application, log_level="error", access_log=False, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        self._held.callback(_end, server, thread)
        _wait(server, thread)
        # Nothing is encrypted on a socket, so no certificates are loaded.
        transport = httpx.HTTPTransport(uds=str(path), verify=False)
        self._held.callback(transport.close)
        return transport


def _wait(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise Unavailable("The local catalog could not be opened.", "Try `portal serve` and read what it says.")
        time.sleep(0.005)


def _end(server: uvicorn.Server, thread: threading.Thread) -> None:
    server.should_exit = True
    thread.join(5)
