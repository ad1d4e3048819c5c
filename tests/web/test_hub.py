"""The Hugging Face dialect: every answer as the Hub's clients need it. Real clients are in tests/clients."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.manifest.check import RESERVED
from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import SmallRun, record, small_run
from tests.web.hub import WEIGHTS, commit_of, pages_of, refusal, tree, weights_of


def test_a_repository_at_a_revision(client: TestClient, small: SmallRun) -> None:
    info = client.get("/api/models/lab/small").json()
    assert (info["id"], info["author"], info["private"], info["gated"]) == ("lab/small", "lab", False, False)
    assert info["sha"] == commit_of(client, "main") == commit_of(client, "step-20") == commit_of(client, "ckpt_004")
    assert info["lastModified"].endswith("Z")
    names = {"README.md", "model.safetensors", "optimizer.bin", "tokenizer.json", "tokenizer_config.json"}
    assert {s["rfilename"] for s in info["siblings"]} == names
    with_blobs = client.get("/api/models/lab/small/revision/step-10?blobs=true").json()
    weights = next(s for s in with_blobs["siblings"] if s["rfilename"] == "model.safetensors")
    digest = hashlib.sha256(weights_of(small, 10)).hexdigest()
    assert weights["lfs"] == {"sha256": digest, "size": 1010, "pointerSize": 129}
    assert (weights["size"], len(weights["blobId"])) == (1010, 40)
    assert with_blobs["usedStorage"] == sum(s["size"] for s in with_blobs["siblings"])


def test_names_may_be_written_in_capitals(client: TestClient) -> None:
    assert client.get("/api/models/Lab/Small").json()["id"] == "lab/small"
    assert client.get(WEIGHTS.replace("/lab/", "/LAB/")).status_code == 200


def test_what_stood_before_a_step(client: TestClient) -> None:
    known = {step: commit_of(client, f"step-{step}") for step in (0, 5, 10, 15, 20)}
    for step, before in ((1, 0), (5, 0), (6, 5), (10, 5), (11, 10), (20, 15)):
        assert commit_of(client, f"before-step-{step}") == known[before], step
    for step in ("0", "21", "x"):
        assert refusal(client.get(f"/api/models/lab/small/revision/before-step-{step}")) == (404, "RevisionNotFound")


def test_a_tree_and_its_folders(client: TestClient) -> None:
    top = tree(client, "/api/datasets/lab/small/tree/step-3")
    assert [(p, r["type"]) for p, r in top.items()] == [("README.md", "file"), ("data", "directory")]
    whole = tree(client, "/api/datasets/lab/small/tree/step-3?recursive=True&expand=True")
    assert list(whole) == ["README.md", "data", "data/step-3.parquet"]
    commit = commit_of(client, "step-3", "datasets")
    assert all(row["lastCommit"]["id"] == commit for row in whole.values())
    assert set(tree(client, "/api/datasets/lab/small/tree/step-3/data")) == {"data/step-3.parquet"}
    missing = client.get("/api/models/lab/small/tree/main/additional_chat_templates")
    assert refusal(missing) == (404, "EntryNotFound")


def test_git_and_lfs_ids_are_those_of_git(client: TestClient) -> None:
    row = tree(client, "/api/models/lab/small/tree/step-10")["model.safetensors"]
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{row['lfs']['oid']}\nsize 1010\n".encode()
    assert row["lfs"]["pointerSize"] == len(pointer)
    assert row["oid"] == hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False).hexdigest()


def test_an_empty_file_is_no_lfs_file(client: TestClient, engine: Engine, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "empty.txt").write_text("")
    record(
        engine,
        settings,
        {"run": "lab/empty", "checkpoints": [{"step": 1, "files": [{"path": "c/empty.txt"}]}]},
        tmp_path,
    )
    row = tree(client, "/api/models/lab/empty/tree/main")["empty.txt"]
    assert row == {"type": "file", "path": "empty.txt", "size": 0, "oid": "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"}
    head = client.head("/lab/empty/resolve/main/empty.txt")
    assert (head.headers["etag"], head.headers["content-length"]) == (f'"{row["oid"]}"', "0")


def test_lists_go_on_at_the_public_address(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    small_run(engine, settings, tmp_path / "release")
    app = create_app(settings.model_copy(update={"public_url": "https://portal.example/"}))
    client = TestClient(app)
    address = "/api/models/lab/small/tree/main?limit=2&recursive=true"
    link = client.get(address).headers["link"]
    assert (
        link == '<https://portal.example/api/models/lab/small/tree/main?limit=2&recursive=true&cursor=1.2>; rel="next"'
    )
    client = TestClient(app, base_url="https://portal.example")
    assert [len(page) for page in pages_of(client, address)] == [2, 2, 1]
    assert [len(page) for page in pages_of(client, "/api/models/lab/small/commits/main?limit=3")] == [3, 2]
    app.state.desk.close()


def test_refs_are_steps_and_labels(client: TestClient) -> None:
    refs = client.get("/api/models/lab/small/refs").json()
    assert [b["name"] for b in refs["branches"]] == ["main", "step-0", "step-5", "step-10", "step-15", "step-20"]
    assert [t["ref"] for t in refs["tags"]] == [f"refs/tags/ckpt_{k:03d}" for k in range(5)]
    assert {r["targetCommit"] for r in refs["tags"]} == {r["targetCommit"] for r in refs["branches"]}
    assert (refs["converts"], "pullRequests" in refs) == ([], False)
    assert client.get("/api/models/lab/small/refs?include_prs=1").json()["pullRequests"] == []
    data = client.get("/api/datasets/lab/small/refs").json()
    assert [b["name"] for b in data["branches"]] == ["main", "step-5", "step-10", "step-15", "step-20"]


def test_commits_are_the_checkpoints_newest_first(client: TestClient) -> None:
    commits = client.get("/api/models/lab/small/commits/step-10").json()
    assert [c["title"] for c in commits] == ["After step 10", "After step 5", "After step 0"]
    assert [c["id"] for c in commits] == [commit_of(client, f"step-{n}") for n in (10, 5, 0)]
    assert commits[0]["authors"] == [{"user": "lab"}]
    assert len(client.get("/api/datasets/lab/small/commits/main").json()) == 1


def test_lists_of_repositories(client: TestClient, engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/no-data"})
    record(engine, settings, {"run": "other/lab"})
    names = [m["id"] for m in client.get("/api/models").json()]
    assert names == ["lab/no-data", "lab/small", "other/lab"]
    assert [m["id"] for m in client.get("/api/models?author=LAB").json()] == ["lab/no-data", "lab/small"]
    assert [m["id"] for m in client.get("/api/models?search=small").json()] == ["lab/small"]
    assert [m["id"] for m in client.get("/api/datasets").json()] == ["lab/small"]
    assert [[m["id"] for m in page] for page in pages_of(client, "/api/models?limit=2")] == [names[:2], names[2:]]
    assert client.get("/api/models?limit=many").status_code == 400


def test_paths_are_asked_for_in_a_form(client: TestClient) -> None:
    address = "/api/datasets/lab/small/paths-info/step-3"
    form = {"paths": ["data", "data/step-3.parquet", "nope", ""], "expand": "false"}
    assert [row["path"] for row in client.post(address, data=form).json()] == ["data", "data/step-3.parquet"]
    expanded = client.post(address, data={"paths": "README.md", "expand": "True"}).json()
    assert expanded[0]["lastCommit"]["id"] == commit_of(client, "step-3", "datasets")
    assert client.post(address, json={"paths": ["README.md"]}).json()[0]["path"] == "README.md"
    assert client.get(address).status_code == 405
    assert client.post(address, content=b"[1]", headers={"Content-Type": "application/json"}).status_code == 400
    assert client.post(address, content=b"paths=\xff").status_code == 400
    assert client.post(address, content=b"paths=" + b"x" * (1 << 20)).status_code == 413


def test_missing_repositories_and_revisions(client: TestClient, engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/no-data"})
    for address in ("models/lab/nope", "models/gpt2", "models/lab/nope/refs", "datasets/lab/no-data"):
        assert refusal(client.get(f"/api/{address}")) == (404, "RepoNotFound"), address
    for address in (
        "models/lab/small/revision/nope",
        "models/lab/small/tree/step-3",
        "datasets/lab/small/tree/step-21",
    ):
        assert refusal(client.get(f"/api/{address}")) == (404, "RevisionNotFound"), address
    assert refusal(client.get(f"/api/models/lab/small/revision/{'0' * 40}")) == (404, "RevisionNotFound")
    assert refusal(client.get("/api/datasets/lab/small/revision/step-0")) == (404, "RevisionNotFound")
    assert client.get("/api/models/lab/no-data").json()["siblings"] == [{"rfilename": "README.md"}]


def test_questions_that_must_stay_unanswered(client: TestClient) -> None:
    for address in (
        "/api/agent-harnesses",
        "/api/models/lab/small/discussions",
        "/api/models/lab/small/xet-read-token/main",
    ):
        assert client.get(address).status_code == 404, address
    who = client.get("/api/whoami-v2", headers={"Authorization": "Bearer hf_x"})
    assert (who.status_code, who.json()) == (401, {"error": "Invalid user token."})
    assert client.post("/api/models/lab/small/refs").status_code == 400
    assert client.post("/api/models/lab/small/commit/main", content=b"{}").status_code == 404


def test_nothing_speaks_of_xet_and_other_sites_may_read(client: TestClient) -> None:
    api = [f"/api/models/lab/small{tail}" for tail in ("", "/tree/main?expand=1", "/refs", "/commits/main")]
    for address in [*api, WEIGHTS, "/lab/small/resolve/main/README.md", "/api/models/lab/nope"]:
        answer = client.get(address)
        assert not [n for n in answer.headers if "xet" in n], address
        assert address == WEIGHTS or "xet" not in answer.text.lower()
        assert answer.headers["access-control-allow-origin"] == "*"
        exposed = answer.headers["access-control-expose-headers"]
        for name in (
            "X-Repo-Commit",
            "X-Linked-Size",
            "X-Linked-Etag",
            "ETag",
            "Link",
            "Content-Range",
            "X-Error-Code",
        ):
            assert name in exposed


def test_the_name_of_a_repository_leads_to_its_run(client: TestClient) -> None:
    for address, target in (
        ("/lab/small", "/runs/lab/small"),
        ("/Lab/Small", "/runs/lab/small"),
        ("/datasets/lab/small", "/runs/lab/small/chunks"),
        ("/lab/small/tree/step-10", "/runs/lab/small/checkpoints/10"),
        ("/lab/small/tree/main", "/runs/lab/small"),
    ):
        answer = client.get(address, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, target)
        assert client.get(address).status_code == 200
    assert client.get("/lab/nope").status_code == 404


def test_no_organisation_can_hide_a_page(app: FastAPI) -> None:
    def paths(routes: list[Any]) -> list[str]:
        found = []
        for route in routes:
            inner = getattr(route, "original_router", None)
            found += paths(inner.routes) if inner is not None else [route.path]
        return found

    firsts = {path.split("/")[1] for path in paths(app.routes)}
    assert {first for first in firsts if re.match("[a-z0-9]", first)} <= RESERVED


PARTS = [
    "lab",
    "small",
    "main",
    "step-10",
    "before-step-7",
    "resolve",
    "tree",
    "revision",
    "paths-info",
    "refs",
    "commits",
]
ODD = ["%00", "%0d%0a", "%ff%fe", "..", "%2e%2e", "", "a%2Fb", "%", "%zz", "%e2%80%ae", "step-9" + "9" * 30, "0" * 40]
QUERIES = [
    "",
    "limit=-1",
    f"limit={'9' * 30}",
    "cursor=1.99",
    "cursor=x",
    "recursive=maybe",
    "search=%00",
    "blobs=1&blobs=2",
]


@given(
    start=st.sampled_from(
        ["api/models", "api/datasets", "datasets", "lab/small/resolve", "api/models/lab/small", "lab"]
    ),
    parts=st.lists(st.sampled_from(PARTS + ODD), max_size=5),
    query=st.sampled_from(QUERIES),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
)
@settings_of_hypothesis(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_address_makes_the_portal_fail(
    client: TestClient, start: str, parts: list[str], query: str, method: str
) -> None:
    answer = client.request(method, f"/{'/'.join([start, *parts])}?{query}", follow_redirects=False)
    assert answer.status_code < 500, answer.text
    # A server drops the connection over any other character in a header.
    assert all(value.isascii() and value.isprintable() for value in answer.headers.values())


@pytest.mark.parametrize(
    ("role", "organisation", "hub_role"), [("publisher", "lab", "write"), ("reader", None, "read")]
)
def test_who_holds_a_token_of_this_portal(
    client: TestClient, engine: Engine, role: str, organisation: str | None, hub_role: str
) -> None:
    secret, _ = create_token(engine, role, "ada", organisation)
    who = client.get("/api/whoami-v2", headers={"Authorization": f"Bearer {secret}"})
    assert who.status_code == 200
    assert (who.json()["name"], who.json()["auth"]["accessToken"]["role"]) == ("ada", hub_role)
    assert [org["name"] for org in who.json()["orgs"]] == ([organisation] if organisation else [])
    assert who.headers["cache-control"] == "no-store"
    assert client.get("/api/whoami-v2", headers={"Authorization": "Bearer llm360_no"}).status_code == 401
