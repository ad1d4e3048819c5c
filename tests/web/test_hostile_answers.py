"""Files made of hostile text: citations, tables, attachments and their names; and what publishing refuses."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
import yaml
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.database import create_database_engine
from portal.errors import ManifestRefused
from portal.exchange.publish import publish
from portal.settings import Settings
from portal.web.app import create_app
from tests.browser.hostile_release import EVIL, FILES, RUN, publish_hostile
from tests.browser.payloads import PAYLOADS, REFUSED

API = f"/api/v1/runs/{RUN}"
_ATTACHMENT = re.compile(r"attachment; filename(?:\*=UTF-8''[A-Za-z0-9%._~-]+|=\"[A-Za-z0-9._-]+\")")


@pytest.fixture(scope="module")
def hostile(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copyfile(sqlite_template, folder / "portal.sqlite3")
    settings = Settings(data=folder)
    engine = create_database_engine(settings)
    publish_hostile(engine, settings, folder / "releases" / "run")
    engine.dispose()
    app = create_app(settings)
    yield TestClient(app)
    app.state.desk.close()


@pytest.mark.parametrize("name", FILES)
def test_a_file_a_browser_would_render_comes_as_bytes(hostile: TestClient, name: str) -> None:
    files = hostile.get(f"{API}/checkpoints/1").json()["files"]
    url = next(f["url"] for f in files if f["path"].endswith(f"/{name}"))
    answer = hostile.get(url)
    assert answer.content == EVIL + name.encode()
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def test_every_attachment_has_a_plain_header(hostile: TestClient) -> None:
    paths = [f["url"] for f in hostile.get(f"{API}/files?limit=1000").json()["items"] if f["url"].startswith("/files/")]
    assert len(paths) > 290
    names = [s["name"] for s in hostile.get(f"{API}/metrics?limit=1000").json()["items"]]
    paths += [f"{API}/metrics/{quote(name, safe='')}.csv" for name in names]
    paths += [f"{API}/steps/1/tokens?format={kind}" for kind in ("jsonl", "parquet")]
    paths += [f"/r/{RUN}/s/1/row/0?format={kind}" for kind in ("bib", "cff", "jsonl")]
    # The test's client, other than a server, decodes %25 twice.
    for path in (path for path in paths[::5] + paths[-5:] if "%25" not in path):
        answer = hostile.get(path)
        assert answer.status_code == 200, path
        told = answer.headers["content-disposition"]
        assert _ATTACHMENT.fullmatch(told), (path, told)
        assert "/" not in unquote(told.split("=", 1)[1])


def test_no_cell_of_a_table_is_a_formula(hostile: TestClient) -> None:
    names = [name for name in PAYLOADS if name[0] in "=+-@" and name.isprintable()]
    assert len(names) > 6
    answer = hostile.get(f"/runs/{RUN}/figure.csv", params={"series": names[:20]})
    assert answer.status_code == 200
    rows = list(csv.reader(answer.text.splitlines()))
    assert len(rows) > 20
    for row in rows[1:]:
        assert not [cell for cell in row if cell[:1] in ("=", "@", "\t", "\r") or re.match(r"[+-][^\d.]", cell)]


def test_a_citation_is_one_entry_and_plain_data(hostile: TestClient) -> None:
    for run in (RUN, *(f"hostile/title-{k:02d}" for k in range(42))):
        bib = hostile.get(f"/r/{run}?format=bib").text
        assert bib.count("@misc{") == 1
        # Braces balance once escaped ones are gone, so no field ends early.
        assert re.sub(r"\\[{}]", "", bib).count("{") == re.sub(r"\\[{}]", "", bib).count("}")
        assert not re.search(r"\\(?:input|write|def|href|immediate)\b", bib)
        cff = yaml.safe_load(hostile.get(f"/r/{run}?format=cff").text)
        assert cff["cff-version"] == "1.2.0"
        assert "\x1b" not in bib + cff["title"]


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("place", ["title", "description", "label", "chunk", "note", "config", "finding"])
def test_text_that_cannot_be_kept_is_refused_clearly(
    engine: Engine, settings: Settings, tmp_path: Path, what: str, place: str
) -> None:
    text = REFUSED[what]
    document: dict[str, Any] = {
        "format": "llm360-portal/release/1",
        "run": "lab/refused",
        "training": {"last_step": 5},
        "checkpoints": [{"step": 1, "labels": ["c"], "location": "hf://lab/x@r"}],
        "events": [{"step": 1, "kind": "note", "note": "n"}],
        "data": {"chunks": [{"name": "c", "files": [{"path": "hf://datasets/l/x@m/x.jsonl"}], "format": "jsonl"}]},
    }
    document |= {"title": text} if place == "title" else {"description": text} if place == "description" else {}
    document |= {"configs": [{"values": {"k": text}}]} if place == "config" else {}
    document |= {"findings": [{"code": "x", "message": text}]} if place == "finding" else {}
    if place == "label":
        document["checkpoints"][0]["labels"] = [text]
    if place == "chunk":
        document["data"]["chunks"][0]["name"] = text
    if place == "note":
        document["events"][0]["note"] = text
    (tmp_path / "release.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ManifestRefused) as refused:
        publish(tmp_path, settings, engine)
    fault = refused.value.faults[0]
    assert fault.where
    assert fault.remedy
    assert "\x00" not in fault.what
    fault.what.encode()
