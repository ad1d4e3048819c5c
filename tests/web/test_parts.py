"""The parts pages are made of: lanes, drawings, commands, tokens, the choice of series."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from sqlalchemy import Engine
from starlette.datastructures import QueryParams

from portal.catalog.answers import FoundFinding, MetricAtStep, SeriesView, TokenRow
from portal.catalog.checkpoints import get_checkpoint
from portal.catalog.inspected import first_words
from portal.catalog.pairs import get_pair
from portal.catalog.runs import get_timeline
from portal.database import create_database_engine, open_session
from portal.errors import BadRequest
from portal.settings import Settings
from portal.web.commands import checkpoint_commands, curl_lines, pair_commands
from portal.web.downloads import Download, plan_pair
from portal.web.drawings import draw_curve, draw_pair
from portal.web.lanes import AGAIN, FINDING, MISSING, pack_lanes
from portal.web.timeline import choose_series, foremost, read_view
from portal.web.token_spans import draw_tokens
from tests.builders import record, small_run


def series(name: str, points: int = 10, group: str = "train") -> SeriesView:
    return SeriesView(name, group, "", "", "", name, "", "step", points, 1, points, 0, 0)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["lr", "grad_norm", "loss", "gpu"], ["loss", "grad_norm", "lr"]),
        (["train/loss", "train/loss_scale", "optim/total_grad_norm", "optim/learning_rate_group0"],
         ["train/loss", "optim/total_grad_norm", "optim/learning_rate_group0"]),
        (["lm_loss"], ["lm_loss"]),
        (["a", "b", "c"], ["a", "b"]),
        ([], []),
    ],
)  # fmt: skip
def test_what_is_drawn_first(names: list[str], chosen: list[str]) -> None:
    assert choose_series([series(name) for name in names]) == chosen


def test_evaluations_and_empty_series_are_not_drawn_first() -> None:
    assert choose_series([series("eval/loss", 50, "eval"), series("loss", 0), series("train_loss", 5)]) == [
        "train_loss"
    ]


def test_training_values_come_before_machines() -> None:
    values = [
        MetricAtStep(n, g, "", 1.0, None)
        for n, g in (("gpu", "system"), ("acc", "eval"), ("lr", "train"), ("loss", "train"))
    ]
    assert [m.name for m in foremost(values)] == ["loss", "lr", "acc", "gpu"]


def test_a_view_is_read_from_the_address() -> None:
    view = read_view(QueryParams("series=a&series=b,c&series=a&first=5&step=7&y=log"))
    assert (view.series, view.first, view.last, view.step, view.log) == (("a", "b,c"), 5, None, 7, True)
    with pytest.raises(BadRequest):
        read_view(QueryParams("step=1e3"))


def test_lanes_tell_missing_repeated_and_found(engine: Engine, settings: Settings) -> None:
    order = {"kind": "sequential", "chunks": ["a"]}
    document: dict[str, Any] = {
        "checkpoints": [{"step": 50, "labels": ["half"]}, {"step": 100, "missing": True}],
        "data": {
            "chunks": [{"name": n, "files": [{"path": f"{n}.jsonl"}], "format": "jsonl", "rows": 50} for n in "ab"],
            "order": [{"first_step": 1, "last_step": 50, **order}, {"first_step": 51, "last_step": 100, **order}],
        },
        "training": {"last_step": 100, "rows_per_step": 1, "row_length": 4},
    }
    findings = [FoundFinding("equal-weights", "error", "equal", 50), FoundFinding("gap", "warning", "a gap", 70)]
    record(engine, settings, document, None, (), findings)
    with open_session(engine) as session:
        lanes = pack_lanes(get_timeline(session, "lab/run"))
    assert lanes["checkpoints"] == [[50, "half", FINDING], [100, "step 100", MISSING]]
    assert lanes["data"] == [["a", 1, 50, 0, -1], ["a", 51, 100, AGAIN, -1]]
    assert lanes["events"] == [[70, 70, "finding", "a gap"]]


@pytest.mark.parametrize(
    ("step", "data", "steps"),
    [
        (10, "next", None),
        (10, "previous", None),
        (12, "batch", None),
        (10, "next", 2),
        (20, "previous", 3),
        (0, "next", None),
    ],
)
def test_a_pair_is_drawn_with_what_was_chosen(
    sqlite_settings: Settings, tmp_path: Any, step: int, data: str, steps: int | None
) -> None:
    engine = create_database_engine(sqlite_settings)
    small_run(engine, sqlite_settings, tmp_path / "release")
    with open_session(engine) as session:
        pair = get_pair(session, sqlite_settings, "lab/small", step, data, steps)
    engine.dispose()
    drawn = ElementTree.fromstring(str(draw_pair(pair)))  # noqa: S314 - made a line above
    assert f"steps {pair.data.first_step} to {pair.data.last_step}" in drawn.attrib["aria-label"]
    bars = [node for node in drawn.iter("rect") if node.attrib["class"] in ("span", "tip")]
    assert bars
    for bar in bars:
        assert float(bar.attrib["width"]) > 0
    middle = next(float(n.attrib["cx"]) for n in drawn.iter("circle") if n.attrib["class"] == "dot")
    chosen = [b for b in bars if b.attrib["class"] == "tip"] or bars
    sides = {
        "next": [float(b.attrib["x"]) >= middle for b in chosen],
        "previous": [float(b.attrib["x"]) < middle for b in chosen],
    }
    assert all(sides.get(data, [True]))
    commands = dict(pair_commands(pair, plan_pair(pair), steps, "http://portal"))
    assert f"portal pair lab/small {step} --data {data}" in commands["In parallel, resumable, verified"]


def test_commands_are_quoted() -> None:
    file = Download("a b;rm -rf ~.bin", "/files/x/y", None, None)
    assert curl_lines([file], "http://p") == ["curl -fL -C - --create-dirs -o 'a b;rm -rf ~.bin' http://p/files/x/y"]


def test_a_curve_needs_two_points_and_holds_all() -> None:
    assert draw_curve([(1, 2.0)]) == ""
    drawn = str(draw_curve([(0, 0.1), (10, 0.5), (20, 0.5)]))
    assert len(re.findall("<circle", drawn)) == 3
    assert draw_curve([(0, 1.0), (1, 1.0)]) != ""


def row(**changes: Any) -> TokenRow:
    about: dict[str, Any] = {
        "position": 0, "chunk": "c", "row": 0, "source": None, "token_ids": [5, 17, 2, 9], "pieces": ["<b>", "\n\x1b", "</s>", " x"],
        "document_starts": [3], "starts_mid_document": True, "file": "f", "offset": 0, "length": 9, "special": [2],
    }  # fmt: skip
    return TokenRow(**(about | changes))


def test_tokens_are_escaped_coloured_and_separated() -> None:
    drawn = str(draw_tokens(row(), {5: "3c"}))
    assert drawn.count("<b ") == 4
    assert '<b class="k5" data-at="0" data-id="5" data-hex="3c">&lt;b&gt;</b>' in drawn
    assert '<i class="pic">⏎</i>\n<span class="ctl">ESC</span>' in drawn
    assert '<b class="special" data-at="2" data-id="2">&lt;/s&gt;</b>' in drawn
    assert drawn.index("begins inside") < drawn.index('data-at="0"')
    assert drawn.index('data-at="2"') < drawn.index("a document starts") < drawn.index('data-at="3"')
    assert "<b>" not in drawn


def test_ids_stand_in_where_there_is_no_tokenizer() -> None:
    bare = row(pieces=None, document_starts=[], starts_mid_document=False, special=[])
    assert first_words(bare) == "5 17 2 9"
    assert str(draw_tokens(bare, {})).count("></b>") == 4
    assert first_words(row()) == "<b> \x1b x"


def test_a_checkpoint_on_the_hub_names_its_repository_and_revision(sqlite_settings: Settings) -> None:
    engine = create_database_engine(sqlite_settings)
    checkpoint = {"step": 7, "labels": ["ckpt_7"], "location": "hf://lab/model@ckpt_7"}
    soup = {"labels": ["soup"], "parents": [{"step": 7}]}
    record(engine, sqlite_settings, {"checkpoints": [checkpoint, soup]})
    with open_session(engine) as session:
        commands = dict(checkpoint_commands(get_checkpoint(session, "lab/run", 7), "https://portal.example", 20))
        merged = checkpoint_commands(get_checkpoint(session, "lab/run", "soup"), "https://portal.example", 20)
    engine.dispose()
    assert commands["With the Hub's client"] == "hf download lab/model --revision ckpt_7"
    assert commands["In transformers, from the Hub"].endswith("from_pretrained('lab/model', revision='ckpt_7')")
    assert not any("portal pair" in text for text in commands.values()), "no file of it is listed"
    assert [title for title, _ in merged] == ["Its description as JSON"], "no step, no place and no files"
