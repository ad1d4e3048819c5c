"""Runs of unusual size: nothing in them, one of everything, and far too much of everything."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import Engine

from portal.catalog.answers import FoundFinding
from portal.settings import Settings
from tests.builders import many_checkpoints, record, series_data

MANY = 10_000


def odd_runs(engine: Engine, settings: Settings) -> None:
    """``odd/empty``, ``odd/one``, ``odd/full``, ``odd/thousand``, ``odd/nan`` and ``odd/talk``."""
    nowhere = {"files": [], "location": "hf://odd/x@main"}
    record(engine, settings, {"run": "odd/empty", "training": {"last_step": 0}})
    one = {"run": "odd/one", "training": {"last_step": 1}, "checkpoints": [{"step": 1, "labels": ["only"]} | nowhere]}
    record(engine, settings, one, None, [series_data("loss", [1], [2.0])])
    many_checkpoints(engine, settings, "odd/thousand", 1000)
    steps = np.arange(1, 5001)
    odd = np.full(5000, np.nan)
    odd[::2] = np.inf
    record(
        engine,
        settings,
        {"run": "odd/nan", "training": {"last_step": 5000}, "checkpoints": [{"step": 5000} | nowhere]},
        None,
        [series_data(name, steps, odd) for name in ("loss", "grad_norm", "lr")],
    )
    talk = "A word and another. " * 990
    about: dict[str, Any] = {"title": "word " * 60, "description": talk, "links": {talk[:300]: "https://example.org"}}
    record(
        engine,
        settings,
        {"run": "odd/talk", "training": {"last_step": 1}, "configs": [{"values": {"k": talk * 50}}]} | about,
    )
    _full(engine, settings)


def _full(engine: Engine, settings: Settings) -> None:
    """``odd/full``: 400 series, ten thousand events and as many findings."""
    document = {
        "run": "odd/full",
        "training": {"last_step": MANY},
        "checkpoints": [{"step": MANY, "files": [], "location": "hf://odd/x@main"}],
        "events": [
            {"step": k, "kind": "spike" if k % 2 else "note", "note": f"Event {k}."} for k in range(1, MANY + 1)
        ],
    }
    findings = [FoundFinding(f"code-{k % 40}", "warning", f"Finding {k}.", k, {"k": k}) for k in range(1, MANY + 1)]
    steps = np.arange(1, MANY + 1, 10)
    series = [series_data(f"layer/{k:03d}/norm", steps, np.full(len(steps), float(k))) for k in range(400)]
    record(engine, settings, document, None, series, findings)
