"""What is signed of a history: its newest entry, which binds all before it."""

from __future__ import annotations

from portal.errors import DataFault
from portal.signing.envelopes import Document

PREDICATE = "https://llm360.ai/portal/history-head/v1"


def read_head(statement: Document) -> tuple[int, str]:
    """(seq, hash) of a checked statement; DataFault when it is about something else."""
    try:
        told = statement["predicate"]
        if statement["predicateType"] == PREDICATE and isinstance(told["seq"], int) and isinstance(told["hash"], str):
            return told["seq"], told["hash"]
    except (KeyError, TypeError):
        pass
    raise DataFault("What was signed is no head of a history.", "`portal audit head` writes one.")
