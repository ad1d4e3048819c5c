"""What is known to be wrong with single Pythia models, from the repository's README and issues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portal.exchange.draft import Draft
from portal.exchange.pythia.models import Model

ISSUES = "https://github.com/EleutherAI/pythia/issues"


@dataclass(frozen=True)
class Known:
    """One report and the models it is about."""

    code: str
    severity: str
    message: str
    issue: int | None
    concerns: Callable[[Model], bool]
    step: int | None = None


KNOWN = (
    Known(
        "weights-reported-wrong",
        "error",
        "Users comparing tensors found 86 of its 154 step branches serving weights of the end of training.",
        205,
        lambda m: m.run == "eleutherai/pythia-2.8b",
    ),
    Known(
        "weights-reported-wrong",
        "error",
        "Users found two step branches that carry the first shard of the final weights.",
        206,
        lambda m: m.run == "eleutherai/pythia-12b",
    ),
    Known(
        "weights-reported-equal",
        "info",
        "Branches step0 and step1 are reported to hold equal weights in all models.",
        83,
        lambda m: not m.v0,
        step=1,
    ),
    Known(
        "init-method-missing",
        "info",
        "The config names no init_method: these two sizes were initialised otherwise than the others.",
        135,
        lambda m: m.size in ("6.9b", "12b") and not m.v0,
    ),
    Known(
        "parameters-disagree",
        "warning",
        "The README's table gives a learning rate of 3.0e-4, models/1B/pythia-1b.yml 2.5e-4.",
        None,
        lambda m: m.size == "1b" and not m.v0,
    ),
    Known(
        "labels-name-other-steps",
        "warning",
        "Branches are named for batches of 2 M tokens, but this v0 model was trained with 4 M: branch step1000 "
        "is real step 500. Steps here are the real ones, the branch names are labels.",
        39,
        lambda m: m.label_factor > 1,
    ),
)


def add_known(draft: Draft, model: Model) -> None:
    """Everything that is known about ``model``, unless the import found it out itself."""
    met = {finding["code"] for finding in draft.document.get("findings", [])}
    for known in KNOWN:
        if known.concerns(model) and known.code not in met:
            evidence = {"evidence_at": f"{ISSUES}/{known.issue}"} if known.issue else {}
            draft.find(known.code, known.message, known.severity, known.step, **evidence)
