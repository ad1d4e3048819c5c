"""Property tests here touch real files, whose time depends on what else the machine does."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("files", deadline=None)
settings.load_profile("files")
