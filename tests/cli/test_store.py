"""`portal store`: what is unreferenced is listed, and goes only when that is said."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from portal.settings import Settings
from portal.storage.blobs import open_blobs
from tests.cli.conftest import Portal


def put(text: str, days: float) -> str:
    """A blob that came so many days ago."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    Path("file").write_text(text)
    settings = Settings()
    open_blobs(settings).put_file(Path("file"), sha256)
    at = time.time() - days * 86400
    os.utime(settings.data / "store" / "blobs" / "sha256" / sha256[:2] / sha256, (at, at))
    return sha256


def test_a_store_is_looked_at_and_cleared(portal: Portal, data: Path) -> None:
    assert portal("migrate").code == 0
    assert "The store held 0 files" in portal("store").out
    old, young = put("old", 8), put("young", 1)
    seen = portal("store", "--unreferenced")
    assert (seen.code, old in seen.out, young in seen.out) == (0, True, False)
    assert "Not looked at: 1 files that came within 7d." in seen.out
    assert "Nothing was changed" in seen.out
    told = portal("store", "--unreferenced", "--older-than", "12h", "--json").json
    assert {(b["sha256"], b["size"]) for b in told["unreferenced"]} == {(old, 3), (young, 5)}
    assert (told["unreferenced_bytes"], told["removed"]) == (8, False)
    gone = portal("store", "--unreferenced", "--remove")
    assert (gone.code, "Removed: 1 files, 3 B" in gone.out) == (0, True), gone.out
    assert portal("store", "--json").json["blobs"] == 1
    assert portal("store", "--unreferenced", "--remove").code == 0, "nothing left to remove is nothing to record"
    (entry,) = portal("audit", "list", "--json").json
    assert (entry["actor"], entry["action"], entry["object"]) == ("operator", "store.cleaned", "store:own")
    reason = "No release, job or upload referred to them, and they came more than 7 days before."
    assert entry["detail"] == {"files": 1, "bytes": 3, "reason": reason, "sha256": [old]}


def test_what_would_be_a_mistake_is_refused(portal: Portal, data: Path) -> None:
    assert portal("migrate").code == 0
    assert "--unreferenced --remove" in portal("store", "--remove").err
    hasty = portal("store", "--unreferenced", "--remove", "--older-than", "5m")
    assert (hasty.code, "being sent" in hasty.err) == (2, True)
    assert portal("store", "--older-than", "soon").code == 2
