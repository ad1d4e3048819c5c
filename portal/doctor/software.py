"""Python, libraries as they were locked, and what a trainer on this machine would need."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from portal import __version__
from portal.database import migrations_folder
from portal.doctor.verdicts import Verdict, fail, ok, warn
from portal.settings import Settings

LEAST_PYTHON = (3, 11)
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(\s*;)?", re.MULTILINE)
_NAME = re.compile(r"^[A-Za-z0-9._-]+")
SHOWN = 5


def check_libraries(_settings: Settings) -> Iterator[Verdict]:
    """Python itself, and every library against the lock of a checkout, or the requirements of an installed package."""
    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < LEAST_PYTHON:
        yield fail("python", f"Python {python} is too old.", "Install Python 3.11 or newer.")
    else:
        yield ok("python", f"Python {python}, portal {__version__}.")
    lock = migrations_folder().parent / "requirements" / "prod.txt"
    yield _against_lock(lock) if lock.is_file() else _against_package()


def check_trainer(_settings: Settings) -> Iterator[Verdict]:
    """Whether a worker on this machine could train; serving never needs it."""
    lacking = [name for name in ("torch", "transformers", "safetensors") if find_spec(name) is None]
    beside = Path(sys.prefix) / "trainer" / "bin" / "python"
    if not lacking:
        yield ok("trainer", "torch, transformers and safetensors are here: a worker on this machine can train.")
    elif beside.exists():
        yield ok("trainer", f"The trainer has an environment of its own: {beside}.")
    else:
        yield ok(
            "trainer", f"No trainer here ({', '.join(lacking)} not installed): only workers on this machine need it."
        )


def _against_lock(lock: Path) -> Verdict:
    pinned: dict[str, set[str]] = {}
    optional: set[str] = set()
    for name, wanted, marker in _PINNED.findall(lock.read_text("utf-8")):
        # The same library may be pinned once for each version of Python.
        pinned.setdefault(name, set()).add(wanted)
        if marker:
            optional.add(name)
    missing, other = [], []
    for name, wanted in pinned.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            missing += [] if name in optional else [name]
            continue
        if found not in wanted:
            other.append(f"{name} {found} instead of {' or '.join(sorted(wanted))}")
    if missing:
        return fail("libraries", f"Not installed: {_some(missing)}.", _INSTALL)
    if other:
        return warn("libraries", f"Other versions than were locked: {_some(other)}.", _INSTALL)
    return ok("libraries", "All libraries are those of the lock.")


def _against_package() -> Verdict:
    try:
        wanted = [r for r in requires("llm360-portal") or () if "extra ==" not in r and "sys_platform" not in r]
    except PackageNotFoundError:
        return warn("libraries", "The portal is not installed as a package, and its lock is not here.", _INSTALL)
    missing = []
    for requirement in wanted:
        name = _NAME.match(requirement)
        try:
            version(name[0] if name else requirement)
        except PackageNotFoundError:
            missing.append(requirement)
    if missing:
        return fail("libraries", f"Not installed: {_some(missing)}.", "Install the portal's package again.")
    return ok("libraries", "Every library that the package asks for is installed.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


_INSTALL = "Install what is locked: `pip install --require-hashes -r requirements/prod.txt`."
