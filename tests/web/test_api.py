"""The JSON API as the contract says it: names, lists, errors, formats."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.catalog.answers import OrderView
from portal.catalog.batches import BatchRows
from portal.errors import BadRequest
from portal.tokens.orders import RowRef
from portal.tokens.readers import Row
from portal.web.batch_files import write_batch
from tests.builders import SmallRun

RUN = "/api/v1/runs/lab/small"


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_runs_and_one_run(client: TestClient) -> None:
    runs = get(client, "/api/v1/runs")
    assert (runs["total"], runs["next"], runs["items"][0]["run"]) == (1, None, "lab/small")
    assert set(runs["items"][0]["openness"]) == {
        "code",
        "config",
        "data",
        "order",
        "checkpoints",
        "optimizer",
        "metrics",
    }
    assert get(client, RUN)["summary"]["run"] == "lab/small"


@pytest.mark.parametrize(
    "path",
    [
        "/files",
        "/metrics/train/loss.csv",
        "/metrics/train/loss.parquet",
        "/metrics/data?series=train/loss",
        "/steps/5/pair/SHA256SUMS",
        "/steps/5/tokens",
        "/steps/5/tokens?format=npy",
        "/steps/5/tokens?format=parquet",
        "/steps/5/tokens?format=jsonl",
    ],
)
def test_what_is_held_already_is_not_sent_again(client: TestClient, path: str) -> None:
    first = client.get(RUN + path)
    assert first.status_code == 200, first.text
    again = client.get(RUN + path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get(RUN + path, headers={"If-None-Match": '"another"'}).content == first.content


def test_timeline(client: TestClient) -> None:
    timeline = get(client, f"{RUN}/timeline")
    assert {"stages", "checkpoints", "chunks", "events", "findings", "orders"} <= set(timeline)


def test_a_checkpoint_has_the_fields_of_the_contract(client: TestClient) -> None:
    found = get(client, f"{RUN}/checkpoints/10")
    assert {"step", "stage", "local_step", "tokens", "labels", "dtype", "contains", "files", "findings"} <= set(found)
    assert {"path", "size", "sha256", "role", "url"} <= set(found["files"][0])
    assert found == get(client, f"{RUN}/checkpoints/ckpt_002")


def test_a_pair_has_the_fields_of_the_contract(client: TestClient) -> None:
    pair = get(client, f"{RUN}/steps/10/pair", data="previous")
    assert {"checkpoint", "data", "files", "total_bytes"} <= set(pair)
    assert {"direction", "first_step", "last_step", "order", "chunks"} <= set(pair["data"])
    assert {"kind", "confidence", "assumption"} <= set(pair["data"]["order"])
    assert {"name", "files", "rows"} <= set(pair["data"]["chunks"][0])
    assert (pair["data"]["first_step"], pair["data"]["last_step"]) == (6, 10)


def test_tokens_have_the_fields_of_the_contract(client: TestClient, small: SmallRun) -> None:
    batch = get(client, f"{RUN}/steps/3/tokens", first=1, count=2, text="true")
    assert {"step", "order", "rows_total", "rows"} <= set(batch)
    row = batch["rows"][0]
    wanted = {
        "position",
        "chunk",
        "row",
        "source",
        "token_ids",
        "pieces",
        "document_starts",
        "file",
        "offset",
        "length",
    }
    assert wanted <= set(row)
    assert row["token_ids"] == small.rows[9].tolist()
    assert (batch["rows_total"], len(batch["rows"])) == (4, 2)


def test_a_whole_batch_as_a_file(client: TestClient, small: SmallRun) -> None:
    expected = small.rows[8:12]
    npy = client.get(f"{RUN}/steps/3/tokens?format=npy")
    assert np.array_equal(np.load(io.BytesIO(npy.content), allow_pickle=False), expected)
    assert npy.headers["content-disposition"].startswith("attachment")
    table = pyarrow.parquet.read_table(io.BytesIO(client.get(f"{RUN}/steps/3/tokens?format=parquet").content))
    assert table.column("token_ids").to_pylist() == expected.tolist()
    assert table.column("chunk").to_pylist() == ["chunk_0"] * 4
    lines = client.get(f"{RUN}/steps/3/tokens?format=jsonl").text.splitlines()
    assert [json.loads(line)["token_ids"] for line in lines] == expected.tolist()


@pytest.mark.parametrize("kind", ["npy", "parquet", "jsonl"])
def test_a_batch_with_a_hole_is_no_file(client: TestClient, small: SmallRun, kind: str) -> None:
    path = small.folder / "chunk_0.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = b"x" * len(lines[1])
    path.write_bytes(b"\n".join(lines))
    answer = client.get(f"{RUN}/steps/1/tokens", params={"format": kind})
    assert (answer.status_code, answer.json()["code"], answer.json()["position"]) == (422, "data-fault", 1)
    assert get(client, f"{RUN}/steps/1/tokens")["rows"][1]["fault"]


def test_metrics_as_json_and_as_packed_columns(client: TestClient, small: SmallRun) -> None:
    assert get(client, f"{RUN}/metrics")["items"][0]["name"] == "train/loss"
    raw = get(client, f"{RUN}/metrics/data", series="train/loss,lr")
    assert [s["name"] for s in raw["series"]] == ["train/loss", "lr"]
    assert raw["series"][0]["special"] == [[7, "nan"], [13, "+inf"]]
    coarse = get(client, f"{RUN}/metrics/data", series="train/loss", buckets=5)["series"][0]
    wanted = {
        "first_step",
        "last_step",
        "min",
        "max",
        "mean",
        "last",
        "min_step",
        "max_step",
        "finite",
        "nan",
        "inf",
        "points",
    }
    assert wanted <= set(coarse)
    assert (sum(coarse["nan"]), sum(coarse["inf"]), sum(coarse["finite"])) == (1, 1, 18)
    packed = get(client, f"{RUN}/metrics/data", series="train/loss", buckets=5, encoding="base64")["series"][0]
    assert set(packed["min"]) == {"dtype", "bdata"}


def test_a_series_whole(client: TestClient, small: SmallRun) -> None:
    lines = client.get(f"{RUN}/metrics/train/loss.csv").text.splitlines()
    assert (lines[0], len(lines), lines[7], lines[13]) == ("step,value", 21, "7,NaN", "13,inf")
    table = pyarrow.parquet.read_table(io.BytesIO(client.get(f"{RUN}/metrics/train/loss.parquet").content))
    assert np.array_equal(table.column("value").to_numpy(), small.loss, equal_nan=True)


@pytest.mark.parametrize("noun", ["configs", "events", "findings", "evaluations", "chunks", "checkpoints", "metrics"])
def test_lists_have_items_total_and_next(client: TestClient, noun: str) -> None:
    assert set(get(client, f"{RUN}/{noun}")) == {"items", "total", "next"}


def test_links_lead_through_a_list(client: TestClient) -> None:
    seen: list[int] = []
    answer = client.get(f"{RUN}/checkpoints?limit=2")
    while True:
        seen += [c["step"] for c in answer.json()["items"]]
        if "link" not in answer.headers:
            break
        assert answer.links["next"]["url"].startswith("/api/v1/")
        answer = client.get(answer.links["next"]["url"])
    assert seen == [0, 5, 10, 15, 20]


def test_times_say_their_zone(client: TestClient) -> None:
    stamp = get(client, RUN)["summary"]["published_at"]
    assert stamp.endswith(("Z", "+00:00"))


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/runs/lab/smal", 404, "run-not-found"),
        (f"{RUN}/steps/21", 404, "step-not-recorded"),
        (f"{RUN}/steps/-1", 404, "step-not-recorded"),
        (f"{RUN}/steps/1{'0' * 30}", 404, "step-not-recorded"),
        (f"{RUN}/steps/1{'0' * 5000}", 400, "bad-request"),
        (f"{RUN}/steps/1.5", 400, "bad-request"),
        (f"{RUN}/steps/nan", 400, "bad-request"),
        (f"{RUN}/steps/%00", 400, "bad-request"),
        (f"{RUN}/steps/²", 400, "bad-request"),
        (f"{RUN}/steps/0/tokens", 400, "bad-request"),
        (f"{RUN}/steps/3/tokens?count=-1", 400, "bad-request"),
        (f"{RUN}/steps/3/tokens?count=x", 400, "bad-request"),
        (f"{RUN}/steps/3/tokens?first={10**30}", 400, "bad-request"),
        (f"{RUN}/steps/3/tokens?format=exe", 400, "bad-request"),
        (f"{RUN}/steps/3/pair?data=sideways", 400, "bad-request"),
        (f"{RUN}/steps/3/pair?steps={10**30}", 400, "bad-request"),
        (f"{RUN}/checkpoints/7", 404, "checkpoint-not-found"),
        (f"{RUN}/checkpoints/nope", 404, "checkpoint-not-found"),
        (f"{RUN}/chunks/nope", 404, "chunk-not-found"),
        (f"{RUN}/metrics/data?series=nope", 404, "series-not-found"),
        (f"{RUN}/metrics/data", 400, "bad-request"),
        (f"{RUN}/metrics/data?series=train/loss&first={10**30}", 400, "bad-request"),
        (f"{RUN}/metrics/data?series=train/loss&buckets=0", 400, "bad-request"),
        (f"{RUN}/metrics/nope.csv", 404, "series-not-found"),
        (f"{RUN}/checkpoints?limit=0", 400, "bad-request"),
        (f"{RUN}/checkpoints?cursor=x", 400, "bad-request"),
        (f"{RUN}/evaluations?task=%00", 400, "bad-request"),
        ("/api/v1/runs?cursor=%00/", 400, "bad-request"),
        ("/api/v1/runs/%00/x", 400, "bad-request"),
        ("/api/v1/nothing", 404, "not-found"),
        ("/files/xyz/name", 400, "bad-request"),
        (f"/files/{'0' * 64}/name", 404, "file-not-catalogued"),
    ],
)
def test_every_refusal_is_a_problem_with_a_remedy(client: TestClient, path: str, status: int, code: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["detail"]
    assert problem["remedy"]
    assert problem["title"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/api/v1/runs", f"{RUN}/steps/3", f"/files/{'0' * 64}/x", "/healthz"])
def test_nothing_can_be_written(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path", [RUN, f"{RUN}/timeline", f"{RUN}/steps/3", f"{RUN}/steps/3/tokens", "/healthz", "/api/docs"]
)
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    plain = {"Accept-Encoding": "identity"}
    whole, head = client.get(path, headers=plain), client.head(path, headers=plain)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.content))


@pytest.mark.parametrize(
    "path", ["/api/v1/runs", RUN, f"{RUN}/timeline", f"{RUN}/steps/3", f"{RUN}/steps/3/tokens", f"{RUN}/steps/5/pair"]
)
def test_an_etag_saves_the_second_download(client: TestClient, path: str) -> None:
    first = client.get(path)
    second = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (second.status_code, second.content) == (304, b"")
    assert second.headers["etag"].strip('"') in first.headers["etag"]
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_description_names_every_answer(app: FastAPI, client: TestClient) -> None:
    described = get(client, "/api/v1/openapi.json")
    for path, methods in described["paths"].items():
        for method in methods.values():
            assert method["summary"], path
            assert method["tags"], path
    assert {t["name"] for t in described["tags"]} >= {
        t for p in described["paths"].values() for m in p.values() for t in m["tags"]
    }
    assert "StepView" in described["components"]["schemas"]
    page = client.get("/api/docs").text
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)


def test_health(app: FastAPI, client: TestClient) -> None:
    assert get(client, "/healthz")["status"] == "ok"
    ready = get(client, "/readyz")
    assert ready["status"] == "ok"
    assert {check["name"]: check["state"] for check in ready["checks"]} == dict.fromkeys(
        ("database", "storage", "data", "disk"), "ok"
    )
    secret, _ = create_token(app.state.desk.engine, "admin")
    counters = client.get("/metrics", headers={"Authorization": f"Bearer {secret}"}).text
    assert "portal_runs 1" in counters


def test_a_portal_that_cannot_write_is_not_ready(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.web.ready.os.access", lambda *_: False)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_many_buckets_are_made_in_a_thread(client: TestClient) -> None:
    few = get(client, f"{RUN}/metrics/data", series="train/loss", buckets=1000)
    many = get(client, f"{RUN}/metrics/data", series="train/loss,lr", buckets=10_000)
    again = get(client, f"{RUN}/metrics/data", series="train/loss,lr", buckets=10_000, x="step")
    assert many == again
    assert few["series"][0] == many["series"][0]


def test_rows_of_different_lengths_are_no_npy(client: TestClient, small: SmallRun) -> None:
    with pytest.raises(BadRequest, match="one length"):
        _write([3, 4], "npy")
    assert _write([3, 4], "jsonl").count(b"\n") == 2
    assert pyarrow.parquet.read_table(io.BytesIO(_write([3, 4], "parquet"))).num_rows == 2


def _write(lengths: list[int], kind: str) -> bytes:
    rows: Any = [
        (RowRef(k, "c", k), Row(k, np.arange(n, dtype=np.int64), None, "c.jsonl", 0, 1, {}))
        for k, n in enumerate(lengths)
    ]
    order = OrderView("sequential", "exact", "", "")
    facts: Any = None
    return b"".join(write_batch(BatchRows(facts, 1, order, len(rows), 0, rows), kind))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(BadRequest, match="format"):
        _write([1], "exe")
