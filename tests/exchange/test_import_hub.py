"""The Hub importer against a small server that answers as the Hub's refs endpoint does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from portal.errors import DataFault, NotFound, Unavailable, UsageError
from portal.exchange.importers import ImportReport, import_layout
from portal.manifest import CheckpointEntry, checkpoints_of, read_manifest


class RefsServer:
    """Repositories by name; each maps branch names to commits."""

    def __init__(self) -> None:
        self.branches: dict[str, dict[str, str]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.authorization: list[str | None] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.authorization.append(self.headers.get("Authorization"))
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = Thread(target=self.server.serve_forever)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """The refs of one repository, 404 with the Hub's error code for others."""
        name = request.path.removeprefix("/api/models/").removesuffix("/refs").split("?")[0]
        known = name in self.branches and self.status == 200
        request.send_response(200 if known else (404 if self.status == 200 else self.status))
        if not known:
            request.send_header("X-Error-Code", "RepoNotFound" if self.status == 200 else "Broken")
        body = json.dumps(
            {
                "branches": refs(self.branches.get(name, {}), "heads"),
                "tags": refs(self.tags.get(name, {}), "tags"),
                "converts": [],
            }
        ).encode()
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


def refs(names: dict[str, str], kind: str) -> list[dict[str, str]]:
    return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit} for name, commit in names.items()]


@pytest.fixture
def hub() -> Iterator[RefsServer]:
    server = RefsServer()
    server.thread.start()
    yield server
    server.server.shutdown()
    server.server.server_close()
    server.thread.join()


def take(
    hub: RefsServer, branches: dict[str, str], tags: dict[str, str] | None = None
) -> tuple[ImportReport, list[CheckpointEntry]]:
    hub.branches["Org/Model"] = branches
    hub.tags["Org/Model"] = tags or {}
    report = import_layout("hub", "Org/Model", hf_endpoint=hub.endpoint)
    return report, checkpoints_of(read_manifest(report.text.encode(), "test"))


def codes(report: ImportReport) -> list[str]:
    return [finding["code"] for finding in report.findings]


def test_step_branches_become_checkpoints(hub: RefsServer) -> None:
    report, checkpoints = take(
        hub, {"main": "c9", "dev": "c8"} | {f"step{k}": f"c{k}" for k in (0, 1, 1000, 2000, 3000, 4000, 5000)}
    )
    assert report.run == "org/model"
    assert [(c.step, c.labels, c.location) for c in checkpoints[:3]] == [
        (0, ("step0",), "hf://Org/Model@step0"),
        (1, ("step1",), "hf://Org/Model@step1"),
        (1000, ("step1000",), "hf://Org/Model@step1000"),
    ]
    assert checkpoints[-1].labels == ("main",)
    assert checkpoints[-1].step is None
    assert report.manifest["training"]["last_step"] == 5000
    assert len(report.manifest["checkpoints"]) == 3
    assert report.notes == ["2 other branches and tags name no checkpoint."]


def test_no_token_leaves_for_another_endpoint(hub: RefsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    take(hub, {"step1": "a"})
    assert hub.authorization == [None]


def test_main_on_the_commit_of_a_step_is_not_listed_again(hub: RefsServer) -> None:
    _, checkpoints = take(hub, {"main": "c2", "step1": "c1", "step2": "c2"})
    assert [c.labels for c in checkpoints] == [("step1",), ("step2",)]


def test_aliases_share_a_checkpoint_and_other_commits_do_not(hub: RefsServer) -> None:
    report, checkpoints = take(
        hub, {"step1000-tokens4B": "a", "step1000": "a", "step2000": "b", "step2000-tokens9B": "c"}
    )
    assert sorted((c.step, c.labels) for c in checkpoints) == [
        (1000, ("step1000-tokens4B", "step1000")),
        (2000, ("step2000",)),
        (2000, ("step2000-tokens9B",)),
    ]
    assert codes(report) == ["step-on-two-commits", "labels-round-tokens"]


def test_one_commit_at_two_steps_is_an_error(hub: RefsServer) -> None:
    report, _ = take(hub, {"step-1": "same", "step-2": "same", "step-3": "other"})
    (finding,) = report.findings
    assert (finding["code"], finding["severity"], finding["evidence"]["steps"]) == (
        "steps-share-commit",
        "error",
        [1, 2],
    )


def test_tags_count_and_padded_numbers_keep_their_spelling(hub: RefsServer) -> None:
    _, checkpoints = take(
        hub, {"main": "m"}, {"global_step1000": "a", "iter_0000941": "b", "step-480k-token-1007B": "c"}
    )
    assert {c.labels[0]: (c.step, c.location) for c in checkpoints if c.step is not None} == {
        "global_step1000": (1000, "hf://Org/Model@global_step1000"),
        "iter_0000941": (941, "hf://Org/Model@iter_0000941"),
        "step-480k-token-1007B": (480_000, "hf://Org/Model@step-480k-token-1007B"),
    }


def test_saves_and_later_stages_have_no_step(hub: RefsServer) -> None:
    report, checkpoints = take(
        hub,
        {
            "stage1-step1000-tokens5B": "a",
            "stage2-ingredient1-step1000-tokens5B": "b",
            "ckpt_007": "c",
        },
    )
    assert [(c.step, c.labels[0]) for c in checkpoints] == [
        (1000, "stage1-step1000-tokens5B"),
        (None, "ckpt_007"),
        (None, "stage2-ingredient1-step1000-tokens5B"),
    ]
    assert "counts saves" in checkpoints[1].note
    (finding,) = [f for f in report.findings if f["code"] == "steps-unknown"]
    assert finding["evidence"]["count"] == 2


def test_only_saves_leave_the_length_unknown(hub: RefsServer) -> None:
    report, checkpoints = take(hub, {"ckpt_000": "a", "ckpt_001": "b"})
    assert report.manifest["training"]["last_step"] == 0
    assert [c.step for c in checkpoints] == [None, None]


def test_a_repository_without_steps_is_refused(hub: RefsServer) -> None:
    with pytest.raises(DataFault, match="None of the 2 branches and tags"):
        take(hub, {"main": "a", "dev": "b"})


def test_absent_broken_and_unreachable_hubs_are_told_apart(hub: RefsServer) -> None:
    with pytest.raises(NotFound, match="no public repository Org/Absent"):
        import_layout("hub", "Org/Absent", hf_endpoint=hub.endpoint)
    hub.status = 403
    with pytest.raises(Unavailable, match="did not list the branches"):
        import_layout("hub", "Org/Model", hf_endpoint=hub.endpoint)
    with pytest.raises(Unavailable, match="did not list the branches"):
        import_layout("hub", "Org/Model", hf_endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["model", "a/b/c", "../x", "a/..", "a/b c"])
def test_what_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a repository"):
        import_layout("hub", name, hf_endpoint="http://127.0.0.1:9")
