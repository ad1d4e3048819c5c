"""A portal with demo/tiny and a run whose files lie on another Hub, and what unmodified clients get from it."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
import uvicorn
import yaml
from starlette.types import ASGIApp, Receive, Scope, Send

from portal.catalog.checkpoints import get_checkpoint
from portal.catalog.repositories import list_refs
from portal.database import create_database_engine, migrate, open_session
from portal.demo import build_demo
from portal.demo.build import TINY
from portal.exchange.publish import publish
from portal.settings import Settings
from portal.web.app import create_app
from portal.web.commands import dialect_commands
from tests.clients.facts import RUN, about, facts_of, make_calls
from tests.seaweed import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedServer

ELSEWHERE = "demo/elsewhere"
PREFIX = "/below/a/proxy"
ENDPOINTS = {"new": PREFIX, "old": ""}
"""Where each set of clients finds the portal: at the top, or where a proxy has put it."""
ROWS_OF_A_PAGE = 3


class Proxy:
    """Passes requests below `PREFIX` on without it, as a proxy does, and all others as they are.

    Every list goes on and on, so that clients have to follow.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            raw = scope["raw_path"].removeprefix(PREFIX.encode())
            scope = {**scope, "path": scope["path"].removeprefix(PREFIX), "raw_path": raw}
        if scope["type"] == "http" and scope["path"].startswith(("/api/models", "/api/datasets")):
            asked = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
            asked["limit"] = str(min(int(asked.get("limit", ROWS_OF_A_PAGE)), ROWS_OF_A_PAGE))
            scope = {**scope, "query_string": urlencode(asked).encode()}
        await self.app(scope, receive, send)


@contextmanager
def _serving(app: ASGIApp, listening: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield
    finally:
        server.should_exit = True
        thread.join()


def _elsewhere(folder: Path) -> Path:
    """A release whose every byte lies at ``hf://demo/tiny``, with sizes and digests as its publisher would state."""
    source = TINY / "checkpoints" / "step-0300"
    rows = TINY / "data" / "main_000.jsonl"
    document = {
        "format": "llm360-portal/release/1",
        "run": ELSEWHERE,
        "training": {"last_step": 300},
        "checkpoints": [
            {
                "step": 300,
                "location": f"hf://{RUN}@step-300",
                "files": [{"path": p.name} | about(p) for p in sorted(source.iterdir())],
            }
        ],
        "data": {
            "chunks": [
                {
                    "name": "main_000",
                    "files": [{"path": f"hf://datasets/{RUN}@main/data/main_000.jsonl"} | about(rows)],
                    "format": "jsonl",
                }
            ]
        },
    }
    path = folder / "release.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _moved(folder: Path, server: SeaweedServer) -> Path:
    """demo/tiny as a release whose checkpoints and chunks lie in a bucket, with sizes and digests as published."""
    document = yaml.safe_load((TINY / "release.yaml").read_text())
    client = server.client()
    for name in ("configs", "evals", "metrics", "tokenizer.json", "tokenizer_config.json"):
        source = TINY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)

    def put(path: Path) -> dict[str, Any]:
        # As it is named in the repository of the data.
        key = path.relative_to(TINY).as_posix()
        client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        return {"path": f"s3://{BUCKET}/{key}"} | about(path)

    (pattern,) = document["checkpoints"]
    document["checkpoints"] = [
        {
            "step": 50 * k,
            "labels": [f"ckpt_{k:03d}"],
            "contains": pattern["contains"],
            "dtype": pattern["dtype"],
            "files": [put(p) for p in sorted((TINY / "checkpoints" / f"step-{50 * k:04d}").rglob("*")) if p.is_file()],
        }
        for k in range(pattern["steps"]["count"])
    ]
    for chunk in document["data"]["chunks"]:
        chunk["files"] = [put(TINY / file["path"]) for file in chunk["files"]]
    index = put(TINY / "data" / "order.u32")
    for order in document["data"]["order"]:
        order["file"] = index
    shutil.copy(TINY / "checkpoints" / "step-0600" / "config.json", folder / "config.json")
    document["model"]["config"] = "config.json"
    path = folder / "release.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="session")
def hubs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """What the calls are told, by where the run's bytes lie (``here`` or ``s3``): the portal's address, and what has to
    come out."""
    known: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        # Signed for by whichever portal comes first.
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)

        def start(place: str) -> dict[str, Any]:
            if place not in known:
                server = request.getfixturevalue("seaweed") if place == "s3" else None
                known[place] = stack.enter_context(_portal(tmp_path_factory.mktemp(f"clients-{place}"), server))
            return known[place]

        yield start


@contextmanager
def _portal(folder: Path, server: SeaweedServer | None) -> Iterator[dict[str, Any]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        # Redirects lead to another host name, as they do in real life: clients treat these differently.
        settings = Settings(
            data=folder / "data",
            public_url=f"http://localhost:{port}{PREFIX}",
            hf_endpoint=f"http://127.0.0.1:{port}",
            s3_endpoint=server.endpoint if server else "",
        )
        settings.data.mkdir()
        engine = create_database_engine(settings)
        migrate(engine)
        build_demo(settings, engine, only="tiny")
        if server:
            # Published here once, so that its lines are indexed and its blocks known; then it moves.
            publish(_moved(folder, server), settings, engine)
        publish(_elsewhere(folder), settings, engine)
        with open_session(engine) as session:
            refs = list_refs(session, "models", RUN, settings)
            snippets = dialect_commands(get_checkpoint(session, RUN, 300, settings), settings.public_url, True)
        engine.dispose()
        app = create_app(settings)
        with _serving(Proxy(app), listening):
            commits = {ref.name: ref.commit for ref in [*refs.branches, *refs.tags]}
            address = f"http://localhost:{port}"
            away = httpx.head(f"{address}/{RUN}/resolve/step-300/model.safetensors")
            assert (away.status_code == 302) == (server is not None)
            told = {"elsewhere": ELSEWHERE, "runs": [ELSEWHERE, RUN], "commits": commits, "snippets": snippets}
            yield facts_of(address) | told
        app.state.desk.close()


@pytest.fixture(scope="session")
def calls(
    hubs: Callable[[str], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], dict[str, dict[str, Any]]]:
    """What each call of a set of clients came to, by its name, where the bytes lie there; a set is run once."""
    known: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}

    def run(name: str, place: str) -> dict[str, dict[str, Any]]:
        if (name, place) not in known:
            known[name, place] = _run(name, hubs(place), tmp_path_factory.mktemp(f"calls-{name}-{place}"))
        return known[name, place]

    return run


def _run(name: str, facts: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    return make_calls(name, facts | {"endpoint": facts["address"] + ENDPOINTS[name]}, folder)
