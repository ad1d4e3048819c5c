"""`portal pair` and `portal verify`: down, killed, resumed, verified, spoiled."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import SMALL, SmallRun
from tests.cli.conftest import Portal
from tests.client.answers import file_view, pair_view
from tests.client.servers import file_server, running

PART = 8 << 20


def test_a_pair_and_its_verification(portal: Portal, small: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    said = portal("pair", "lab/small", 7, "--to", "pair")
    assert said.code == 0
    assert "checkpoint  step 5" in said.out
    assert "next: steps 6 to 10" in said.out
    assert "3 by sha256" in said.out
    assert "download … " in said.err
    # Offline: no catalog is needed any more.
    monkeypatch.setenv("PORTAL_DATA", "/proc/none")
    assert portal("verify", "pair").out.endswith("Every file is as it was fetched.\n")
    path = Path("pair/checkpoint/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    spoiled = portal("verify", "pair")
    assert spoiled.code == 1
    assert "changed" in next(line for line in spoiled.out.splitlines() if "model.safetensors" in line)
    assert portal("verify", "pair", "--json").json["ok"] is False


def test_a_pair_for_programs(portal: Portal, small: SmallRun) -> None:
    said = portal("pair", "lab/small", 10, "--to", "pair", "--data", "previous", "--parts", "weights, config", "--json")
    assert said.code == 0
    assert [f["path"] for f in said.json["files"]] == ["checkpoint/model.safetensors", "data/chunk_0.jsonl"]
    assert said.json["pair"]["data"]["direction"] == "previous"


def test_a_batch(portal: Portal, small: SmallRun) -> None:
    said = portal("pair", "lab/small", 12, "--to", "pair", "--data", "batch")
    assert said.code == 0
    assert "1 have no published sha256" in said.out
    assert "unchanged" in portal("verify", "pair").out


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["5", "--parts", "soul"], 2, "no part 'soul'"),
        (["5", "--data", "sideways"], 2, "no data 'sideways'"),
        (["abc"], 2, "is not a step"),
        (["99"], 1, "lies outside"),
        (["20"], 1, "nothing is read after it"),
        (["15", "--steps", "6"], 1, "Only 5 steps follow"),
    ],
)
def test_pairs_that_cannot_be(portal: Portal, small: SmallRun, arguments: list[str], code: int, word: str) -> None:
    said = portal("pair", "lab/small", *arguments, "--to", "pair")
    assert (said.code, said.out) == (code, "")
    assert word in said.err
    assert not Path("pair").exists()


def test_a_place_that_is_a_file(portal: Portal, small: SmallRun) -> None:
    Path("pair").write_text("mine")
    assert portal("pair", "lab/small", 5, "--to", "pair").code == 2
    assert Path("pair").read_text() == "mine"
    said = portal("pair", "lab/small", 5, "--to", "/proc/none/pair")
    assert said.code == 1
    assert len([line for line in said.err.splitlines() if "/proc/none" in line]) == 1


def test_what_was_not_fetched_is_said(portal: Portal, tmp_path: Path) -> None:
    with file_server() as files:
        files.put_json("/api/v1/runs/lab/run/steps/5/pair", pair_view([]))
        said = portal("pair", "lab/run", 5, "--to", "pair", "--url", files.url)
    assert said.code == 1
    assert "not fetched: The files of the checkpoint are not listed; it lies at hf://lab/run." in said.err


def test_killed_and_resumed(tmp_path: Path) -> None:
    body = random.Random(3).randbytes(6 * PART + 1000)
    with file_server({"/big": body, "/small": b"small" * 100}) as files:
        files.put_json(
            "/api/v1/runs/lab/run/steps/5/pair",
            pair_view([file_view("m/big.bin", "/big", body), file_view("m/small.bin", "/small", b"small" * 100)]),
        )
        files.behaviour.pause = 0.003
        command = [sys.executable, "-m", "portal", "pair", "lab/run", "5", "--to", "pair", "--url", files.url]
        first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        journal = tmp_path / "pair" / "checkpoint" / "big.bin.parts"
        head = _wait_for_parts(journal, first)
        first.kill()
        assert first.wait() == -9
        assert not (tmp_path / "pair" / "pair.json").exists()
        assert not (tmp_path / "pair" / "checkpoint" / "big.bin").exists()
        noted = {
            int.from_bytes(journal.read_bytes()[at : at + 4], "little") for at in range(head, journal.stat().st_size, 4)
        }
        assert 0 < len(noted) < 7
        files.asked.clear()
        files.behaviour.pause = 0
        subprocess.run(command, check=True, capture_output=True)
        again = {int(r.removeprefix("bytes=").split("-")[0]) // PART for r in files.ranges_of("/big")}
        assert again == set(range(7)) - noted
    assert (tmp_path / "pair" / "checkpoint" / "big.bin").read_bytes() == body
    subprocess.run([sys.executable, "-m", "portal", "verify", "pair"], check=True, capture_output=True)
    document = json.loads((tmp_path / "pair" / "pair.json").read_text())
    assert document["fetched_bytes"] < document["total_bytes"]


def _wait_for_parts(journal: Path, process: subprocess.Popen[bytes]) -> int:
    """The length of the journal's head, as soon as a part is noted behind it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and b"\n" in (noted := journal.read_bytes()):
            head = noted.index(b"\n") + 1
            if len(noted) >= head + 4:
                return head
        time.sleep(0.01)
    raise AssertionError("no part arrived")


@pytest.mark.parametrize("ranges", [True, False])
def test_bytes_that_lie_are_refused(portal: Portal, ranges: bool) -> None:
    with file_server({"/f": b"other bytes"}) as files:
        files.behaviour.ranges = ranges
        files.put_json("/api/v1/runs/lab/run/steps/5/pair", pair_view([file_view("f.bin", "/f", b"bytes as it")]))
        said = portal("pair", "lab/run", 5, "--to", "pair", "--url", files.url)
    assert said.code == 1
    assert "f.bin does not have the sha256" in said.err
    assert not Path("pair/checkpoint/f.bin").exists()
    assert portal("verify", "pair").code == 1


def test_every_file_that_cannot_be_had_is_named_at_the_end(portal: Portal) -> None:
    names = ["a", "gone", "b", "lost"]
    bodies = {name: name.encode() * 20 for name in names}
    with file_server({f"/{n}": bodies[n] for n in ("a", "b")}) as files:
        views = [file_view(f"{n}.jsonl", f"/{n}", bodies[n]) for n in names]
        files.put_json("/api/v1/runs/lab/run/steps/5/pair", pair_view([file_view("m", "/a", bodies["a"])], views))
        said = portal("pair", "lab/run", 5, "--to", "pair", "--url", files.url)
        assert said.code == 1
        assert "not fetched: data/gone.jsonl: " in said.err
        assert "not fetched: data/lost.jsonl: " in said.err
        assert "2 of 5 files are not here; run the same command again" in said.err
        files.contents |= {"/gone": bodies["gone"], "/lost": bodies["lost"]}
        again = portal("pair", "lab/run", 5, "--to", "pair", "--url", files.url, "--json")
    assert (again.code, again.json["complete"], again.json["failed"]) == (0, True, [])
    assert portal("verify", "pair").code == 0


def test_a_damaged_pair_is_repaired_by_one_command(portal: Portal, small: SmallRun) -> None:
    portal("pair", "lab/small", 5, "--to", "pair")
    path = Path("pair/checkpoint/optimizer.bin")
    good = path.read_bytes()
    path.write_bytes(b"x" + good[1:])
    assert portal("verify", "pair").code == 1
    assert portal("pair", "lab/small", 5, "--to", "pair").code == 0
    assert path.read_bytes() == good
    assert portal("verify", "pair", "--strict").code == 0


def test_a_downloaded_release_is_verified(
    portal: Portal, small: SmallRun, sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small.folder
    (folder / "release.json").write_text(json.dumps(SMALL | {"run": small.run}))
    monkeypatch.setenv("PORTAL_DATA", "/proc/none")
    offline = portal("verify", folder)
    assert offline.code == 1
    assert "NOT verified, as nothing at hand says what they should be: 15 files." in offline.out
    assert "Nothing could be verified" in offline.out
    assert "verify … " in offline.err
    with running(create_app(sqlite_settings)) as url:
        told = portal("verify", folder, "--url", url)
        assert (told.code, told.out.splitlines()[-1]) == (0, "No file is missing or changed.")
        assert "14 of 15 files have the sha256 that was released." in told.out
        assert portal("verify", folder, "--url", url, "--strict").code == 1
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    (folder / "SHA256SUMS").write_text(
        subprocess.run(["sha256sum", *names], cwd=folder, check=True, capture_output=True, text=True).stdout
    )
    sound = portal("verify", folder, "--strict")
    assert (sound.code, sound.out.splitlines()[-1]) == (0, "Every file is what was released.")
    (folder / "chunk_0.jsonl").unlink()
    (folder / "odd\x1b[2J").write_text("")
    bad = portal("verify", folder, "--json")
    assert bad.code == 1
    assert bad.json["counts"] == {"verified": 14, "missing": 1, "unexpected": 1}
    assert "\x1b" not in portal("verify", folder).out
    assert portal("verify", "lab/small", "--strict").code == 2


def test_a_run_is_verified_and_scanned(portal: Portal, small: SmallRun) -> None:
    sound = portal("verify", "lab/small")
    assert (sound.code, sound.out.splitlines()[-1]) == (0, "Every file here is as it was published.")
    # Its weights are made-up bytes, which the scan says; of its files nothing else is wrong.
    assert {found["code"] for found in portal("scan", "lab/small", "--json").json["findings"]} == {"weights-unreadable"}
    path = small.folder / "step5" / "model.safetensors"
    body = path.read_bytes()
    path.write_bytes(b"x" + body[1:])
    (small.folder / "step10" / "optimizer.bin").unlink()
    spoiled = portal("verify", "lab/small", "--deep")
    assert spoiled.code == 1
    assert "model.safetensors" in spoiled.out
    assert "optimizer.bin" in spoiled.out
    assert len(portal("verify", "lab/small", "--json").json["findings"]) == 2
    scanned = portal("scan", "lab/small", "--json")
    assert scanned.code == 1
    assert {"file-changed", "file-missing"} <= {found["code"] for found in scanned.json["findings"]}
    assert "hash" in portal("scan", "lab/small", "--deep").err
    assert portal("scan", "lab/none").code == portal("verify", "./nothing").code == 1


def test_a_run_with_the_name_of_a_folder(portal: Portal, small: SmallRun) -> None:
    Path("lab/small").mkdir(parents=True)
    assert portal("verify", "lab/small").code == 0
    said = portal("verify", "./lab/small")
    assert said.code == 1
    assert "holds no pair.json, no release.yaml" in said.err
