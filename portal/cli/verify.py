"""``portal verify`` and ``portal scan``: is it still what it claims to be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from portal.cli.catalogs import open_catalog
from portal.cli.portals import AsJson
from portal.cli.progress import progress_bars
from portal.cli.terminal import number, print_json, print_table, say, size
from portal.client import verify_folder
from portal.scan import ScanReport, scan_run
from portal.settings import Settings

_RUN = re.compile(r"[A-Za-z0-9][^/]*/[^/]+")


def add_to(application: typer.Typer) -> None:
    """Register the commands."""
    application.command("verify")(verify)
    application.command("scan")(scan)


def verify(
    what: Annotated[
        str, typer.Argument(metavar="RUN|DIR", help="A published run, or a folder that `portal pair` filled.")
    ],
    deep: Annotated[bool, typer.Option("--deep", help="Hash every byte of a run again.")] = False,
    as_json: AsJson = False,
) -> int:
    """Compare files with what was published: a downloaded pair offline, or a run of the local catalog."""
    if _is_folder(what):
        return _verify_folder(Path(what), as_json)
    report = _scan(what, deep)
    findings = report.fixity.findings
    if as_json:
        print_json(
            {
                "run": report.run,
                "files": report.fixity.checked,
                "remote": report.fixity.remote,
                "findings": _listed(findings),
            }
        )
        return int(bool(findings))
    looked = f"{number(report.fixity.checked)} files here looked at, {size(report.fixity.hashed_bytes)} hashed"
    say(f"{report.run}: {looked}; {number(report.fixity.remote)} lie elsewhere and were not.")
    _print_findings(findings)
    say("Every file here is as it was published." if not findings else f"{len(findings)} files are not.")
    return int(bool(findings))


def scan(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run of the local catalog.")],
    deep: Annotated[bool, typer.Option("--deep", help="Hash every byte again.")] = False,
    as_json: AsJson = False,
) -> int:
    """Repeat the honesty scan of a run and store what it finds."""
    report = _scan(run, deep)
    if as_json:
        print_json({"run": report.run, "findings": _listed(report.findings)})
    else:
        _print_findings(report.findings)
        say(f"{report.run}: {len(report.findings)} findings.")
    return int(any(f.severity == "error" for f in report.findings))


def _scan(run: str, deep: bool) -> ScanReport:
    settings = Settings()
    with open_catalog(settings) as engine, progress_bars() as progress:
        if deep:
            progress.begin("hash", 0)
        return scan_run(engine, settings, run, deep, lambda _path, done: progress.advance(done))


def _is_folder(what: str) -> bool:
    """Whether ``what`` means a folder; a run may have the name of one that holds no pair."""
    folder = Path(what)
    return folder.is_dir() and ((folder / "pair.json").is_file() or not _RUN.fullmatch(what))


def _verify_folder(folder: Path, as_json: bool) -> int:
    with progress_bars() as progress:
        report = verify_folder(folder, progress=progress)
    if as_json:
        print_json({"folder": str(folder), "ok": report.ok, "files": [f.__dict__ for f in report.files]})
        return int(not report.ok)
    print_table(["state", "size", "file"], [(f.state, size(f.size), f.path) for f in report.files], right=["size"])
    bad = [f for f in report.files if f.state in ("changed", "missing")]
    say(
        "Every file is as it was fetched."
        if not bad
        else f"{len(bad)} of {len(report.files)} files are missing or changed."
    )
    return int(bool(bad))


def _print_findings(findings: list[Any]) -> None:
    if findings:
        rows = [(f.severity, f.code, number(f.step), f.message) for f in findings]
        print_table(["severity", "finding", "step", "what"], rows, right=["step"])


def _listed(findings: list[Any]) -> list[dict[str, Any]]:
    return [
        {"severity": f.severity, "code": f.code, "step": f.step, "message": f.message, "evidence": f.evidence}
        for f in findings
    ]
