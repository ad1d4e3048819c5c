"""A local folder of checkpoints, data and metric files becomes a manifest that stays in it.

Recognised: folders ``step-N``, ``stepN``, ``step_N``, ``global_stepN``, ``checkpoint-N``, ``iter_N``, ``ckpt_N`` at
the top or in ``checkpoints/``; data files below ``data/``; metric tables below ``metrics/`` or ``logs/``;
``evals/*.json``; ``config.json``, ``tokenizer.json``, ``configs/``. What such a folder cannot say (batch size, data
order) is left unknown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from portal.errors import DataFault
from portal.exchange.draft import Draft
from portal.exchange.folder.data import add_data
from portal.exchange.labels import CheckpointName, parse_name
from portal.exchange.patterns import escape, step_patterns
from portal.exchange.sources import read_json, read_parameters

PLACES = (".", "checkpoints", "ckpts")
METRIC_FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}


def import_layout(source: Path, run: str | None) -> Draft:
    """The manifest draft of a folder; DataFault when it holds no checkpoint."""
    found = find_checkpoints(source)
    if not found:
        raise DataFault(
            f"{source} holds no checkpoint folder.",
            "Name them step-1000, checkpoint-1000 or the like, at the top or in checkpoints/.",
        )
    config = _read_config(source)
    vocabulary = config.get("vocab_size")
    draft = Draft(
        run or f"local/{slug(source.resolve().name)}",
        {
            "title": source.resolve().name,
            "model": {
                **({"architecture": str(config["architectures"][0])} if config.get("architectures") else {}),
                **({"config": "config.json"} if config else {}),
                **({"vocabulary": vocabulary} if isinstance(vocabulary, int) and vocabulary > 0 else {}),
            },
            **({"tokenizer": "tokenizer.json"} if (source / "tokenizer.json").is_file() else {}),
            "training": {"last_step": max(name.number for name in found.values())},
        },
    )
    draft.in_place = True
    _add_checkpoints(draft, found)
    add_data(draft, source, vocabulary if isinstance(vocabulary, int) else None)
    _add_metrics(draft, source)
    _add_configs(draft, source)
    return draft


def find_checkpoints(source: Path) -> dict[str, CheckpointName]:
    """What each checkpoint folder's name says, by path below ``source``."""
    found = {}
    for place in PLACES:
        folder = source / place
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            name = parse_name(path.name) if path.is_dir() and not path.is_symlink() else None
            if name is not None:
                found[path.relative_to(source).as_posix()] = name
    return found


def slug(name: str) -> str:
    """A folder name as the second half of a run name."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:96] or "run"


def _add_checkpoints(draft: Draft, found: dict[str, CheckpointName]) -> None:
    plain: dict[tuple[str, str], list[int]] = {}
    for path, name in sorted(found.items(), key=lambda item: item[1].number):
        if (
            path.count(str(name.number)) == 1
            and f"{name.number}" == (re.findall(r"\d+", name.name) or [""])[-1]
            and "{" not in path
        ):
            plain.setdefault(
                (path.replace(str(name.number), "{step}"), name.name.replace(str(name.number), "{step}")), []
            ).append(name.number)
        else:
            draft.add("checkpoints", {"step": name.number, "labels": [name.name], "location": escape(path)})
    for (path, label), steps in plain.items():
        for pattern in step_patterns(steps):
            draft.add("checkpoints", {"steps": pattern, "labels": [label], "location": path})
    counted = [name.name for name in found.values() if name.counts_saves]
    if counted:
        draft.find(
            "label-taken-as-step",
            f"{len(counted)} folders are named like {counted[0]}; their number is taken as the step, though such "
            "names often count saves.",
            "warning",
            None,
            labels=counted[:50],
        )
    staged = sorted({name.stage for name in found.values() if name.stage})
    if staged:
        draft.find(
            "label-taken-as-step",
            f"Folders name stages ({', '.join(staged)}); their numbers are taken as steps of the whole run.",
            "warning",
            None,
            stages=staged,
        )


def _read_config(source: Path) -> dict[str, Any]:
    path = source / "config.json"
    if not path.is_file():
        return {}
    document = read_json(path)
    return document if isinstance(document, dict) else {}


def _add_metrics(draft: Draft, source: Path) -> None:
    for path in sorted(p for place in ("metrics", "logs") for p in (source / place).rglob("*") if p.is_file()):
        kind = "tensorboard" if ".tfevents." in path.name else METRIC_FORMATS.get(path.suffix)
        if kind:
            draft.add("metrics", {"file": path.relative_to(source).as_posix(), "format": kind})
    for place in ("evals", "evaluations"):
        if any((source / place).glob("*.json")):
            draft.add("evaluations", {"file": f"{place}/*.json", "format": "lm-eval"})


def _add_configs(draft: Draft, source: Path) -> None:
    for path in sorted((source / "configs").glob("*")):
        if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
            draft.add("configs", {"file": path.relative_to(source).as_posix(), "values": read_parameters(path)})
