"""Names that public releases give to checkpoints, read as hints: a name is an alias, never a token count.

Dialects: ``step1000``, ``step-1000``, ``step1000-tokens4B`` (OLMo, Apertus), ``stage1-step1000-tokens5B``,
``stage2-ingredient1-step1000-tokens5B`` (OLMo 2), ``global_step1000`` (BLOOM), ``checkpoint-1000`` (transformers),
``iter_0001000`` (Megatron), ``base_0001000`` (K2-V2), ``step-480k-token-1007B`` (TinyLlama), ``ckpt_007`` (Amber,
K2: counts saves, not steps), ``CrystalCoder_phase1_checkpoint_055500``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TOKEN_UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}

_STEP = re.compile(
    r"(?:(?P<stage>stage\d+(?:-ingredient\d+)?|extension|longctx)[-_])?"
    r"(?:global[-_]?)?step[-_]?(?P<step>\d{1,15})(?P<thousands>k)?"
    r"(?:-tokens?-?(?P<tokens>\d{1,9})(?P<unit>[MBT]))?(?:-[a-z][a-z0-9-]*)?",
    re.IGNORECASE,
)
_PHASE = re.compile(r"[A-Za-z0-9]+_(?P<stage>phase\d+)_(?:checkpoint|step)_(?P<step>\d{1,15})")
_NUMBERED = re.compile(r"(?:checkpoint|iter|base)[-_](?P<step>\d{1,15})")
_COUNTED = re.compile(r"ckpt[-_](?P<step>\d{1,15})")


@dataclass(frozen=True)
class CheckpointName:
    """What the name of one checkpoint says."""

    name: str
    number: int
    stage: str | None = None
    tokens: int | None = None
    """Tokens as the name rounds them."""
    counts_saves: bool = False
    """True when the number counts checkpoints (``ckpt_007``) rather than steps."""


def parse_name(name: str) -> CheckpointName | None:
    """The checkpoint that ``name`` speaks of, or None when it names none."""
    if found := _STEP.fullmatch(name):
        number = int(found["step"]) * (1000 if found["thousands"] else 1)
        tokens = int(found["tokens"]) * TOKEN_UNITS[found["unit"].upper()] if found["tokens"] else None
        return CheckpointName(name, number, found["stage"], tokens)
    if found := _PHASE.fullmatch(name):
        return CheckpointName(name, int(found["step"]), found["stage"])
    if found := _NUMBERED.fullmatch(name):
        return CheckpointName(name, int(found["step"]))
    if found := _COUNTED.fullmatch(name):
        return CheckpointName(name, int(found["step"]), counts_saves=True)
    return None
