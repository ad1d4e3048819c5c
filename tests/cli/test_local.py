"""The local catalog answers as a portal does, reading makes nothing, and odd answers from elsewhere get a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from portal.cli.local import LocalCatalog
from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import SmallRun
from tests.cli.conftest import Portal
from tests.client.servers import file_server, running


@pytest.mark.parametrize(
    "path", ["/runs?limit=500", "/runs?limit=1", "/runs/lab/small/steps/7", "/runs/lab/small/steps/0"]
)
def test_what_is_answered_at_once_is_what_a_portal_answers(
    small: SmallRun, sqlite_settings: Settings, path: str
) -> None:
    with running(create_app(sqlite_settings)) as url:
        told = httpx.get(f"{url}/api/v1{path}").content
    with httpx.Client(transport=LocalCatalog(sqlite_settings)) as client:
        assert client.get(f"http://local-catalog/api/v1{path}").content == told


def test_a_step_needs_no_web_framework(small: SmallRun) -> None:
    code = "import sys; from portal.cli import main; main(['at', 'lab/small', '7', '--json']);"
    heavy = ("fastapi", "starlette", "uvicorn", "alembic", "pyarrow", "tokenizers", "jinja2", "portal.web")
    code += f"print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "command",
    [
        "runs",
        "at lab/small 5",
        "tokens lab/small 5",
        "pair lab/small 5 --to pair",
        "verify lab/small",
        "scan lab/small",
    ],
)
def test_reading_makes_no_catalog(
    portal: Portal, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.delenv("PORTAL_DATA", raising=False)
    said = portal(*command.split())
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("There is no catalog here: ")
    assert "--url" in said.err
    assert "`portal demo`" in said.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("path", "answer", "command"),
    [
        ("/api/v1/runs", {"items": [{"run": "a/b"}]}, "runs"),
        ("/api/v1/runs", {"items": [{"run": "a/b", "findings": 5}]}, "runs"),
        ("/api/v1/runs/a/b/steps/5", {}, "at a/b 5"),
        ("/api/v1/runs/a/b/steps/5", {"stage": "x", "data": 5, "run": 1, "step": "y"}, "at a/b 5"),
        ("/api/v1/runs/a/b/steps/5/tokens", {"rows": [], "rows_total": "many"}, "tokens a/b 5"),
        ("/api/v1/runs/a/b/steps/5/tokens", {}, "tokens a/b 5"),
        ("/api/v1/runs/a/b/steps/5/pair", {}, "pair a/b 5 --to pair"),
        ("/api/v1/runs/a/b/steps/5/pair", {"checkpoint": {"files": 7}, "data": []}, "pair a/b 5 --to pair"),
    ],
)
def test_answers_of_something_else_are_one_sentence(portal: Portal, path: str, answer: Any, command: str) -> None:
    with file_server() as files:
        files.put_json(path, answer)
        said = portal(*command.split(), "--url", files.url)
    assert (said.code, said.out) == (1, "")
    assert len(said.err.splitlines()) == 1
    assert files.url in said.err
    assert "portal --version" in said.err
