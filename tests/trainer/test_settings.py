"""trainer.json is read strictly: nothing in it is ignored, and what is wrong is named with its place."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portal.trainer import numerics
from portal.trainer.__main__ import main
from portal.trainer.errors import BadInput
from portal.trainer.settings import Numerics, parse_settings, read_settings
from tests.trainer.jobs import job


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    return job(tmp_path, Path("input/checkpoint")).document


def test_paths_are_taken_from_the_folder_of_the_file(document: dict[str, Any], tmp_path: Path) -> None:
    document["resume"] = "input/resume"
    (tmp_path / "trainer.json").write_text(json.dumps(document))
    settings = read_settings(tmp_path / "trainer.json")
    assert settings.checkpoint == tmp_path / "input" / "checkpoint"
    assert settings.resume == tmp_path / "input" / "resume"
    assert settings.rows.sources == tmp_path / "input" / "sources.u8"
    assert settings.output == tmp_path / "output"


def test_what_may_be_left_out(document: dict[str, Any], tmp_path: Path) -> None:
    for key in ("resume", "parallel", "device", "save_every"):
        del document[key]
    del document["rows"]["lengths"], document["rows"]["sources"], document["training"]["pad_id"]
    del document["training"]["clip"]
    document["training"]["numerics"]["threads"] = None
    settings = parse_settings(document, tmp_path)
    assert (settings.parallel, settings.device, settings.save_every, settings.resume) == ("none", "auto", None, None)
    assert (settings.training.clip, settings.training.pad_id, settings.training.attention) == (None, None, "sdpa")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda d: d.update(format="llm360-portal/trainer/2"),
            "`trainer.format` has to be one of llm360-portal/trainer/1",
        ),
        (lambda d: d.pop("training"), "`trainer.training` is missing."),
        (lambda d: d.update(training=[1]), "`trainer.training` has to be dict, it is [1]."),
        (lambda d: d.update(lr=1), "`trainer` has settings that this trainer does not know: lr."),
        (lambda d: d["training"].update(z_loss=1), "`trainer.training` has settings that this trainer does not know"),
        (lambda d: d["training"]["optimizer"].update({"class": "Lion"}), "has to be one of AdamW, Adam"),
        (lambda d: d["training"]["optimizer"].update(betas=[0.9, 1]), "two numbers from 0 to below 1"),
        (lambda d: d["training"]["optimizer"].update(fused=True), "does not know: fused"),
        (lambda d: d["training"]["numerics"].update(portable=1), "`trainer.training.numerics.portable` has to be bool"),
        (lambda d: d["training"].update(rows_per_step=0), "has to be a whole number from 1, it is 0."),
        (lambda d: d["training"].update(rows_per_step=True), "has to be a whole number from 1, it is true."),
        (lambda d: d["training"].update(clip=0), "would erase every gradient"),
        (lambda d: d["training"].update(clip="inf"), "`trainer.training.clip` has to be a number from 0"),
        (lambda d: d["training"].update(precision="float16"), "one of float32, bf16-mixed, bfloat16"),
        (lambda d: d["training"].update(row_length=40), "has to be `sequence_length` 32 or one more"),
        (
            lambda d: d["rows"].update(row_length=32),
            "`trainer.rows.row_length` 32 is not `trainer.training.row_length` 33",
        ),
        (lambda d: d["rows"].update(dtype="i64"), "one of u16, u32"),
        (lambda d: d["rows"]["sources"].update(names=["a", "a"]), "up to 256 different names"),
        (lambda d: d.update(last_step=0), "a whole number from 1"),
        (lambda d: d.update(first_step=61), "`trainer.last_step` 60 is before `first_step` 61."),
        (lambda d: d.update(parallel="tensor"), "one of none, ddp, fsdp"),
    ],
)
def test_each_fault_is_named_with_its_place(
    document: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    change(document)
    with pytest.raises(BadInput) as caught:
        parse_settings(document, tmp_path)
    assert sentence in str(caught.value)


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)


@pytest.mark.usefixtures("handlers")
def test_bad_settings_end_with_65_and_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trainer.json"
    assert main([str(path)]) == 65
    path.write_text("{")
    assert main([str(path)]) == 65
    path.write_text("[]")
    assert main([str(path)]) == 65
    assert main([]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{path} cannot be read: No such file or directory."
    assert said[1].startswith(f"{path} is no JSON: ")
    assert said[2:] == [
        "`trainer` has to be a JSON object, it is [].",
        "usage: python -m portal.trainer [--processes N] FOLDER/trainer.json",
    ]


def test_a_stop_that_comes_at_the_very_end_changes_no_exit_code() -> None:
    """While Python itself takes everything apart, its own handlers of signals are gone already."""
    slow = "import atexit, time; from portal.trainer.__main__ import _end; atexit.register(time.sleep, 1); "
    command = [sys.executable, "-c", slow + "print('ends', flush=True); _end(75)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ends\n"
        while process.poll() is None:
            time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 75


def test_variables_follow_the_settings() -> None:
    plain = numerics.variables(Numerics(None, False, False))
    assert plain["HF_HUB_OFFLINE"] == "1"
    assert plain["OMP_WAIT_POLICY"] == "PASSIVE"
    assert not {"OMP_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "MKL_CBWR"} & plain.keys()
    full = numerics.variables(Numerics(4, True, True))
    assert full.items() >= {"OMP_NUM_THREADS": "4", "MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}.items()
