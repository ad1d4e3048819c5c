"""A manifest as YAML a person can read: keys in the order of the reference, small parts on one line."""

from __future__ import annotations

from typing import Any

import yaml

from portal.manifest import Manifest

MADE_BY = "# Made by `portal import"
"""How a manifest that an importer wrote begins; such a file may be written anew."""


def manifest_yaml(document: dict[str, Any], heading: str) -> str:
    """``document`` as YAML below the comment line ``heading``."""
    ordered = {key: document[key] for key in Manifest.model_fields if key in document}
    body = yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, width=118, default_flow_style=None, allow_unicode=True)
    return f"{heading}\n{body}"


class _Dumper(yaml.SafeDumper):
    """Never writes anchors: a repeated value is clearer written out."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature of the class it extends
        return True
