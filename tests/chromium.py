"""The browser that tests, pictures and benchmarks drive."""

from __future__ import annotations

import os
import shutil

HOW = "apt-get install -y --no-install-recommends chromium-headless-shell (or set CHROMIUM to its path)"
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
"""The same engine; the first one has no window to draw and needs half the time."""

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


def find_chromium() -> str | None:
    """Its path; None where there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
