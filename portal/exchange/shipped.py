"""How the shipped manifests are made: ``python -m portal.exchange.shipped SOURCES`` writes them anew.

``SOURCES`` holds the public files the importers read, one folder each: ``amber``, ``k2``, ``crystalcoder``, ``pythia``,
``olmo``.
A shipped manifest names no local file: metrics, evaluations and tokenizers stay where their authors publish them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from portal.exchange.importers import import_layout
from portal.exchange.manifest_text import MADE_BY, manifest_yaml
from portal.exchange.releases import FOLDER
from portal.manifest import read_manifest

_SIZES = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")

SHIPPED: dict[str, tuple[str, str, str]] = {
    "amber": ("llm360", "amber", "llm360/amber"),
    "amberchat": ("llm360", "amber", "llm360/amberchat"),
    "ambersafe": ("llm360", "amber", "llm360/ambersafe"),
    "crystalcoder": ("llm360", "crystalcoder", "llm360/crystalcoder"),
    "k2-65b": ("llm360", "k2", "llm360/k2-65b"),
    **{f"pythia-{size}": ("pythia", "pythia", f"eleutherai/pythia-{size}") for size in _SIZES},
    **{
        f"pythia-{size}-deduped": ("pythia", "pythia", f"eleutherai/pythia-{size}-deduped")
        for size in ("70m", "160m", "410m", "6.9b")
    },
    "olmo-2-1124-7b": ("olmo", "olmo", "allenai/olmo-2-1124-7b"),
    **{
        f"olmo-2-1124-7b-stage2-ingredient{k}": ("olmo", "olmo", f"allenai/olmo-2-1124-7b-stage2-ingredient{k}")
        for k in (1, 2, 3)
    },
}
"""File name to (layout, folder below the sources, run)."""

LOCAL_FINDINGS = ("metrics-of-another-seed", "evaluations-of-another-model", "evaluations-equal", "evaluated-twice")
"""Findings about files that a shipped manifest does not name."""


def shipped_text(name: str, sources: Path) -> str:
    """The text of one shipped manifest, made from the public files in ``sources``."""
    layout, folder, run = SHIPPED[name]
    document = without_local_files(import_layout(layout, sources / folder, run).manifest)
    text = manifest_yaml(
        document, f"{MADE_BY} {layout} --run {run}`; made anew by `python -m portal.exchange.shipped`."
    )
    read_manifest(text.encode(), name)
    return text


def without_local_files(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` without the source's metrics, evaluations, tokenizer and config files; config values stay."""
    kept = {key: value for key, value in document.items() if key not in ("metrics", "evaluations", "tokenizer")}
    if "configs" in kept:
        kept["configs"] = [{key: value for key, value in config.items() if key != "file"} for config in kept["configs"]]
    if "findings" in kept:
        kept["findings"] = [finding for finding in kept["findings"] if finding["code"] not in LOCAL_FINDINGS]
    if "metrics" in document or "evaluations" in document:
        kept["description"] = (
            f"{kept.get('description', '')} Metrics and evaluations are not part of the shipped manifest; import "
            "the source to add them.".strip()
        )
    return kept


def main() -> None:
    """Write every shipped manifest from the sources named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m portal.exchange.shipped SOURCES")
    for name in SHIPPED:
        (FOLDER / f"{name}.yaml").write_text(shipped_text(name, Path(sys.argv[1])), "utf-8")


if __name__ == "__main__":
    main()
