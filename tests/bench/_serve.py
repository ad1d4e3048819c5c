"""``python -m tests.bench._serve SOCKET FOLDER``: a portal over FOLDER, or with FOLDER ``-`` the floor, one route and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response

from portal.settings import Settings
from portal.web.app import create_app


def make_floor() -> FastAPI:
    """Answers ``/floor/N`` with N bytes from memory: what the same server and framework can do at all."""
    app = FastAPI()
    bodies: dict[int, bytes] = {}

    @app.get("/floor/{size}")
    async def floor(size: int) -> Response:
        if size not in bodies:
            bodies[size] = b"x" * size
        return Response(bodies[size], media_type="application/json")

    return app


def main() -> None:
    """Serve until killed."""
    port, folder = int(sys.argv[1]), sys.argv[2]
    app = make_floor() if folder == "-" else create_app(Settings(data=Path(folder)))
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
