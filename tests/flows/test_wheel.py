"""An installed wheel serves pages: templates, static files, migrations, shipped manifests and the demo are inside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SERVED = """
import re
from pathlib import Path
from starlette.testclient import TestClient
import portal
from portal.demo import build_demo
from portal.database import create_database_engine, migrate
from portal.settings import Settings
from portal.web.app import create_app

assert Path(portal.__file__).is_relative_to(Path.cwd() / "installed"), portal.__file__
settings = Settings(data=Path("data"))
engine = create_database_engine(settings)
migrate(engine)
build_demo(settings, engine, "demo/tiny")
with TestClient(create_app(settings)) as client:
    assets = re.findall(r'(?:src|href)="(/static/[^"]+)"', client.get("/runs/demo/tiny").text)
    assert len(assets) > 3, assets
    for address in ("/", "/runs/demo/tiny", "/api/v1/runs/demo/tiny/steps/150/tokens", *assets):
        answer = client.get(address)
        assert answer.status_code == 200, (address, answer.status_code, answer.text[:500])
print("served")
"""


@pytest.mark.timeout(240)
def test_a_wheel_serves_pages_without_the_checkout(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(REPOSITORY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "HOME": str(tmp_path)}
    served = subprocess.run(
        [sys.executable, "-c", SERVED], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert served.stdout.strip() == "served", served.stderr[-3000:]
