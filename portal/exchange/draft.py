"""A release manifest in the making: what an importer fills in, and the contradictions it met on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from portal.manifest import FORMAT


@dataclass
class Draft:
    """One manifest being written from a public layout.

    ``document`` takes the manifest's own keys. ``files`` are paths below the source that the
    manifest names, so that they can travel with it.
    """

    run: str
    document: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a person should know about this import, one sentence each."""
    in_place: bool = False
    """True when the manifest only makes sense inside its source (large local files)."""

    def __post_init__(self) -> None:
        self.document = {"format": FORMAT, "run": self.run, **self.document}

    def add(self, part: str, *entries: dict[str, Any]) -> None:
        """Append entries to a list of the manifest, e.g. ``checkpoints``."""
        self.document.setdefault(part, []).extend(entries)

    def find(
        self, code: str, message: str, severity: str = "warning", step: int | None = None, /, **evidence: Any
    ) -> None:
        """Record a contradiction of the source; it is published as a finding."""
        self.add(
            "findings",
            without_empty(
                {
                    "code": code,
                    "severity": severity,
                    "message": message,
                    "step": step,
                    "evidence": evidence,
                }
            ),
        )


def without_empty(entry: dict[str, Any]) -> dict[str, Any]:
    """``entry`` without keys that say nothing (None, empty text, list or mapping); zeros stay."""
    return {key: value for key, value in entry.items() if value is not None and value not in ("", [], {})}
