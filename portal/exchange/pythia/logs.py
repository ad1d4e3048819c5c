"""Training logs of Pythia: the Weights & Biases exports that somebody committed, and whose run they log."""

from __future__ import annotations

import re
from pathlib import Path

from portal.errors import DataFault
from portal.exchange.draft import Draft
from portal.exchange.pythia.models import Model
from portal.exchange.sources import read_table

PLACES = ("wandb-export", "results/loss/Pythia", "hmm-training-maps/results/loss/Pythia")
"""Folders in which exports of the branch hmm-training-maps are found."""
_NAME = re.compile(r"train_loss_(?P<size>[0-9.]+[mb])_seed(?P<seed>\d)[^/]*\.csv", re.IGNORECASE)
_COLUMN = re.compile(r"Group: (?P<group>\S+) - train/lm_loss")


def add_logs(draft: Draft, model: Model, source: Path) -> None:
    """Attach the loss exports of this size.

    The exports are named by seed, and the branch they come from calls the default model seed 0. A log of
    another seed is attached under a name that says so, and as a finding: it is another training run.
    """
    if model.v0 or model.deduped:
        return
    for path in sorted(path for place in PLACES for path in (source / place).glob("*.csv")):
        found = _NAME.fullmatch(path.name)
        if found is None or found["size"].lower() != model.size:
            continue
        seed = int(found["seed"])
        if model.seed not in (None, seed):
            continue
        _add_export(draft, model, source, path, seed)


def _add_export(draft: Draft, model: Model, source: Path, path: Path, seed: int) -> None:
    rows = read_table(path, ("Step",))
    columns = [name for name in (rows[0].cells if rows else {}) if _COLUMN.fullmatch(name)]
    if not columns:
        raise DataFault(
            f"{path} has no values in a column 'Group: … - train/lm_loss'.",
            "This is not the loss export of the branch hmm-training-maps.",
        )
    name = path.relative_to(source).as_posix()
    own = seed == (model.seed or 0)
    series = "train/lm_loss" if own else f"seed{seed}/train/lm_loss"
    definition = {
        "column": columns[0],
        "group": "train" if own else f"train-seed{seed}",
        "unit": "nats",
        "reduction": "as grouped by Weights & Biases; columns __MIN and __MAX of the file give the range",
        "description": f"Language-model loss per step, exported from the Weights & Biases interface ({columns[0]}).",
    }
    draft.files.append(name)
    # GPT-NeoX logs a batch under the number of the step it produced (the whole file ends at 143,000): no offset.
    draft.add(
        "metrics", {"file": name, "format": "wandb-csv", "x": "Step", "step_offset": 0, "series": {series: definition}}
    )
    if not own:
        other = f"eleutherai/pythia-{model.size}-seed{seed}" if seed else f"eleutherai/pythia-{model.size}"
        draft.find(
            "metrics-of-another-seed",
            f"{name} is the log of seed {seed}, which is {other} and not this run. It is shown as a series of its "
            "own name, not as this run's loss.",
            "warning",
            None,
            file=name,
            seed=seed,
            column=columns[0],
        )
