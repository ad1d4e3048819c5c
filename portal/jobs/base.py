"""The checkpoint a job goes on from: which of its files a trainer needs, and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col

from portal.catalog.facts import CheckpointFact, ReleaseFacts
from portal.catalog.files import FileRow, load_files, place_in_reach
from portal.errors import CheckpointNotFound
from portal.models import File

STATE_FILES = {"optimizer.safetensors": "optimizer", "rng.safetensors": "rng", "trainer_state.json": "trainer_state"}
"""What the trainer restores besides weights, under the only names it reads."""
_COMPANIONS = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model"}
_COMPANIONS |= {"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja"}
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Base:
    """A checkpoint as a job takes it."""

    checkpoint: CheckpointFact
    files: list[dict[str, Any]]
    """``{path, size, sha256, role}``; paths inside the checkpoint's folder."""
    rows: list[FileRow]
    missing: list[str]
    """State it lacks: optimizer, rng, trainer_state."""
    problems: list[str] = field(default_factory=list)
    """Why it cannot be trained from; empty where it can."""
    left_out: list[str] = field(default_factory=list)
    """Files that nothing here reads, e.g. pickled ones."""

    @property
    def bytes(self) -> int:
        """Of all files the job takes."""
        return sum(int(f["size"] or 0) for f in self.files)


def find_base(session: Session, facts: ReleaseFacts, step: int) -> Base:
    """The checkpoint of ``step``; CheckpointNotFound with the nearest when there is none, or it was lost."""
    checkpoint = facts.checkpoint_at(step)
    if checkpoint is None or checkpoint.row.missing:
        raise CheckpointNotFound(
            f"{facts.run} has no checkpoint at step {step}"
            + (" any more: its authors declare it lost." if checkpoint else "."),
            "Go on from one that is there.",
            nearest=facts.nearest_steps(step),
        )
    rows = load_files(session, facts.head.id, col(File.checkpoint_id) == checkpoint.id)
    taken = {name: row for row in rows if _is_wanted(name := _last(row))}
    config = facts.loose_files.get(str(facts.head.model.get("config") or ""))
    if "config.json" not in taken and config is not None:
        taken["config.json"] = config
    missing = [what for name, what in STATE_FILES.items() if name not in taken]
    files = [{"path": name, "size": r.size, "sha256": r.sha256, "role": r.role} for name, r in sorted(taken.items())]
    left_out = sorted(row.path for row in rows if _last(row) not in taken)
    problems = [*_problems(checkpoint.row.step or step, taken, rows), *_unpinned(list(taken.values()))]
    return Base(checkpoint, files, list(taken.values()), missing, problems, left_out)


def _is_wanted(name: str) -> bool:
    return name in STATE_FILES or name in _COMPANIONS or name == _INDEX or is_weights(name)


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights as safetensors."""
    return name == "model.safetensors" or (name.startswith("model-") and name.endswith(".safetensors"))


def _problems(step: int, taken: dict[str, FileRow], rows: Sequence[FileRow]) -> list[str]:
    found = []
    if not any(map(is_weights, taken)):
        pickled = [_last(r) for r in rows if _last(r).endswith((".bin", ".pt", ".pth", ".ckpt"))]
        told = f" {pickled[0]} is a pickle, which is never loaded." if pickled else ""
        found.append(f"The checkpoint of step {step} has no weights as safetensors.{told}")
    if "config.json" not in taken:
        found.append(f"The checkpoint of step {step} has no config.json, so the model cannot be built.")
    names = [_last(row) for row in rows if _is_wanted(_last(row))]
    if len(names) != len(set(names)):
        found.append(f"The checkpoint of step {step} has several files of one name.")
    return found


def _unpinned(rows: Sequence[FileRow]) -> list[str]:
    found = [
        f"{row.path} has no sha256 in the catalog, so the job cannot be pinned to it." for row in rows if not row.sha256
    ]
    found += [f"{row.path} is nowhere this portal can reach." for row in rows if place_in_reach(row) is None]
    return found


def _last(row: FileRow) -> str:
    return row.path.rsplit("/", 1)[-1]
