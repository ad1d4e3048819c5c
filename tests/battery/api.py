"""The API tried against its own description by schemathesis: over HTTP, on both databases, without a token and with each role."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.battery.figures import Figures, Scale
from tests.battery.portals import DATABASES, Portal, a_portal
from tests.conftest import REPOSITORY

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "allow_header_conformance",
)  # fmt: skip
"""No 5xx, nothing that the description does not tell, and 405 with Allow for methods that are not there."""
NOT_ASKED = ("/api/v1/jobs/{job}/events", "/api/v1/workers/{worker}/lease")
"""A stream without end, and a question that waits for up to half a minute."""
ROLES = ("", "publisher", "admin", "worker", "reader")
ACCEPTED = {("POST /api/v1/jobs/preview", check) for check in ("unsupported_method", "allow_header_conformance")}
"""GET there asks for the job called preview, which is no number: 400 instead of 405, and GET stands in Allow."""
CONFIG = """
[parameters]
org = "lab"
name = "small"
step = 5
"path.job" = 1
"path.attempt" = 1
chunk = "chunk_0"
series = "train/loss"
"""
"""Half of the runs ask for things that are there: invented names would be answered with 404 alone."""


def run(scale: Scale) -> Figures:
    """Coverage, fuzzing and links; as many cases per operation as the scale says."""
    figures = Figures("cases by schemathesis: no 5xx, nothing undocumented")
    databases = DATABASES[: scale.pick(1, 2, 2)]
    for database in databases:
        with a_portal(database) as portal:
            for number, role in enumerate(ROLES[: scale.pick(2, 3, 5)]):
                tried, wrong = _try(portal, role, scale, known=number % 2 == 1)
                figures.tried += tried
                figures.wrong += [f"{database}, {role or 'anonymous'}: {one}" for one in wrong]
                figures.more[f"cases {database}"] = int(figures.more.get(f"cases {database}", 0)) + tried
            if not portal.answers():
                figures.wrong.append(f"the portal over {database} does not answer any more")
    return figures


def _try(portal: Portal, role: str, scale: Scale, known: bool) -> tuple[int, list[str]]:
    """One run: number of cases, and each failure once."""
    with tempfile.TemporaryDirectory(prefix="battery-") as folder:
        config, report = Path(folder) / "schemathesis.toml", Path(folder) / "report.ndjson"
        config.write_text(CONFIG if known else "")
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run",
                   f"{portal.url}/api/v1/openapi.json", "--url", portal.url, "--checks", ",".join(CHECKS),
                   "--phases", "coverage,fuzzing,stateful" if scale.name != "short" else "coverage,fuzzing",
                   "--max-examples", str(scale.pick(1, 4, 60)), "--seed", "7", "--no-shrink", "--continue-on-failure",
                   "--request-timeout", "30", "--suppress-health-check", "all", "--workers", "2",
                   "--report", "ndjson", "--report-ndjson-path", str(report)]  # fmt: skip
        for path in NOT_ASKED:
            command += ["--exclude-path", path]
        if role:
            command += ["--header", f"Authorization: Bearer {portal.tokens[role]}"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1", "SCHEMATHESIS_HOOKS": ""}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if not report.exists():
            return 0, [f"schemathesis did not run: {(done.stdout + done.stderr)[-400:]}"]
        return read_report(report)


def read_report(path: Path) -> tuple[int, list[str]]:
    """Number of cases that were sent, and each distinct failure with its first example."""
    cases = 0
    failures: dict[tuple[str, str], str] = {}
    for line in path.read_text().splitlines():
        event = json.loads(line)
        cases += len(_interactions(event))
        for label, failure, example in _failures(event):
            if (label, failure.partition(" ")[0]) not in ACCEPTED:
                failures.setdefault((label, failure), example)
    return cases, [f"{label}: {failure}: {example}" for (label, failure), example in failures.items()]


def _interactions(event: dict[str, Any]) -> dict[str, Any]:
    recorder = (event.get("ScenarioFinished") or {}).get("recorder") or {}
    found: dict[str, Any] = recorder.get("interactions") or {}
    return found


def _failures(event: dict[str, Any]) -> list[tuple[str, str, str]]:
    recorder = (event.get("ScenarioFinished") or {}).get("recorder") or {}
    found = []
    for case, checks in (recorder.get("checks") or {}).items():
        for check in checks:
            if check.get("status") != "failure":
                continue
            told = (check.get("failure_info") or {}).get("failure") or {}
            asked = _interactions(event).get(case, {})
            request = asked.get("request", {})
            example = f"{request.get('method')} {str(request.get('uri'))[:200]} -> {(asked.get('response') or {}).get('status_code')}"
            title = f"{check.get('name')} {told.get('title', '')} {str(told.get('message', ''))[:200]}"
            found.append((str(recorder.get("label")), title.replace("\n", " "), example))
    return found
