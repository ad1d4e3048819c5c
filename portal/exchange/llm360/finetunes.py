"""AmberChat and AmberSafe: two fine-tunes of Amber of which the final weights are public and the steps are not.

Sources: the LLM360 paper (arXiv 2312.06550, section 4.1.3 and its footnote 6), the LLM360 announcement of
December 2023.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portal.exchange.draft import Draft
from portal.exchange.llm360.amber import PAPER, step_of_checkpoint

BASE_CHECKPOINT = 355
ANNOUNCEMENT = "https://www.llm360.ai/blog/introducing-llm360-fully-transparent-open-source-llms.html"


def import_amberchat(source: Path) -> Draft:  # noqa: ARG001 - one signature for all runs; nothing local is needed
    """The manifest of llm360/amberchat."""
    draft = _finetune(
        "llm360/amberchat",
        "AmberChat",
        "Amber fine-tuned to follow instructions, on the evolved instructions used by WizardLM, 3 epochs with "
        "FastChat.",
        {"run": "llm360/amber", "step": step_of_checkpoint(BASE_CHECKPOINT)},
    )
    draft.add(
        "configs",
        {
            "values": {
                "trainer": "FastChat",
                "epochs": 3,
                "gpus": 8,
                "learning_rate": 2e-5,
                "gradient_accumulation_steps": 16,
                "warmup_ratio": 0.04,
            },
            "note": f"{PAPER} section 4.1.3.",
        },
    )
    draft.find(
        "parent-unconfirmed",
        "That the fine-tunes start from checkpoint 355 stands in footnote 6 of the paper, beside the sentence on "
        "AmberSafe; AmberChat's own starting checkpoint is not named. Checkpoint 355 is read as ckpt_355, saved "
        "after step 271,272.",
        evidence_at=f"{PAPER} footnote 6",
        ckpt_355=step_of_checkpoint(355),
        if_counted_from_one=step_of_checkpoint(354),
    )
    return draft


def import_ambersafe(source: Path) -> Draft:  # noqa: ARG001 - one signature for all runs; nothing local is needed
    """The manifest of llm360/ambersafe."""
    draft = _finetune(
        "llm360/ambersafe",
        "AmberSafe",
        "AmberChat aligned for safety by direct preference optimisation (DPO).",
        {"run": "llm360/amberchat", "step": None},
    )
    draft.add(
        "configs",
        {
            "values": {"method": "DPO", "beta": 0.1, "gradient_accumulation_steps": 4, "learning_rate": 5e-7},
            "note": f"{PAPER} section 4.1.3.",
        },
    )
    draft.find(
        "parent-contradicts",
        "The announcement says that AmberSafe starts from AmberChat; the paper says it was trained on ShareGPT "
        "90K from checkpoint 355 of Amber and then on SafeRLHF.",
        evidence_at=[ANNOUNCEMENT, f"{PAPER} section 4.1.3, footnote 6"],
        other_parent={"run": "llm360/amber", "step": step_of_checkpoint(BASE_CHECKPOINT)},
    )
    draft.find(
        "parent-step-unknown",
        "It starts from AmberChat's final state, whose step was never published.",
        "info",
    )
    return draft


def _finetune(run: str, title: str, description: str, parent: dict[str, Any]) -> Draft:
    repository = f"LLM360/{title}"
    draft = Draft(
        run,
        {
            "kind": "finetune",
            "title": f"{title} 7B",
            "description": f"{description} Only the final weights are released: its steps, batch size and data "
            "order are not published.",
            "parent": parent,
            "license": {"weights": "apache-2.0"},
            "links": {"paper": PAPER, "announcement": ANNOUNCEMENT, "model": f"https://huggingface.co/{repository}"},
            "model": {"architecture": "LlamaForCausalLM", "parameters": 6_738_415_616},
            "training": {"last_step": 0},
            "checkpoints": [
                {
                    "labels": ["main"],
                    "location": f"hf://{repository}@main",
                    "contains": ["weights", "config", "tokenizer"],
                    "note": "The final state; after how many steps was never published.",
                }
            ],
        },
    )
    draft.find(
        "steps-unknown",
        "How many steps this fine-tune took was never published, so its checkpoint has no step.",
        "info",
    )
    return draft
