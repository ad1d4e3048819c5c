"""Pages of a run whose bytes lie elsewhere: rows, samples and tensors as of a local one, fetched when asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.settings import Settings
from portal.storage.ranged import RangedStore
from portal.web.app import create_app
from tests.builders import ROW_LENGTH
from tests.elsewhere import RUN, ElsewhereRun, elsewhere_run
from tests.storage.places import Place, https_place, hub_place, s3_place

BASE = f"/runs/{RUN}"
HASTY = {"remote_timeout": 0.3, "remote_attempts": 1}


@pytest.fixture(params=["https", pytest.param("s3", marks=pytest.mark.xdist_group("seaweed")), "hub"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "s3":
        made = s3_place(request.getfixturevalue("s3_server"))
    else:
        made = {"https": https_place, "hub": hub_place}[request.param]()
    with made as found:
        yield found


@pytest.fixture
def run(engine: Engine, settings: Settings, tmp_path: Path, place: Place) -> ElsewhereRun:
    return elsewhere_run(engine, settings, tmp_path / "release", place)


@pytest.fixture
def client(settings: Settings, place: Place, run: ElsewhereRun) -> Iterator[TestClient]:
    app = create_app(settings.model_copy(update=place.settings))
    yield TestClient(app, raise_server_exceptions=False)
    app.state.desk.close()


def part(client: TestClient, path: str, target: str) -> Any:
    return client.get(path, headers={"HX-Request": "true", "HX-Target": target})


def test_the_step_says_that_its_rows_can_be_read(client: TestClient) -> None:
    data = client.get(f"/api/v1/runs/{RUN}/steps/3").json()["data"]
    assert (data["readable"], data["elsewhere"], data["reason"]) == (True, True, "")
    assert "Read the tokens</a>" in client.get(f"{BASE}/steps/3").text
    # Nobody has indexed these lines: every row would cost the whole file.
    data = client.get(f"/api/v1/runs/{RUN}/steps/13").json()["data"]
    assert (data["readable"], data["elsewhere"]) == (False, False)
    assert "where its lines begin is not known" in data["reason"]
    assert "Read the tokens</a>" not in client.get(f"{BASE}/steps/13").text


def test_the_inspector_stands_at_once_and_fetches_its_rows(client: TestClient, run: ElsewhereRun) -> None:
    path = f"{BASE}/steps/3/tokens?row=2&show=ids"
    page = client.get(path)
    assert page.status_code == 200
    asked = re.search(r'id="inspected"\s+hx-get="([^"]+)"\s+hx-trigger="load"', page.text)
    assert asked is not None
    assert asked[1].replace("&amp;", "&") == path
    assert "data-at" not in page.text
    rows = part(client, path, "inspected")
    assert rows.status_code == 200
    assert "<html" not in rows.text
    assert len(re.findall(r'<b class="[^"]*" data-at="\d+"', rows.text)) == ROW_LENGTH
    told = client.get(f"/api/v1/runs/{RUN}/steps/3/tokens").json()
    assert [row["token_ids"] for row in told["rows"]] == run.rows[8:12].tolist()
    assert told["tokenizer"]
    refused = part(client, f"{BASE}/steps/13/tokens", "inspected")
    assert (refused.status_code, "cannot be read here" in refused.text) == (503, True)


def test_samples_and_tensors_are_read_where_they_lie(client: TestClient, run: ElsewhereRun) -> None:
    assert 'hx-trigger="load"' in client.get(f"{BASE}/chunks/flat").text
    sample = client.get(f"/api/v1/runs/{RUN}/chunks/flat/rows?at=7").json()
    assert sample["rows"][0]["token_ids"] == run.rows[7].tolist()
    assert part(client, f"{BASE}/chunks/flat/rows", "rows").text.count('class="samplerow"') == 3
    assert "where its lines begin is not known" in client.get(f"{BASE}/chunks/lines").text
    table = client.get(f"/api/v1/runs/{RUN}/checkpoints/10/tensors").json()
    assert [(t["name"], t["shape"], t["dtype"]) for t in table["items"]] == [
        ("embed", [260, 4], "F32"),
        ("head", [4, 3], "F16"),
    ]
    assert [f["fault"] for f in table["files"]] == [None]
    assert "260 × 4" in part(client, f"{BASE}/checkpoints/10/tensors", "tensors").text


def test_rows_and_tensors_opened_directly_stand_at_once_and_fetch_themselves(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_named: Any) -> None:
        raise AssertionError("the page itself asked another server")

    pages = {"rows": f"{BASE}/chunks/flat/rows?at=7", "tensors": f"{BASE}/checkpoints/10/tensors?role=weights"}
    with monkeypatch.context() as patched:
        patched.setattr(RangedStore, "read_ranges", refuse)
        patched.setattr(RangedStore, "seen", refuse)
        found = {name: client.get(path) for name, path in pages.items()}
    for name, path in pages.items():
        assert found[name].status_code == 200
        asked = re.search(rf'id="{name}"\s+hx-get="([^"]+)"\s+hx-trigger="load"', found[name].text)
        assert asked is not None
        assert asked[1] == path
        assert f'href="/api/v1{path}"' in found[name].text
    assert part(client, pages["rows"], "rows").text.count('class="samplerow"') == 1
    assert "260 × 4" in part(client, pages["tensors"], "tensors").text
    # A chunk that nothing can read says so at once.
    assert "where its lines begin is not known" in client.get(f"{BASE}/chunks/lines/rows").text


def test_a_store_that_does_not_answer_is_told_in_the_part_alone(
    settings: Settings, place: Place, run: ElsewhereRun
) -> None:
    away = {"s3_endpoint": "http://127.0.0.1:1", "hf_endpoint": "http://127.0.0.1:1", "private_hosts": ""}
    app = create_app(settings.model_copy(update=place.settings | HASTY | away))
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get(f"{BASE}/steps/3/tokens").status_code == 200
    rows = part(client, f"{BASE}/steps/3/tokens", "inspected")
    assert (rows.status_code, "cannot be read here" in rows.text) == (503, True)
    assert "<html" not in rows.text
    if place.folder.startswith("s3://"):
        # Where the portal itself asks is for its operator; the address of a Hub or a web server is everybody's.
        assert not any(secret in rows.text for secret in ("127.0.0.1:1", place.folder))
    sample = part(client, f"{BASE}/chunks/flat/rows", "rows")
    assert (sample.status_code, "<html" in sample.text) == (503, False)
    table = client.get(f"/api/v1/runs/{RUN}/checkpoints/10/tensors").json()
    assert (table["items"], table["files"][0]["fault"] is not None) == ([], True)
    assert client.get(f"{BASE}/checkpoints/10").status_code == 200
    app.state.desk.close()


def test_nobody_waits_for_the_database_meanwhile(
    client: TestClient, run: ElsewhereRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = client.app.state.desk.engine.pool  # type: ignore[attr-defined]
    taken: list[int] = []
    whole = RangedStore._whole_piece

    def watched(self: RangedStore, *asked: Any) -> Any:
        taken.append(pool.checkedout())
        return whole(self, *asked)

    monkeypatch.setattr(RangedStore, "_whole_piece", watched)
    assert client.get(f"/api/v1/runs/{RUN}/steps/4/tokens").status_code == 200
    assert part(client, f"{BASE}/steps/5/tokens", "inspected").status_code == 200
    assert part(client, f"{BASE}/chunks/flat/rows", "rows").status_code == 200
    assert part(client, f"{BASE}/checkpoints/20/tensors", "tensors").status_code == 200
    assert client.get(f"/datasets/{RUN}/resolve/step-6/data/step-6.parquet").status_code == 200
    assert taken
    assert set(taken) == {0}


def test_too_slow_is_said_after_a_while(client: TestClient, run: ElsewhereRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.web.waiting.PATIENCE_S", 0.0)
    rows = part(client, f"{BASE}/steps/7/tokens", "inspected")
    assert (rows.status_code, "did not come within 0 seconds" in rows.text) == (503, True)
