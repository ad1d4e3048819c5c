"""The short form of those parts of the battery that are no tests of their own room: nothing wrong, nothing lost."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from tests.battery.__main__ import PARTS
from tests.battery.figures import SHORT, Figures, as_document, print_table
from tests.battery.portals import free_space


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", ["readers", "clocks", "paths", "traps"])
def test_a_part_in_its_short_form(part: str) -> None:
    figures: Figures = importlib.import_module(f"tests.battery.{part}").run(SHORT)
    assert figures.wrong == []
    assert figures.lost == 0
    assert figures.tried + figures.injected > 10


def test_every_part_is_there_and_runs_at_a_scale() -> None:
    for part in PARTS:
        assert callable(importlib.import_module(f"tests.battery.{part}").run), part


def test_figures_are_told_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    one = Figures("inputs", tried=3, injected=2, more={"payloads": 400})
    one.add(Figures("more", tried=4, lost=1, wrong=["[b]it[/b] happened"]))
    found = {"one": one, "other": Figures("x", skipped="no disk")}
    print_table(found)
    told = capsys.readouterr().out
    assert "payloads 400" in told
    assert "one: [b]it[/b] happened" in told
    assert "skipped: no disk" in told
    assert not one.passed
    assert json.loads(json.dumps(as_document(found, SHORT)))["parts"]["one"]["tried"] == 7
    assert free_space(tmp_path) > 0
