"""Repositories, their refs, trees and commits, asked with huggingface_hub."""

from __future__ import annotations

from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from tests.clients.calls import call, raises

Facts = dict[str, Any]


@call
def model_info(facts: Facts) -> None:
    info = HfApi().model_info(facts["run"])
    assert info.sha == facts["commits"]["main"]
    assert {s.rfilename for s in info.siblings} >= {"model.safetensors", "config.json", "tokenizer.json", "README.md"}
    assert (info.private, info.author) == (False, facts["run"].split("/")[0])


@call
def model_info_with_digests(facts: Facts) -> None:
    info = HfApi().model_info(facts["run"], revision="step-300", files_metadata=True)
    weights = next(s for s in info.siblings if s.rfilename == "model.safetensors")
    assert weights.lfs["sha256"] == facts["weights"]["300"]["sha256"]
    assert weights.size == facts["weights"]["300"]["size"]


@call
def model_info_by_commit(facts: Facts) -> None:
    commit = facts["commits"]["step-300"]
    assert HfApi().model_info(facts["run"], revision=commit).sha == commit


@call
def dataset_info(facts: Facts) -> None:
    info = HfApi().dataset_info(facts["run"], revision="step-301")
    assert {s.rfilename for s in info.siblings} == {"README.md", "data/step-301.parquet"}
    assert info.sha != HfApi().dataset_info(facts["run"]).sha


@call
def list_models(facts: Facts) -> None:
    names = [m.id for m in HfApi().list_models(author=facts["run"].split("/")[0])]
    assert facts["run"] in names
    assert list(HfApi().list_models(author="nobody-of-this-name")) == []


@call
def list_models_page_by_page(facts: Facts) -> None:
    assert [m.id for m in HfApi().list_models(search="/", limit=2)] == facts["runs"][:2]
    assert [m.id for m in HfApi().list_models(search=facts["run"])] == [facts["run"]]


@call
def list_datasets(facts: Facts) -> None:
    assert facts["run"] in [d.id for d in HfApi().list_datasets(search=facts["run"])]


@call
def repo_exists(facts: Facts) -> None:
    assert HfApi().repo_exists(facts["run"])
    assert HfApi().repo_exists(facts["run"], repo_type="dataset")
    assert not HfApi().repo_exists("demo/no-such-run")


@call
def revision_exists(facts: Facts) -> None:
    assert HfApi().revision_exists(facts["run"], "step-300")
    assert HfApi().revision_exists(facts["run"], "before-step-301")
    assert not HfApi().revision_exists(facts["run"], "step-301")


@call
def file_exists(facts: Facts) -> None:
    assert HfApi().file_exists(facts["run"], "model.safetensors", revision="ckpt_006")
    assert not HfApi().file_exists(facts["run"], "model.gguf")


@call
def list_repo_refs(facts: Facts) -> None:
    refs = HfApi().list_repo_refs(facts["run"])
    assert {b.name: b.target_commit for b in refs.branches} == {
        name: commit for name, commit in facts["commits"].items() if not name.startswith("ckpt")
    }
    assert {t.name: t.target_commit for t in refs.tags} == {
        name: commit for name, commit in facts["commits"].items() if name.startswith("ckpt")
    }


@call
def list_repo_refs_with_requests(facts: Facts) -> None:
    assert HfApi().list_repo_refs(facts["run"], include_pull_requests=True).pull_requests == []


@call
def list_dataset_refs(facts: Facts) -> None:
    names = [b.name for b in HfApi().list_repo_refs(facts["run"], repo_type="dataset").branches]
    assert names[0] == "main"
    assert "step-300" in names


@call
def list_repo_commits(facts: Facts) -> None:
    commits = HfApi().list_repo_commits(facts["run"], revision="step-300")
    assert commits[0].commit_id == facts["commits"]["step-300"]
    assert [c.title for c in commits] == [f"After step {step}" for step in range(300, -1, -50)]


@call
def list_repo_files(facts: Facts) -> None:
    files = HfApi().list_repo_files(facts["run"], revision="step-300")
    assert "model.safetensors" in files
    assert "optimizer.safetensors" in files


@call
def list_repo_tree(facts: Facts) -> None:
    rows = {r.path: r for r in HfApi().list_repo_tree(facts["run"], revision="step-300", recursive=True, expand=True)}
    weights = rows["model.safetensors"]
    assert weights.lfs["sha256"] == facts["weights"]["300"]["sha256"]
    assert weights.last_commit["oid"] == facts["commits"]["step-300"]
    assert all(row.lfs is not None for row in rows.values())


@call
def list_repo_tree_of_a_folder(facts: Facts) -> None:
    api = HfApi()
    top = {r.path for r in api.list_repo_tree(facts["run"], repo_type="dataset")}
    assert top == {"README.md", "data"}
    inside = {r.path for r in api.list_repo_tree(facts["run"], "data", repo_type="dataset")}
    assert "data/main_000.jsonl" in inside


@call
def list_repo_tree_of_no_folder(facts: Facts) -> None:
    with raises(EntryNotFoundError):
        list(HfApi().list_repo_tree(facts["run"], "additional_chat_templates"))


@call
def get_paths_info(facts: Facts) -> None:
    found = HfApi().get_paths_info(facts["run"], ["data", "data/main_000.jsonl", "nope"], repo_type="dataset")
    assert [row.path for row in found] == ["data", "data/main_000.jsonl"]


@call
def get_paths_info_expanded(facts: Facts) -> None:
    found = HfApi().get_paths_info(facts["run"], "model.safetensors", expand=True, revision="step-300")
    assert found[0].last_commit["oid"] == facts["commits"]["step-300"]


@call
def missing_repository(facts: Facts) -> None:
    with raises(RepositoryNotFoundError):
        HfApi().model_info("demo/no-such-run")
    with raises(RepositoryNotFoundError):
        HfApi().model_info("gpt2")


@call
def missing_revision(facts: Facts) -> None:
    with raises(RevisionNotFoundError):
        HfApi().model_info(facts["run"], revision="step-301")
    with raises(RevisionNotFoundError):
        HfApi().model_info(facts["run"], revision="0" * 40)
    with raises(RevisionNotFoundError):
        HfApi().dataset_info(facts["run"], revision="step-601")


@call
def whoami_with_a_token_of_another_place(_facts: Facts) -> None:
    # A different class in every generation of clients, but always of this kind.
    with raises(OSError):
        HfApi(token="hf_notatokenofthisportal").whoami()
