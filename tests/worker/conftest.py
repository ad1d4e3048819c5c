"""A fake portal for the worker's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.worker.fake_portal import FakePortal


@pytest.fixture
def portal() -> Iterator[FakePortal]:
    """A fake portal."""
    made = FakePortal()
    yield made
    made.close()
