"""``python -m tests.bench._serve SOCKET FOLDER``: a portal over FOLDER, or with FOLDER ``-`` the floor, one route and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response

from portal.metrics import written
from portal.settings import Settings
from portal.web.app import create_app
from portal.web.assets import load_assets
from portal.web.server import SendfileProtocol


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


BARE = """<!doctype html><title>bare</title><link rel="preload" as="fetch" crossorigin href="{figure}">
<div id="plot"></div><script src="{bundle}"></script><script>
const arrays = {{ i4: Int32Array, f4: Float32Array, f8: Float64Array }};
fetch("{figure}", {{ credentials: "same-origin" }}).then((answer) => answer.json())
  .then((figure) => Plotly.newPlot("plot", figure.data, figure.layout, {{ displayModeBar: false, staticPlot: true }}))
  .then(() => requestAnimationFrame(() => setTimeout(() => {{ window.ready = performance.now(); }}, 0)));
</script>"""


def make_portal(folder: str) -> FastAPI:
    """The portal, with ``/bare?figure=``: a page that draws a figure and does nothing else; ``/forget`` drops the
    columns written for earlier metric queries."""
    app = create_app(Settings(data=Path(folder), rates="off"))
    bundle = load_assets().url("vendor/plotly-basic.min.js")

    @app.get("/bare")
    async def bare(figure: str) -> HTMLResponse:
        return HTMLResponse(BARE.format(figure=figure, bundle=bundle))

    @app.get("/forget")
    async def forget() -> Response:
        written.shelf.clear()
        return Response(b"{}", media_type="application/json")

    return app


def main() -> None:
    """Serve until killed."""
    port, folder = int(sys.argv[1]), sys.argv[2]
    app = make_floor() if folder == "-" else make_portal(folder)
    uvicorn.run(app, host="127.0.0.1", port=port, http=SendfileProtocol, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
