"""CrystalCoder 7B: three phases with steps of their own, HDF5 data, an order that cannot be rebuilt.

Sources: LLM360/crystalcoder-train at 03efa54 (``pretrain/params/phase*/params.yaml``), LLM360/crystalcoder-data-prep
at 08167bc, the LLM360 paper (arXiv 2312.06550, section 4.2), the card of LLM360/CrystalCoder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portal.exchange.draft import Draft, without_empty
from portal.exchange.labels import parse_name
from portal.exchange.llm360.amber import PAPER
from portal.exchange.sources import read_parameters

TRAINER = "https://github.com/LLM360/crystalcoder-train"
ROWS_PER_STEP = 2112
SEQUENCE = 2048
BRANCHES_FILE = "branches.txt"
"""Optional: one branch name of the Hub repository per line."""


LINKS = {
    "paper": PAPER,
    "code": TRAINER,
    "model": "https://huggingface.co/LLM360/CrystalCoder",
    "renamed_to": "https://huggingface.co/LLM360/Crystal",
    "data": "https://huggingface.co/datasets/LLM360/CrystalCoderDatasets",
    "data_preparation": "https://github.com/LLM360/crystalcoder-data-prep",
    "metrics": "https://wandb.ai/llm360/projects",
}


@dataclass(frozen=True)
class Phase:
    """One phase; steps are counted from 1 in each."""

    number: int
    steps: int
    """``max_steps`` of its parameters."""
    billions: int
    """Tokens as the paper states them."""
    folder: str

    @property
    def name(self) -> str:
        """As branch names spell it."""
        return f"phase{self.number}"


PHASES = (
    Phase(1, 79_721, 345, "phase1"),
    Phase(2, 214_387, 927, "phase2"),
    Phase(3, 27_728, 110, "phase3/stage3_fim_0.3"),
)
LAST_STEP = sum(phase.steps for phase in PHASES)


def parameters_file(phase: int) -> str:
    """Where the training repository keeps the parameters of a phase."""
    return f"pretrain/params/phase{phase}/params.yaml"


def first_step(phase: int) -> int:
    """The global number of a phase's first step."""
    return sum(p.steps for p in PHASES[: phase - 1]) + 1


def import_crystalcoder(source: Path) -> Draft:
    """The manifest of llm360/crystalcoder; phase parameters and a branch list are read where ``source`` has them."""
    draft = Draft(
        "llm360/crystalcoder",
        {
            "kind": "pretrain",
            "title": "CrystalCoder 7B",
            "description": "English and code model trained by LLM360 in three phases on SlimPajama and StarCoder "
            "(about 1.4 T tokens) on Cerebras CG-1. Metrics are on Weights & Biases only.",
            "license": {"code": "apache-2.0", "weights": "apache-2.0", "data": "odc-by"},
            "links": dict(LINKS),
            "model": {"architecture": "CrystalCoderLMHeadModel", "vocabulary": 32_032},
            "training": {
                "sequence_length": SEQUENCE,
                "row_length": SEQUENCE,
                "rows_per_step": ROWS_PER_STEP,
                "tokens_per_step": ROWS_PER_STEP * SEQUENCE,
                "last_step": LAST_STEP,
            },
            "stages": [
                {
                    "name": phase.name,
                    "first_step": first_step(phase.number),
                    "last_step": first_step(phase.number) + phase.steps - 1,
                    "note": f"max_steps {phase.steps:,} of {parameters_file(phase.number)}.",
                }
                for phase in PHASES
            ],
        },
    )
    for phase in PHASES:
        _add_phase(draft, source, phase)
    _add_checkpoints(draft, source)
    _add_contradictions(draft)
    return draft


def _add_phase(draft: Draft, source: Path, phase: Phase) -> None:
    path = source / parameters_file(phase.number)
    parameters = read_parameters(path) if path.is_file() else {}
    data = draft.document.setdefault("data", {"chunks": [], "order": []})
    first = first_step(phase.number)
    data["chunks"].append(
        {
            "name": phase.name,
            "files": [],
            "format": "hdf5",
            "row_length": SEQUENCE,
            "sources": _mixture(parameters),
            "note": f"Files data-*.h5 below hf://datasets/LLM360/CrystalCoderDatasets/{phase.folder}, each (n, 3, "
            "2048): ids, loss mask, labels. How many files and rows was not published.",
        }
    )
    data["order"].append(
        {
            "first_step": first,
            "last_step": first + phase.steps - 1,
            "chunks": [phase.name],
            "kind": "unknown",
            "confidence": "chunk",
            "assumption": "a weighted mixture read by the Cerebras GptHDF5MapDataProcessor (modelzoo rel-1.9, "
            "shuffle off, seed 1); its code is not part of the release and scripts/shuffle.sh is "
            "empty, so which row stood where cannot be rebuilt",
        }
    )
    if first > 1:
        note = f"{phase.name} begins; the learning rate warms up again."
        evidence = f"{TRAINER}/blob/main/{parameters_file(phase.number)}"
        draft.add("events", {"step": first, "kind": "stage_change", "note": note, "evidence": evidence})
    if parameters:
        _add_parameters(draft, phase, parameters)
    else:
        draft.notes.append(
            f"{path.relative_to(source)} is not in {source}: only the published length of {phase.name} is known."
        )


def _add_parameters(draft: Draft, phase: Phase, parameters: dict[str, Any]) -> None:
    draft.files.append(parameters_file(phase.number))
    draft.add(
        "configs",
        {
            "file": parameters_file(phase.number),
            "first_step": first_step(phase.number),
            "values": parameters,
            "code": {"repo": TRAINER, "commit": "03efa54", "path": parameters_file(phase.number)},
        },
    )
    stated = {
        "max_steps": _at(parameters, "runconfig", "max_steps"),
        "batch_size": _at(parameters, "train_input", "batch_size"),
    }
    expected = {"max_steps": phase.steps, "batch_size": ROWS_PER_STEP}
    if stated != expected:
        draft.find(
            "parameters-disagree",
            f"The parameters of {phase.name} say {stated}; the release is known with {expected}, which is what "
            "this manifest uses.",
            "error",
            first_step(phase.number),
            stated=stated,
            expected=expected,
        )
    rates = _at(parameters, "optimizer", "learning_rate") or []
    longest = max((r.get("decay_steps", 0) for r in rates if isinstance(r, dict)), default=0)
    if longest > phase.steps:
        draft.find(
            "schedule-longer-than-stage",
            f"The learning-rate decay of {phase.name} is written for {longest:,} steps; the phase ends after "
            f"{phase.steps:,}.",
            "info",
            first_step(phase.number),
            decay_steps=longest,
            steps=phase.steps,
        )


def _add_checkpoints(draft: Draft, source: Path) -> None:
    """Branches that are known by name, and the final state; the rest is not guessed."""
    names = {"CrystalCoder_phase1_checkpoint_055500": "Named on the model card."}
    listed = source / BRANCHES_FILE
    if listed.is_file():
        names |= {name: names.get(name, "") for name in listed.read_text("utf-8").split()}
    else:
        draft.find(
            "checkpoints-not-listed",
            "The paper counts 143 checkpoints, the Hub repository 250 branches with older aliases "
            "(mdl_phase*_step_*); neither list was available, so only checkpoints known by name are here.",
            paper=143,
            branches=250,
        )
    for name, note in sorted(names.items()):
        _add_branch(draft, name, note)
    draft.add(
        "checkpoints",
        {
            "step": LAST_STEP,
            "stage": "phase3",
            "labels": ["main"],
            "location": "hf://LLM360/CrystalCoder@main",
            "contains": ["weights", "config", "tokenizer"],
            "note": "Taken to be the end of phase 3; the card does not name its step.",
        },
    )


def _add_branch(draft: Draft, name: str, note: str) -> None:
    parsed = parse_name(name)
    phase = next((p for p in PHASES if parsed and parsed.stage == p.name), None)
    if parsed is None or phase is None or parsed.number > phase.steps:
        if name != "main":
            draft.notes.append(f"Branch {name} names no step of a phase and is left out.")
        return
    draft.add(
        "checkpoints",
        without_empty(
            {
                "step": first_step(phase.number) - 1 + parsed.number,
                "stage": phase.name,
                "local_step": parsed.number,
                "labels": [name],
                "location": f"hf://LLM360/CrystalCoder@{name}",
                "contains": ["weights", "config"],
                "note": note,
            }
        ),
    )


def _add_contradictions(draft: Draft) -> None:
    for phase in PHASES:
        exact = phase.steps * ROWS_PER_STEP * SEQUENCE / 1e9
        if abs(exact - phase.billions) > 0.01 * phase.billions:
            draft.find(
                "tokens-disagree",
                f"The paper gives {phase.name} {phase.billions} B tokens; steps x batch x sequence are {exact:.1f} B.",
                "warning",
                first_step(phase.number),
                paper_billions=phase.billions,
                computed=phase.steps * ROWS_PER_STEP * SEQUENCE,
            )


def _mixture(parameters: dict[str, Any]) -> dict[str, float]:
    """Weights of the training mixture by folder name."""
    parts = _at(parameters, "train_input", "mixture") or []
    return {
        re.sub(r"_train_packed_part\dof\d$", "", str(part["data_dir"]).rstrip("/").rsplit("/", 1)[-1]): round(
            float(part["weight"]), 6
        )
        for part in parts
        if isinstance(part, dict) and "data_dir" in part and "weight" in part
    }


def _at(document: dict[str, Any], *keys: str) -> Any:
    """The value at nested ``keys``; None where one is absent."""
    value: Any = document
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
