"""`portal runs`, `portal at` and `portal tokens` over the local catalog and over an address."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet
import pytest

from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import SmallRun
from tests.cli.conftest import Portal
from tests.client.servers import running


def test_an_empty_catalog_says_what_to_do(portal: Portal, data: Path) -> None:
    said = portal("runs")
    assert said.code == 0
    assert "Try `portal publish FOLDER`" in said.out
    assert portal("runs", "--json").json == []


def test_runs(portal: Portal, small: SmallRun) -> None:
    said = portal("runs")
    assert said.code == 0
    assert "lab/small" in said.out
    assert portal("runs", "--json").json[0]["last_step"] == 20


def test_a_portal_at_an_address_answers_the_same(
    portal: Portal, small: SmallRun, sqlite_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = [portal(*c) for c in (("runs",), ("at", "lab/small", 7), ("tokens", "lab/small", 7))]
    monkeypatch.setenv("PORTAL_DATA", str(tmp_path / "elsewhere"))
    with running(create_app(sqlite_settings)) as url:
        assert [
            portal(*c, "--url", url) for c in (("runs",), ("at", "lab/small", 7), ("tokens", "lab/small", 7))
        ] == local
        monkeypatch.setenv("PORTAL_URL", url)
        assert portal("runs") == local[0]
    assert not (tmp_path / "elsewhere").exists()


def test_a_step(portal: Portal, small: SmallRun) -> None:
    said = portal("at", "lab/small", 7)
    assert said.code == 0
    for shown in (
        "step 5 (ckpt_001)", "step 10 (ckpt_002)", "warmup, its step 7", "4 rows of chunk_0", "train.yaml; lr=0.001",
        "nan", "nan_loss – The loss was not a number.", "Exact",
    ):  # fmt: skip
        assert shown in said.out
    assert portal("at", "lab/small", 7, "--json").json["at"] is None


@pytest.mark.parametrize(
    ("step", "code", "word"),
    [
        ("0", 0, "ckpt_000"),
        ("20", 0, "ckpt_004"),
        ("21", 1, "21 lies outside"),
        ("-1", 1, "-1 lies outside"),
        (str(10**30), 1, "31 digits lies outside"),
        ("abc", 2, "'abc' is not a step"),
        ("1.5", 2, "'1.5' is not a step"),
        ("", 2, "is not a step"),
        ("²", 2, "is not a step"),
        ("9" * 5000, 2, "is not a step"),
        ("..", 2, "is not a step"),
    ],
)
def test_steps_of_every_kind(portal: Portal, small: SmallRun, step: str, code: int, word: str) -> None:
    said = portal("at", "lab/small", "--", step)
    assert said.code == code
    assert word in (said.err if code else said.out)
    assert len(said.err.splitlines()) == bool(code)


@pytest.mark.parametrize("command", ["at", "tokens", "pair"])
def test_a_negative_step_is_no_option(portal: Portal, small: SmallRun, command: str) -> None:
    said = portal(command, "lab/small", "-1")
    assert (said.code, said.out) == (2, "")
    assert said.err == "'-1' is not a step. Steps are counted from 0, the initial model.\n"


@pytest.mark.parametrize(
    ("run", "code", "word"),
    [("lab/smal", 1, "lab/small"), ("lab", 2, "is no run"), ("../..", 2, "names nothing"), ("a/b/c", 2, "is no run")],
)
def test_runs_that_are_not_there(portal: Portal, small: SmallRun, run: str, code: int, word: str) -> None:
    said = portal("at", run, 5)
    assert (said.code, said.out) == (code, "")
    assert word in said.err


def test_tokens_as_text_and_ids(portal: Portal, small: SmallRun) -> None:
    text, ids = (
        portal("tokens", "lab/small", 3),
        portal("tokens", "lab/small", 3, "--ids", "--rows", "1:3", "--explain"),
    )
    assert text.code == ids.code == 0
    assert text.out.count("row ") >= 3
    assert "lab/small, step 3: 4 rows, order exact" in text.out
    assert " ".join(str(i) for i in small.rows[9]) in ids.out
    assert "row 1: chunk_0 row 9, source s0, 16 tokens" in ids.out
    assert "It took" in ids.out
    assert "\x1b" not in text.out


def test_tokens_for_programs_are_the_whole_batch(
    portal: Portal, small: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.cli.tokens.PAGE", 3)
    batch = portal("tokens", "lab/small", 3, "--json").json
    assert [r["token_ids"] for r in batch["rows"]] == small.rows[8:12].tolist()
    assert batch["explain"]
    assert [r["position"] for r in portal("tokens", "lab/small", 3, "--json", "--rows", "2").json["rows"]] == [2]
    assert [r["position"] for r in portal("tokens", "lab/small", 3, "--json", "--rows", ":2").json["rows"]] == [0, 1]


@pytest.mark.parametrize("rows", ["x", "1:x", "-1:2", "3:3", "3:1", "1:2:3", ":", "1.5:2"])
def test_rows_that_are_no_interval(portal: Portal, small: SmallRun, rows: str) -> None:
    said = portal("tokens", "lab/small", 3, f"--rows={rows}", "--json")
    assert said.code == (0 if rows == ":" else 2)
    assert ("is no interval" in said.err) == (rows != ":")


def test_rows_beyond_the_batch(portal: Portal, small: SmallRun) -> None:
    assert len(portal("tokens", "lab/small", 3, "--rows", "2:99", "--json").json["rows"]) == 2
    said = portal("tokens", "lab/small", 3, "--rows", "4:9")
    assert (said.code, said.out) == (1, "")
    assert "has 4 rows" in said.err


def test_a_row_that_cannot_be_read(portal: Portal, small: SmallRun) -> None:
    lines = (small.folder / "chunk_0.jsonl").read_text().splitlines()
    lines[9] = "{" + "x" * (len(lines[9]) - 1)
    (small.folder / "chunk_0.jsonl").write_text("\n".join(lines) + "\n")
    said = portal("tokens", "lab/small", 3)
    assert said.code == 1
    assert "row 1 cannot be read" in said.err
    assert "row 2: chunk_0 row 10" in said.out
    refused = portal("tokens", "lab/small", 3, "-o", "batch.npy")
    assert refused.code == 1
    assert not Path("batch.npy").exists()
    assert not Path("batch.npy.part").exists()


@pytest.mark.parametrize("suffix", ["npy", "parquet", "jsonl", "NPY"])
def test_tokens_as_a_file(portal: Portal, small: SmallRun, suffix: str) -> None:
    path = Path(f"batch.{suffix}")
    said = portal("tokens", "lab/small", 3, "-o", path)
    assert (said.code, said.out) == (0, "")
    assert path.name in said.err
    body = path.read_bytes()
    rows = {
        "npy": lambda: np.load(path).tolist(),
        "parquet": lambda: pyarrow.parquet.read_table(path).column("token_ids").to_pylist(),
        "jsonl": lambda: [orjson.loads(line)["token_ids"] for line in body.splitlines()],
    }[suffix.lower()]()
    assert rows == small.rows[8:12].tolist()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["-o", "batch.exe"], "End it in .npy"),
        (["-o", "batch"], "End it in .npy"),
        (["-o", "nowhere/batch.npy"], "no folder nowhere"),
        (["-o", "folder.npy"], "is a folder"),
        (["-o", "batch.npy", "--rows", "0:2"], "whole batch"),
    ],
)
def test_files_that_cannot_be_written(portal: Portal, small: SmallRun, arguments: list[str], word: str) -> None:
    Path("folder.npy").mkdir()
    said = portal("tokens", "lab/small", 3, *arguments)
    assert (said.code, said.out) == (2, "")
    assert word in said.err


def test_hostile_token_text_is_escaped(portal: Portal, release: Path) -> None:
    evil = list(b"\x1b[31mX\x00\x07[red]\nY\x9b")
    rows = [orjson.loads(line) for line in (release / "chunk_0.jsonl").read_text().splitlines()]
    rows[8] |= {"token_ids": _ids(evil), "source": "s\x1b[2J"}
    (release / "chunk_0.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    assert portal("publish", release).code == 0
    said = portal("tokens", "lab/fresh", 3, "--rows", "0:1")
    assert "\\x1b[31mX\\x00\\x07[red]\nY" in said.out
    assert "source s\\x1b[2J" in said.out
    assert not any(c in said.out for c in "\x1b\x00\x07\x9b")


def _ids(text: list[int]) -> list[int]:
    """Ids that the byte tokenizer decodes to these bytes."""
    from tests.builders import byte_tokenizer

    tokenizer = byte_tokenizer()
    by_byte = {tokenizer.decode([i], skip_special_tokens=False): i for i in range(256)}
    ids = [by_byte.get(chr(b), by_byte["?"]) for b in text]
    return ids + [by_byte[" "]] * (16 - len(ids))
