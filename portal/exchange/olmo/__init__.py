"""OLMo releases: a CSV of checkpoint directories a run, a training config with the data files, evaluation exports.

Sources: allenai/OLMo at 59a53e3 (``configs/``, ``olmo/data/``, ``docs/Checkpoints.md``), its removed
``checkpoints/official/`` (889aaaa5^), branch ladder-1xC (``scripts/scaling/data/``), allenai/OLMo-core at fa6c501.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from portal.errors import UsageError
from portal.exchange.draft import Draft
from portal.exchange.olmo.data import add_data, geometry_of
from portal.exchange.olmo.directories import add_checkpoints, last_listed_step, read_list
from portal.exchange.olmo.ownership import find_foreign_list
from portal.exchange.olmo.runs import RUNS, Run, find_file, find_runs
from portal.exchange.sources import read_parameters

REPOSITORY = "https://github.com/allenai/OLMo"


def import_layout(source: Path, run: str | None) -> Draft:
    """The manifest draft of one run; without ``run`` the source must hold the list of exactly one."""
    chosen = _choose(source, run)
    listing = read_list(source, chosen)
    config_path = find_file(source, chosen.config) if chosen.config else None
    config = read_parameters(config_path) if config_path else {}
    last_step = chosen.last_step or last_listed_step(listing)
    draft = Draft(
        chosen.name,
        {
            "kind": "resume" if chosen.parent else "pretrain",
            "title": chosen.title,
            "description": chosen.description,
            **({"parent": {"run": chosen.parent[0], "step": chosen.parent[1]}} if chosen.parent else {}),
            "license": {"code": "apache-2.0", "weights": "apache-2.0", "data": "odc-by"},
            "links": {"code": REPOSITORY, "checkpoints": "https://olmo-checkpoints.org", **dict(chosen.links)},
            "model": _model(chosen, config),
            "training": {**geometry_of(config), "last_step": last_step},
            **({"cadence": chosen.cadence} if chosen.cadence else {}),
        },
    )
    if find_foreign_list(draft, chosen, listing):
        draft.document["training"]["last_step"] = 0
        draft.document.pop("cadence", None)
        return draft
    add_checkpoints(draft, chosen, listing, last_step)
    _add_config(draft, chosen, source, config_path, config, last_step)
    _add_evaluations(draft, chosen, source)
    for finding in chosen.known:
        draft.find(finding.code, finding.message, finding.severity, finding.step, **dict(finding.evidence))
    return draft


def _choose(source: Path, run: str | None) -> Run:
    if run is not None:
        if run not in RUNS:
            raise UsageError(f"The olmo layout has no run {run!r}.", f"Runs are {', '.join(RUNS)}.")
        return RUNS[run]
    found = find_runs(source)
    if len(found) != 1:
        told = (
            f"holds the lists of {', '.join(r.name for r in found)}" if found else "holds no list of OLMo checkpoints"
        )
        raise UsageError(f"{source} {told}.", "Say which run with --run, e.g. --run allenai/olmo-2-1124-7b.")
    return found[0]


def _model(chosen: Run, config: dict[str, Any]) -> dict[str, Any]:
    model = config.get("model")
    vocabulary = model.get("vocab_size") if isinstance(model, dict) else None
    return {"architecture": chosen.architecture, **({"vocabulary": vocabulary} if isinstance(vocabulary, int) else {})}


def _add_config(
    draft: Draft, chosen: Run, source: Path, path: Path | None, config: dict[str, Any], last_step: int
) -> None:  # one line of the config each: what it says of data becomes chunks, the rest is kept as it is
    if path is None:
        if chosen.config:
            draft.notes.append(
                f"{chosen.config} is not in {source}: batch, data files and order of {chosen.name} are left unknown."
            )
        return
    name = path.relative_to(source).as_posix()
    draft.files.append(name)
    values = {key: value for key, value in config.items() if key not in ("data", "evaluators")}
    draft.add(
        "configs",
        {
            "file": name,
            "first_step": 1,
            "values": values,
            "code": {"repo": REPOSITORY, "commit": "59a53e3", "path": chosen.config},
            "note": "Data paths and evaluators are in the file only.",
        },
    )
    _check_parent(draft, chosen, config)
    add_data(draft, source, config, last_step)


def _check_parent(draft: Draft, chosen: Run, config: dict[str, Any]) -> None:
    """A stage-2 config names the directory it loads; its step must be the parent's."""
    loaded = re.search(r"/step(\d+)", str(config.get("load_path") or ""))
    if chosen.parent and loaded and int(loaded[1]) != chosen.parent[1]:
        draft.find(
            "parent-disagrees",
            f"The config loads step {loaded[1]}; the release is known to start from step {chosen.parent[1]:,}.",
            "error",
            None,
            load_path=config["load_path"],
            parent=chosen.parent[1],
        )


def _add_evaluations(draft: Draft, chosen: Run, source: Path) -> None:
    path = find_file(source, chosen.evaluations) if chosen.evaluations else None
    if path is None:
        if chosen.evaluations:
            draft.notes.append(f"{chosen.evaluations} is not in {source}: there are no evaluation series.")
        return
    name = path.relative_to(source).as_posix()
    draft.files.append(name)
    draft.add("metrics", {"file": name, "format": "csv", "x": "_step", "group": "eval"})
