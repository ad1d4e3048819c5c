"""``portal verify`` and ``portal scan``: is it still what it claims to be."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portal.cli.portals import AsJson
from portal.cli.progress import progress_bars
from portal.cli.terminal import number, print_json, print_table, say, size
from portal.client import Portal, VerifyReport, verify_folder
from portal.client.archives import ARCHIVES, unpacked
from portal.client.attested import MODEL, as_dict
from portal.client.verify import BAD, holds_release
from portal.errors import UsageError

if TYPE_CHECKING:
    from portal.scan import FixityReport, ScanReport
    from portal.signing.keys import PublicKey

_RUN = re.compile(r"[A-Za-z0-9][^/]*/[^/]+")
_TOLD = {
    "unchanged": "As they were fetched, but no sha256 of them was released",
    "unverified": "NOT verified, as nothing at hand says what they should be",
    "unexpected": "Here, and not released",
}


def add_to(application: typer.Typer) -> None:
    """Register the commands."""
    application.command("verify")(verify)
    application.command("scan")(scan)


def verify(  # noqa: PLR0913 - typer reads the options from the signature
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|DIR|FILE",
            help="A published run, a downloaded release, an exported bundle (packed or not), a folder that `portal pair` "
            "filled, or a signed checkpoint as clients of the Hub fetch it.",
        ),
    ],
    deep: Annotated[
        bool, typer.Option("--deep", help="Of a run: read every byte again, of files elsewhere too.")
    ] = False,
    sample: Annotated[
        str,
        typer.Option("--sample", metavar="1%|N", help="Of a run: read so many 8 MiB blocks of each file elsewhere."),
    ] = "",
    rate: Annotated[
        str, typer.Option("--rate", metavar="50MB/s", help="Of a run: read at most so many bytes a second.")
    ] = "",
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="30d", help="Of a run: only files that were not looked at for so long."),
    ] = "",
    strict: Annotated[
        bool, typer.Option("--strict", help="Of a folder: let unverified and unexpected files fail as well.")
    ] = False,
    url: Annotated[
        str, typer.Option("--url", help="Of a folder: a portal that knows the run; its sha256 have the last word.")
    ] = "",
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="Of a folder: a public key whose signatures must speak for every file; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Compare files with what was published: a downloaded release or pair offline, or a run of the local catalog."""
    if what.endswith(ARCHIVES) and Path(what).is_file():
        with unpacked(Path(what)) as folder:
            return _verify_folder(folder, Asked(url, strict, key or []), as_json)
    if _is_folder(what):
        if sample or rate or older_than:
            raise UsageError(f"{what} is a folder.", "--sample, --rate and --older-than are for published runs.")
        return _verify_folder(Path(what), Asked(url, strict, key or []), as_json)
    if url or strict or key:
        raise UsageError(f"{what} is no folder.", "--url, --strict and --key are for downloaded folders.")
    report = _verify_run(what, deep, sample, rate, older_than)
    if as_json:
        print_json(_run_as_dict(what, report))
    else:
        _print_run(what, report)
    return int(bool(report.findings or report.stopped))


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


def _verify_run(run: str, deep: bool, sample: str, rate: str, older_than: str) -> FixityReport:
    # Imported here because a folder is verified without a catalog.
    from portal.cli.catalogs import open_catalog  # noqa: PLC0415
    from portal.scan.amounts import parse_age, parse_rate, parse_sample  # noqa: PLC0415
    from portal.scan.verify import Plan, verify_run  # noqa: PLC0415
    from portal.settings import Settings  # noqa: PLC0415

    if deep and sample:
        raise UsageError("--deep reads every byte, --sample some.", "Give one of them.")
    plan = Plan(
        hash_local=deep,
        remote=deep or bool(sample),
        sample=parse_sample(sample) if sample else None,
        rate=parse_rate(rate) if rate else None,
        older_than=parse_age(older_than) if older_than else None,
    )
    settings = Settings()
    with open_catalog(settings, create=False) as engine, progress_bars() as progress:
        progress.begin("verify", 0)
        return verify_run(engine, settings, run, plan, lambda _path, done: progress.advance(done))


def _run_as_dict(run: str, report: FixityReport) -> dict[str, Any]:
    return {
        "run": run,
        "files": report.checked,
        "remote": report.remote,
        "recent": report.recent,
        "states": dict(report.states),
        "hashed_bytes": report.hashed_bytes,
        "unsettled": report.unsettled,
        "silent_hosts": report.silent_hosts,
        "findings": _listed(report.findings),
    }


def _print_run(run: str, report: FixityReport) -> None:
    elsewhere = report.checked - report.local
    looked = f"{number(report.local)} files here" + (f" and {number(elsewhere)} elsewhere" if elsewhere else "")
    say(f"{run}: {looked} looked at, {size(report.hashed_bytes)} read and compared.")
    if report.remote:
        say(f"Not looked at: {_files(report.remote)} elsewhere; --sample 1% reads a part of each, --deep all.")
    if report.recent:
        say(f"Not looked at: {_files(report.recent)} that were not long ago.")
    for host, count in report.silent_hosts.items():
        say(f"Not looked at: {_files(count)} of {host}, which did not let its first ones be read.")
    if report.states["unverified"]:
        say(f"There, with nothing to compare with: {_files(report.states['unverified'])}; no digest was published.")
    if report.unsettled:
        say(f"Written to while being read, and left unchecked: {_files(report.unsettled)}.")
    _print_findings(report.findings)
    bad, unread = len(report.wrong), len(report.findings) - len(report.wrong)
    if unread:
        say(f"{_files(unread)} could not be read.")
    if bad:
        say(f"{_files(bad)} missing or changed.")
    elif not unread:
        say("Every file looked at is as it was published." if elsewhere else "Every file here is as it was published.")


def _scan(run: str, deep: bool) -> ScanReport:
    # Imported here because a folder is verified without a catalog.
    from portal.cli.catalogs import open_catalog  # noqa: PLC0415
    from portal.scan import scan_run  # noqa: PLC0415
    from portal.settings import Settings  # noqa: PLC0415

    settings = Settings()
    with open_catalog(settings, create=False) as engine, progress_bars() as progress:
        if deep:
            progress.begin("hash", 0)
        return scan_run(engine, settings, run, deep, lambda _path, done: progress.advance(done))


def _is_folder(what: str) -> bool:
    """Whether ``what`` means a folder; a run may have the name of one that holds neither pair nor release."""
    folder = Path(what)
    holds = any((folder / name).is_file() for name in ("pair.json", MODEL)) or holds_release(folder)
    return folder.is_dir() and (holds or not _RUN.fullmatch(what))


@dataclass(frozen=True)
class Asked:
    """How a folder is to be verified."""

    url: str
    strict: bool
    keys: list[Path]


def _verify_folder(folder: Path, asked: Asked, as_json: bool) -> int:
    keys = _read_keys(asked.keys)
    if asked.url and not (folder / "pair.json").is_file() and not holds_release(folder) and (folder / MODEL).is_file():
        raise UsageError(f"{folder} holds a checkpoint and its signature.", "Give --key instead of --url.")
    with progress_bars() as progress, Portal(asked.url) if asked.url else nullcontext() as portal:
        report = verify_folder(folder, progress=progress, portal=portal, keys=keys)
    good = report.all_verified if asked.strict else report.ok and not report.notes
    good = good and (report.vouched or not keys)
    if as_json:
        files = [f.__dict__ for f in report.files]
        told = {"kind": report.kind, "run": report.run, "counts": report.counts, "elsewhere": report.elsewhere}
        print_json(
            {"folder": str(folder), "ok": good, **told, "not_fetched": report.notes, "files": files, **_signed(report)}
        )
    else:
        _print_folder(report)
        _print_signatures(report, bool(keys))
    return int(not good)


def _print_folder(report: VerifyReport) -> None:
    # A release may have thousands of files: the sound ones are counted alone.
    shown = [f for f in report.files if report.kind == "pair" or f.state != "verified"]
    shown.sort(key=lambda f: f.state in BAD)  # what is wrong stands last, beside the verdict
    if shown:
        print_table(["state", "size", "file"], [(f.state, size(f.size), f.path) for f in shown], right=["size"])
    for sentence in report.notes:
        say(f"not fetched: {sentence}")
    counts = report.counts
    verified = counts.get("verified", 0)
    told = f"that {MODEL} names" if report.kind == "checkpoint" else "that was released"
    say(f"{report.run}: {number(verified)} of {_files(len(report.files))} have the sha256 {told}.")
    for state, told in _TOLD.items():
        if counts.get(state):
            say(f"{told}: {_files(counts[state])}.")
    if report.elsewhere:
        say(f"Elsewhere by the manifest, and not looked at: {_files(report.elsewhere)}.")
    say(_verdict(report))


def _read_keys(paths: list[Path]) -> list[PublicKey]:
    if not paths:
        return []
    from portal.signing.keys import load_public_key  # noqa: PLC0415 - needed only to check signatures

    return [load_public_key(path) for path in paths]


def _signed(report: VerifyReport) -> dict[str, Any]:
    told = [as_dict(s) for s in report.signatures]
    history = None if report.history is None else as_dict(report.history)
    return {"signatures": told, "vouched": report.vouched, "unsigned": report.unsigned, "history": history}


def _print_signatures(report: VerifyReport, asked: bool) -> None:
    for signature in (*report.signatures, *filter(None, [report.history])):
        say(f"{signature.file}: {signature.state}, {signature.message}")
    if not asked:
        return
    for path in report.unsigned[:20]:
        say(f"No signature that was checked speaks for {path}.")
    if len(report.unsigned) > 20:
        say(f"Nor for {number(len(report.unsigned) - 20)} more files.")
    if report.vouched:
        say("Signed: the key vouches for every file listed here, and nothing was altered since.")
    else:
        say("NOT signed: the keys given do not vouch for all that is here and nothing else.")


def _verdict(report: VerifyReport) -> str:
    bad = sum(report.counts.get(state, 0) for state in BAD)
    if bad:
        return f"{bad} of {_files(len(report.files))} are missing or changed."
    if not report.ok:
        return "Nothing could be verified: ask a portal that knows the run with --url, or put its SHA256SUMS beside it."
    if report.kind == "pair":
        return "Every file is as it was fetched."
    if report.kind == "checkpoint" and not report.vouched:
        return f"Every file is what {MODEL} says; whose word that is, only --key tells."
    return "Every file is what was released." if report.all_verified else "No file is missing or changed."


def _files(count: int) -> str:
    return f"{number(count)} {'file' if count == 1 else 'files'}"


def _print_findings(findings: list[Any]) -> None:
    if findings:
        rows = [(f.severity, f.code, number(f.step), f.message) for f in findings]
        print_table(["severity", "finding", "step", "what"], rows, right=["step"])


def _listed(findings: list[Any]) -> list[dict[str, Any]]:
    return [
        {"severity": f.severity, "code": f.code, "step": f.step, "message": f.message, "evidence": f.evidence}
        for f in findings
    ]
