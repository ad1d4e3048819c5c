"""Moments: short addresses that resolve for people, programs and papers, and never change what they said."""

from __future__ import annotations

import hashlib
import re
from html import unescape

import pytest
import yaml
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.settings import Settings
from tests.builders import SMALL, SmallRun, record, small_run

R, RUN = "/r/lab/small", "/runs/lab/small"
JSON = {"Accept": "application/json"}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("moment", "page"),
    [
        (R, RUN),
        (f"{R}/s/7", f"{RUN}?step=7"),
        (f"{R}/s/0?v=1", f"{RUN}?step=0"),
        (f"{R}/s/7/row/2", f"{RUN}/steps/7/tokens?row=2"),
        (f"{R}/s/7/row/2/t/3-9?v=1", f"{RUN}/steps/7/tokens?row=2&t=3-9"),
        (f"{R}/s/7/row/2/t/4", f"{RUN}/steps/7/tokens?row=2&t=4-4"),
    ],
)
def test_people_are_shown_the_page(client: TestClient, moment: str, page: str) -> None:
    answer = client.get(moment, headers={"Accept": "text/html,*/*"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (302, page)
    assert "Accept" in answer.headers["vary"]
    assert client.get(page).status_code == 200


def test_programs_are_told_what_lay_there(client: TestClient, small: SmallRun) -> None:
    told = client.get(f"{R}/s/7/row/2/t/3-9", headers=JSON).json()
    ids = small.rows[4 * 6 + 2].tolist()
    assert told["tokens"]["token_ids"] == ids[3:10]
    assert len(told["tokens"]["pieces"]) == 7
    assert told["tokens"]["ids_sha256"] == sha256(" ".join(map(str, ids[3:10])))
    assert told["row"]["ids_sha256"] == sha256(" ".join(map(str, ids)))
    assert (told["row"]["chunk"], told["row"]["row"], told["row"]["rows_total"]) == ("chunk_0", 26, 4)
    assert told["row"]["order"]["confidence"] == "exact"
    assert told["row"]["file_sha256"] == hashlib.sha256((small.folder / "chunk_0.jsonl").read_bytes()).hexdigest()
    weights = (small.folder / "step5" / "model.safetensors").read_bytes()
    assert told["before"] | {"labels": ["ckpt_001"]} == told["before"]
    assert told["before"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert (told["saved"], told["after"]["step"], told["fault"]) == (None, 10, "")
    assert (told["version"], told["permalink"]) == (1, f"{R}/s/7/row/2/t/3-9?v=1")
    assert {m["name"]: m["special"] for m in told["at"]["metrics"]}["train/loss"] == "nan"
    twin = client.get(f"/api/v1{R}/s/7/row/2/t/3-9")
    assert twin.json() == told
    assert client.get(f"/api/v1{R}/s/7", headers={"If-None-Match": twin.headers["etag"]}).status_code == 200
    assert client.get(twin.url, headers={"If-None-Match": twin.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    ("path", "status", "nearest", "link"),
    [
        (f"{R}/s/21/row/3", 404, [20], f"{R}/s/20"),
        (f"{R}/s/3/row/4/t/0-2", 404, [3], f"{R}/s/3/row/3"),
        (f"{R}/s/3/row/1/t/5-16", 404, ["5-15"], f"{R}/s/3/row/1/t/5-15"),
        (f"{R}/s/3/row/1/t/99-120", 404, ["15-15"], f"{R}/s/3/row/1/t/15-15"),
        (f"{R}/s/3?v=7", 404, [1], f"{R}/s/3?v=1"),
        ("/r/lab/smal/s/3", 404, ["lab/small"], None),
        (f"{R}/s/0/row/0", 400, [1], None),
        (f"{R}/s/3/row/1/t/9-5", 400, None, None),
        (f"{R}/s/3/row/1/t/x", 400, None, None),
        (f"{R}/s/3/row/-1", 400, None, None),
        (f"{R}/s/x", 400, None, None),
        (f"{R}/s/3?v=0", 400, None, None),
        (f"{R}/s/3?format=npy", 400, None, None),
        (f"{R}/s/3?format=exe", 400, None, None),
    ],
)
def test_what_is_not_there_names_the_nearest(
    client: TestClient, path: str, status: int, nearest: list[object] | None, link: str | None
) -> None:
    for told in (client.get(path, headers=JSON), client.get(f"/api/v1{path}")):
        assert told.status_code == status, told.text
        assert told.headers["content-type"] == "application/problem+json"
        assert told.json().get("nearest") == nearest
    page = client.get(path, headers={"Accept": "text/html"})
    assert page.status_code == status
    if link is not None:
        assert f'href="{link}"' in unescape(page.text)
        assert client.get(link).status_code == 200


def test_a_correction_changes_nothing_that_was_cited(
    client: TestClient, small: SmallRun, engine: Engine, settings: Settings
) -> None:
    cited = f"{R}/s/7/row/2/t/3-9?v=1"
    before = client.get(cited, headers=JSON).json()
    order = SMALL["data"]["order"][0] | {"kind": "permutation", "rng": "numpy-PCG64", "seed": 4}
    corrected = SMALL["data"] | {"order": [order]}
    record(engine, settings, SMALL | {"run": "lab/small", "title": "Corrected", "data": corrected}, small.folder)
    after = client.get(cited, headers=JSON).json()
    assert (after["version"], after["current_version"]) == (1, 2)
    changing = {"current_version"}
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    now = client.get(f"{R}/s/7/row/2/t/3-9", headers=JSON).json()
    assert now["version"] == 2
    assert (now["title"], now["row"]["row"]) != (before["title"], before["row"]["row"])
    page = client.get(cited, headers={"Accept": "text/html"}, follow_redirects=False)
    assert page.status_code == 200
    assert "corrected since" in page.text
    assert f'href="{RUN}/steps/7/tokens?row=2&t=3-9"' in unescape(page.text)


def test_cited_rows_are_found_again_by_their_hash_or_refused(
    client: TestClient, small: SmallRun, engine: Engine, settings: Settings
) -> None:
    cited = f"{R}/s/7/row/2?v=1"
    before = client.get(cited, headers=JSON).json()["row"]
    chunk = small.folder / "chunk_0.jsonl"
    published = chunk.read_bytes()
    chunk.write_bytes(published[::-1].replace(b"}", b"]", 1))
    record(engine, settings, SMALL | {"run": "lab/small", "title": "Its bytes were replaced"}, small.folder)
    refused = client.get(cited, headers=JSON).json()
    assert (refused["row"], refused["tokens"]) == (None, None)
    assert "not on this machine" in refused["fault"]
    assert "not on this machine" in client.get(cited, headers={"Accept": "text/html"}).text
    # The same bytes under any other run bring it back.
    small_run(engine, settings, small.folder.parent / "copy", "lab/copy")
    again = client.get(cited, headers=JSON).json()
    assert again["fault"] == ""
    assert again["row"] == before


def test_a_moment_is_cited(client: TestClient, small: SmallRun, settings: Settings) -> None:
    answer = client.get(f"{R}/s/7/row/2/t/3-9?format=bib")
    assert answer.headers["content-disposition"] == 'attachment; filename="lab_small_v1_s7_r2_t3_9.bib"'
    text = answer.text
    assert text.startswith("@misc{lab_small_v1_s7_r2_t3_9,\n")
    assert "author  = {{lab}}" in text
    assert "title   = {{A small run: step 7, row 2, tokens 3-9}}" in text
    assert f"url     = {{http://testserver{R}/s/7/row/2/t/3-9?v=1}}" in text
    digest = hashlib.sha256((small.folder / "step5" / "model.safetensors").read_bytes()).hexdigest()
    assert f"Checkpoint before: ckpt\\_001 (step 5), sha256 {digest}" in text
    assert "urldate" not in text
    document = yaml.safe_load(client.get(f"{R}/s/5?format=cff").text)
    assert document["cff-version"] == "1.2.0"
    assert document["authors"] == [{"name": "lab"}]
    assert document["url"] == f"http://testserver{R}/s/5?v=1"
    assert f"sha256:{digest}" in [i["value"] for i in document["identifiers"]]
    assert str(document["date-released"])[:4] in text


def test_the_citation_comes_into_the_page_it_was_asked_from(client: TestClient) -> None:
    drawer = client.get(f"{RUN}/steps/7").text
    found = re.search(r'hx-get="([^"]+format=html)"', drawer)
    assert found
    address = unescape(found[1])
    assert address == f"{R}/s/7?v=1&format=html"
    part = client.get(address, headers={"HX-Request": "true", "HX-Target": "cite"})
    assert "<html" not in part.text
    assert "@misc{lab_small_v1_s7," in part.text
    whole = client.get(address)
    assert part.text.strip() in whole.text
    assert 'href="/r/lab/small/s/7?v=1&amp;format=bib"' in whole.text


def test_one_row_can_be_taken_alone(client: TestClient, small: SmallRun) -> None:
    answer = client.get(f"{R}/s/7/row/2?format=jsonl")
    assert answer.headers["content-disposition"] == 'attachment; filename="lab_small_step7_row2.jsonl"'
    assert answer.json()["token_ids"] == small.rows[26].tolist()
    assert client.get(f"{R}/s/7/row/2?format=npy").content.startswith(b"\x93NUMPY")
    assert client.get(f"{R}/s/7/row/2?format=parquet").content.startswith(b"PAR1")


@pytest.mark.parametrize(
    ("path", "title", "says"),
    [
        (RUN, "lab/small", ["20 steps", "5/5 checkpoints", "7/7 open"]),
        (f"{RUN}?step=8", "Step 8 of lab/small", ["loss ", "512 tokens", "next checkpoint ckpt_002", "order exact"]),
        (f"{RUN}/steps/7", "Step 7 of lab/small", ["loss NaN"]),
        (f"{RUN}/steps/20", "Step 20 of lab/small", ["checkpoint ckpt_004", "no later checkpoint"]),
        (f"{RUN}/checkpoints/ckpt_002", "ckpt_002 of lab/small", ["state after step 10", "sha256 "]),
        (f"{RUN}/chunks/chunk_1", "chunk_1 of lab/small", ["40 rows", "read in steps 11–20"]),
        (f"{RUN}/steps/7/tokens?row=2", "Tokens of step 7, row 2 of lab/small", ["4 rows", "chunk_0 row 26", "s0"]),
    ],
)
def test_a_pasted_link_says_what_it_is(client: TestClient, path: str, title: str, says: list[str]) -> None:
    head = client.get(path).text.partition("</head>")[0]
    cards = dict(re.findall(r'<meta property="og:(\w+)"\s+content="([^"]*)">', head))
    assert title in unescape(cards["title"])
    for said in says:
        assert said in unescape(cards["description"]), cards["description"]
    assert cards["url"] == f"http://testserver{path}"
    assert '<meta name="twitter:card" content="summary">' in head
