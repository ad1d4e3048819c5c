"""Parts of the battery that are tests of their own rooms already: run there, their figures gathered here."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.battery.figures import Figures
from tests.conftest import REPOSITORY


def gather(
    what: str, tests: Sequence[str], counts: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> Figures:
    """Run tests; ``counts`` says which figure (``tried``, ``injected``, ``lost``) the properties they record are added to.

    A test that records nothing counts as one of what ``counts[""]`` names. One that fails is wrong; where all are
    skipped, the part is.
    """
    figures = Figures(what)
    with tempfile.TemporaryDirectory(prefix="battery-") as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:randomly", "-o", "junit_family=xunit1",
                   f"--junitxml={report}", *tests]  # fmt: skip
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists():
            figures.wrong.append(f"the tests did not run: {done.stdout[-500:]}{done.stderr[-500:]}")
            return figures
        cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - as above
    skipped = [case.find("skipped") for case in cases if case.find("skipped") is not None]
    if cases and len(skipped) == len(cases):
        figures.skipped = str(skipped[0].get("message") if skipped[0] is not None else "")
    for case in cases:
        if case.find("skipped") is None:
            _count(case, counts, figures)
    figures.more["tests"] = len(cases) - len(skipped)
    return figures


def _count(case: ET.Element, counts: Mapping[str, str], figures: Figures) -> None:
    failed = next((found for kind in ("failure", "error") if (found := case.find(kind)) is not None), None)
    if failed is not None:
        figures.wrong.append(f"{case.get('classname')}.{case.get('name')}: {str(failed.get('message'))[:300]}")
    told = [(p.get("name") or "", p.get("value") or "0") for p in case.iter("property")]
    known = [(counts[name], int(value)) for name, value in told if name in counts]
    for figure, value in known or [(counts[""], 1)]:
        setattr(figures, figure, getattr(figures, figure) + value)
