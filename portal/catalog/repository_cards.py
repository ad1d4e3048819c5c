"""README.md of a revision: what it is, where it comes from, and the metadata that loading libraries read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from portal.catalog.answers import DataAtStep
from portal.catalog.facts import CheckpointFact, ReleaseFacts
from portal.catalog.files import FileRow

LOADABLE = {
    "json": (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json"),
    "parquet": (".parquet",),
    "arrow": (".arrow",),
}
"""Endings of the data files that `datasets` reads by itself."""
NAMED_FILES = 20


def model_card(facts: ReleaseFacts, checkpoint: CheckpointFact | None, unknown: Sequence[FileRow]) -> str:
    """The card of one checkpoint, or of a run without any."""
    row = checkpoint.row if checkpoint else None
    meta = _meta(facts, "weights")
    if facts.chunks:
        meta["datasets"] = [facts.run]
    parts = [_head(meta, facts), facts.head.description]
    if row is None:
        parts.append("This run has released no checkpoint.")
    elif row.step is None:
        parts.append(
            f"This revision is {_names(row.labels)}, merged from several checkpoints; it has no step of its own."
        )
    else:
        tokens = "" if row.tokens is None else f" ({row.tokens:,} tokens)"
        parts.append(f"This revision is the state **after step {row.step:,}**{tokens}. {_names(row.labels)}".strip())
    if row is not None and row.note:
        parts.append(row.note)
    if checkpoint is not None and unknown:
        parts.append(_elsewhere("Not in this repository, because their size or sha256 was never published:", unknown))
    elif row is not None and not row.files:
        place = f" They lie at `{row.location}`." if row.location and row.location != "local" else ""
        parts.append(f"The release names no files of this checkpoint.{place}")
    if facts.chunks and row is not None and row.step:
        parts.append(
            f"Revision `before-step-N` is the last checkpoint before step N; dataset `{facts.run}` at revision "
            f"`step-N` is what step N read."
        )
    return _joined(parts)


def data_card(facts: ReleaseFacts, paths: Sequence[str], others: int, unknown: Sequence[FileRow]) -> str:
    """The card of all chunks; ``paths`` are those that load by themselves, ``others`` the number of other files."""
    parts = [
        _head(_meta(facts, "data") | _configs(paths), facts),
        f"All data of run `{facts.run}`: {len(facts.chunks):,} chunks, in the files they were released in. "
        f"Revision `step-N` holds exactly the rows that step N read.",
        f"`load_dataset` reads {len(paths):,} of these files; the others are in formats of their own."
        if others
        else "",
    ]
    if unknown:
        parts.append(_elsewhere("Not in this repository, because their size or sha256 was never published:", unknown))
    return _joined(parts)


def step_card(facts: ReleaseFacts, step: int, data: DataAtStep, path: str) -> str:
    """The card of one step's rows."""
    order = data.order
    certain = f"Order: {order.kind}, confidence **{order.confidence}**. {order.reason}".strip()
    return _joined(
        [
            _head(_meta(facts, "data") | _configs([path]), facts),
            f"The rows that **step {step:,}** of run `{facts.run}` read, in the order of the batch"
            + (f": {data.rows:,} rows." if data.rows is not None else "."),
            certain,
            f"Assumption: {order.assumption}" if order.assumption else "",
            "Columns: `position` in the batch, `chunk` and `row` where it was released, `source`, `token_ids`.",
            f"Model `{facts.run}` at revision `before-step-{step}` is the last checkpoint that had not read them yet.",
        ]
    )


def _meta(facts: ReleaseFacts, part: str) -> dict[str, Any]:
    licence = facts.head.license.get(part)
    return {"license": licence} if isinstance(licence, str) and licence else {}


def _configs(paths: Sequence[str]) -> dict[str, Any]:
    files = [{"split": "train", "path": list(paths)}]
    return {"configs": [{"config_name": "default", "data_files": files}]} if paths else {}


def _head(meta: dict[str, Any], facts: ReleaseFacts) -> str:
    written = yaml.safe_dump(meta, sort_keys=False, allow_unicode=True, width=10**6) if meta else ""
    title = " ".join((facts.head.title or facts.run).split())
    return f"---\n{written}---\n\n# {title}" if written else f"# {title}"


def _names(labels: Sequence[str]) -> str:
    return f"Its authors call it {', '.join(f'`{label}`' for label in labels)}." if labels else ""


def _elsewhere(why: str, rows: Sequence[FileRow]) -> str:
    lines = [f"- `{row.path}`" for row in rows[:NAMED_FILES]]
    rest = [f"- and {len(rows) - NAMED_FILES:,} more"] if len(rows) > NAMED_FILES else []
    return "\n".join([why, "", *lines, *rest])


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
