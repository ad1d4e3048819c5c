"""The OLMo runs whose lists and configs are public, and what is known about each besides its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ISSUES = "https://github.com/allenai/OLMo/issues"


@dataclass(frozen=True)
class Known:
    """A contradiction that the files of one checkout do not show by themselves."""

    code: str
    message: str
    severity: str = "info"
    step: int | None = None
    evidence: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Branch:
    """A Hub branch that is known by name."""

    step: int
    name: str


@dataclass(frozen=True)
class Run:
    """One run of the OLMo releases."""

    name: str
    title: str
    listing: str
    """File name of its list of checkpoint directories."""
    architecture: str = "Olmo2ForCausalLM"
    description: str = ""
    config: str = ""
    """Path of its training config in the repository; empty where none is public."""
    evaluations: str = ""
    ingredient: int | None = None
    """Rows of the list that are this run's, where it lists several."""
    parent: tuple[str, int] | None = None
    last_step: int | None = None
    """Where the list ends before training did."""
    cadence: int | None = None
    repository: str = ""
    """On the Hub."""
    branches: tuple[Branch, ...] = ()
    soup: tuple[tuple[str, int], ...] = ()
    """Runs and steps whose weights were averaged into branch main."""
    segments: frozenset[str] = frozenset()
    """Weights & Biases ids of the run, as its directories name them (first and last suffice)."""
    links: tuple[tuple[str, str], ...] = ()
    known: tuple[Known, ...] = field(default=())


_OLMO2 = "allenai/olmo-2-1124-7b"
_STAGE1 = "configs/official-1124/OLMo2-7B-stage1.yaml"
_STAGE2_START = 928_646
_STAGE2_STEPS = 11_931
_LINKS = (
    ("paper", "https://arxiv.org/abs/2501.00656"),
    ("model", "https://huggingface.co/allenai/OLMo-2-1124-7B"),
    ("data", "https://huggingface.co/datasets/allenai/olmo-mix-1124"),
)


def _ingredient(number: int, seed: int) -> Run:
    name = f"{_OLMO2}-stage2-ingredient{number}"
    return Run(
        name,
        f"OLMo 2 7B, stage 2, ingredient {number}",
        "OLMo-2-1124-7B-stage2.csv",
        description=f"One of three anneals (seed {seed}) that start from step 928,646 of stage 1; the final OLMo "
        "2 7B is the average of the three. Steps are counted from the start of this stage.",
        config=f"configs/official-1124/OLMo2-7B-stage2-seed{seed}.yaml",
        ingredient=number,
        parent=(_OLMO2, _STAGE2_START),
        last_step=_STAGE2_STEPS,
        cadence=1000,
        links=(_LINKS[0], _LINKS[1], ("data", "https://huggingface.co/datasets/allenai/dolmino-mix-1124")),
    )


RUNS: dict[str, Run] = {
    run.name: run
    for run in (
        Run(
            _OLMO2,
            "OLMo 2 7B, stage 1",
            "OLMo-2-1124-7B.csv",
            description="Pretraining of OLMo 2 7B by Ai2 on OLMo-mix-1124 (3.9 T tokens). The three anneals of "
            "stage 2 are runs of their own; their average is branch main.",
            config=_STAGE1,
            evaluations="scripts/scaling/data/peteish-moreeval/peteish7_eval_full.csv",
            last_step=_STAGE2_START,
            cadence=1000,
            repository="allenai/OLMo-2-1124-7B",
            branches=(
                Branch(150, "stage1-step150-tokens1B"),
                Branch(1000, "stage1-step1000-tokens5B"),
                Branch(_STAGE2_START, "stage1-step928646-tokens3896B"),
            ),
            soup=tuple((f"{_OLMO2}-stage2-ingredient{k}", _STAGE2_STEPS) for k in (1, 2, 3)),
            links=_LINKS,
            known=(
                Known(
                    "schedule-longer-than-run",
                    "The learning rate is scheduled for 5 T tokens; training stopped at 3.9 T.",
                    "info",
                    None,
                    (("evidence_at", f"{ISSUES}/887"),),
                ),
                Known(
                    "weights-reported-equal",
                    "Users found three step branches on the Hub with byte-identical weights; which ones is said there.",
                    "error",
                    None,
                    (("evidence_at", f"{ISSUES}/915"),),
                ),
            ),
        ),
        _ingredient(1, 42),
        _ingredient(2, 42069),
        _ingredient(3, 666),
        Run(
            "allenai/olmo-7b",
            "OLMo 7B (February 2024)",
            "OLMo-7B.csv",
            "OLMoForCausalLM",
            config="configs/official-0724/OLMo-7B.yaml",
            cadence=1000,
            segments=frozenset({"wvc30anm", "p067ktg9"}),
            known=(
                Known(
                    "batch-disagrees",
                    "Hub labels such as step452000-tokens2000B imply batches of 2,160 rows; the config says 2,048.",
                    "warning",
                ),
                Known(
                    "order-lost",
                    "The published order file was taken down and came back truncated.",
                    "warning",
                    None,
                    (("evidence_at", f"{ISSUES}/837"),),
                ),
            ),
        ),
        Run(
            "allenai/olmo-1b",
            "OLMo 1B (February 2024)",
            "OLMo-1B.csv",
            "OLMoForCausalLM",
            config="configs/official-0724/OLMo-1B.yaml",
            segments=frozenset({"w1r5xfzt", "g4g72enr"}),
        ),
        Run(
            "allenai/olmo-7b-0424",
            "OLMo 7B (April 2024)",
            "OLMo-7B-0424.csv",
            "OLMoForCausalLM",
            segments=frozenset({"geox6yo7", "0rdfxd6d"}),
        ),
        Run("allenai/olmo-7b-0724", "OLMo 7B (July 2024)", "OLMo-7B-0724.csv", "OLMoForCausalLM"),
        Run("allenai/olmo-2-0325-32b", "OLMo 2 32B", "OLMo-2-0325-32B.csv", cadence=1000),
    )
}


def find_runs(source: Path) -> list[Run]:
    """Pretraining runs whose list lies in ``source``."""
    return [run for run in RUNS.values() if run.parent is None and find_file(source, run.listing)]


def find_file(source: Path, name: str) -> Path | None:
    """A file by its path in the repository, or by its name anywhere below ``source`` when it lies elsewhere."""
    if (source / name).is_file():
        return source / name
    return min(source.rglob(name.rsplit("/", 1)[-1]), default=None)
