"""Which way an evaluation metric is better, for those where that is settled; for all others nobody is called best."""

from __future__ import annotations

import re

_HIGHER = re.compile(
    r"^(acc|acc_norm|acc_bytes|acc_per_char|accuracy|balanced_accuracy|exact_match|quasi_exact_match|em|f1|macro_f1|mcc"
    r"|mc1|mc2|bleu|rouge[12l]?|rouge[-_]?(1|2|l|lsum)|chrf|pass@\d+|pass_at_\d+|precision|recall)$"
)
_LOWER = re.compile(r"^((word_|byte_|token_)?(perplexity|ppl)|bits_per_byte|bpb|loss|nll|ter|wer|cer|brier_score)$")


def better_direction(metric: str) -> str | None:
    """``higher``, ``lower`` or None. lm-eval's filter suffix (``acc,none``) does not matter.

    By the ``higher_is_better`` table of EleutherAI's lm-evaluation-harness, without its task-specific metrics.
    """
    name = metric.partition(",")[0].strip().lower()
    if _HIGHER.match(name):
        return "higher"
    return "lower" if _LOWER.match(name) else None
