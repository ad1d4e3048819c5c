"""Scripts and styles: the digests are true, the addresses change with the content, the encodings agree."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from portal.errors import NotFound
from portal.web.assets import FOREVER, load_assets, read_vendored, static_folder
from portal.web.bundles import SCRIPTS, bundle_script
from portal.web.render import templates_folder

VENDORED = read_vendored(static_folder())


@pytest.fixture
def bare(app: FastAPI) -> TestClient:
    return TestClient(app)


@pytest.mark.parametrize("entry", VENDORED, ids=lambda entry: entry.file)
def test_vendored_files_are_what_was_recorded(entry: object) -> None:
    file = getattr(entry, "file", "")
    body = (static_folder() / "vendor" / file).read_bytes()
    assert base64.b64encode(hashlib.sha384(body).digest()).decode() == getattr(entry, "sha384", "")
    assert len(body) == getattr(entry, "size", 0)
    assert (static_folder() / "vendor" / f"{getattr(entry, 'package', '')}.LICENSE").is_file()
    assert gzip.decompress((static_folder() / "vendor" / f"{file}.gz").read_bytes()) == body


def test_versions_agree_with_the_lock() -> None:
    lock = json.loads((static_folder() / "vendor" / "package-lock.json").read_text())
    for entry in VENDORED:
        assert lock["packages"][f"node_modules/{entry.package}"]["version"] == entry.version
    assert "resolved" not in json.dumps(lock), "a lock file names no host"


def test_the_bundle_is_the_one_python_describes() -> None:
    plotly = next(entry for entry in VENDORED if entry.file.startswith("plotly"))
    head = (static_folder() / "vendor" / plotly.file).read_text()[:300]
    assert f"v{plotly.version}" in head
    from plotly.offline import get_plotlyjs_version

    assert get_plotlyjs_version().split(".")[:2] == plotly.version.split(".")[:2]


def test_templates_name_only_files_that_exist_and_check_vendored_ones() -> None:
    assets = load_assets()
    for template in templates_folder().rglob("*.html"):
        text = template.read_text()
        for path in re.findall(r"asset\('([^'~]+)'\)", text):
            assert assets.url(path)
        for tag in re.findall(r"<(?:script|link)[^>]*asset\('vendor/[^>]*>", text):
            assert "integrity=" in tag, template
        assert "onclick=" not in text
        assert " style=" not in text
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), template


def test_a_current_address_is_kept_for_ever(bare: TestClient) -> None:
    url = load_assets().url("css/parts.css")
    answer = bare.get(url)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == FOREVER
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert bare.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/static/css/parts.css", "/static/~000000000000/css/parts.css"])
def test_an_old_address_serves_the_current_file_and_asks_again(bare: TestClient, path: str) -> None:
    answer = bare.get(path)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


def test_every_encoding_holds_the_same_bytes(bare: TestClient) -> None:
    url = load_assets().url("vendor/htmx.min.js")
    plain = bare.get(url, headers={"Accept-Encoding": "identity"})
    packed = bare.get(url, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    with bare.stream("GET", url, headers={"Accept-Encoding": "gzip, br;q=0.9"}) as best:
        assert best.headers["content-encoding"] == "br"
        assert len(b"".join(best.iter_raw())) < 17_000


@pytest.mark.parametrize("path", ["vendor/vendor.json", "../pyproject.toml", "css/none.css", "%2e%2e/pyproject.toml"])
def test_nothing_else_is_served(bare: TestClient, path: str) -> None:
    assert bare.get(f"/static/{path}").status_code == 404
    with pytest.raises(NotFound):
        load_assets().find(path)


def test_what_pages_ask_for_holds_what_it_imports() -> None:
    assets = load_assets()
    asked = {
        match
        for page in templates_folder().rglob("*.html")
        for match in re.findall(r"asset\('js/(\w+)\.js'\)", page.read_text())
    }
    assert asked - {"theme"} <= set(SCRIPTS)
    for name in SCRIPTS:
        body = assets.find(f"js/{name}.js")[0].bodies["identity"].decode()
        imported = re.findall(r'^\s*import [^(].*"\./(\w+)\.js"', body, re.MULTILINE)
        assert set(imported) <= set(SCRIPTS), name
    sheet = assets.find("css/portal.css")[0].bodies["identity"].decode()
    assert "@import" not in sheet
    for file in (static_folder() / "css").glob("*.css"):
        assert file.name == "portal.css" or file.read_text() in sheet


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('import { none } from "./other.js";\n', "imports none, which other.js does not export"),
        ('import * as all from "./other.js";\n', "no import or export that bundles know"),
        ("export default 1;\n", "no import or export that bundles know"),
        ('import { back } from "./circle.js";\n', "in a circle: start → circle → start"),
    ],
)
def test_what_a_bundle_cannot_hold_is_an_error(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "start.js").write_text(text)
    (tmp_path / "other.js").write_text("export const some = 1;\n")
    (tmp_path / "circle.js").write_text('import "./start.js";\nexport const back = 1;\n')
    with pytest.raises(ValueError, match=told):
        bundle_script(tmp_path, "start")
