"""``python -m tests.bench._serve SOCKET FOLDER``: a portal over FOLDER, or with FOLDER ``-`` the floor, bare Starlette."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from portal.settings import Settings
from portal.web.app import create_app


def make_floor() -> Starlette:
    """Answers ``/floor/N`` with N bytes from memory: what this server can do at all."""
    bodies: dict[int, bytes] = {}

    async def floor(request: Request) -> Response:
        size = request.path_params["size"]
        body = bodies.setdefault(size, b"x" * size)
        return Response(body, media_type="application/json")

    return Starlette(routes=[Route("/floor/{size:int}", floor)])


def main() -> None:
    """Serve until killed."""
    port, folder = int(sys.argv[1]), sys.argv[2]
    app = make_floor() if folder == "-" else create_app(Settings(data=Path(folder)))
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
