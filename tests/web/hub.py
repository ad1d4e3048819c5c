"""Questions in the Hugging Face dialect, and a run whose files lie elsewhere."""

from __future__ import annotations

import re
from typing import Any

from httpx import Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.settings import Settings
from tests.builders import SmallRun, many_checkpoints

WEIGHTS = "/lab/small/resolve/step-10/model.safetensors"
SHA = "0123456789abcdef" * 4


def weights_of(small: SmallRun, step: int) -> bytes:
    return (small.folder / f"step{step}" / "model.safetensors").read_bytes()


def commit_of(client: TestClient, revision: str, kind: str = "models", run: str = "lab/small") -> str:
    sha = client.get(f"/api/{kind}/{run}/revision/{revision}").json()["sha"]
    assert re.fullmatch("[0-9a-f]{40}", sha)
    return str(sha)


def refusal(answer: Response) -> tuple[int, str | None]:
    return answer.status_code, answer.headers.get("x-error-code")


def tree(client: TestClient, address: str) -> dict[str, Any]:
    return {row["path"]: row for row in client.get(address).json()}


def pages_of(client: TestClient, address: str) -> list[list[Any]]:
    found = []
    while address:
        answer = client.get(address)
        found.append(answer.json())
        link = re.fullmatch(r'<(.*)>; rel="next"', answer.headers.get("link", ""))
        address = link[1] if link else ""
    return found


def remote_run(engine: Engine, settings: Settings) -> None:
    files = [
        {"path": "hf://lab/model@c_{index}/model.safetensors", "size": 1000, "sha256": SHA, "role": "weights"},
        {"path": "hf://lab/model@c_{index}/unknown.bin", "size": 7, "role": "weights"},
        {"path": "s3://bucket/c_{index}/optimizer.pt", "size": 9, "sha256": SHA, "role": "optimizer"},
        {"path": "http://testserver/here.bin", "size": 9, "sha256": SHA, "role": "other"},
    ]
    checkpoints = [{"steps": {"first": 10, "every": 10, "count": 3}, "labels": ["c_{index}", "stage1/c_{index}"]}]
    many_checkpoints(engine, settings, "lab/remote", 3, checkpoints=[checkpoints[0] | {"files": files}])
