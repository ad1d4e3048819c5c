"""``portal publish --to``: a release is sent to a portal elsewhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portal.cli.progress import progress_bars
from portal.cli.terminal import complain, number, print_fields, print_json, print_table, say, size
from portal.client import Portal
from portal.client.publish import LocalRelease, SentReport, check_address, publish_to
from portal.client.upload import LocalFile
from portal.demo import choose_releases, place_of
from portal.errors import RunNotFound, UsageError
from portal.exchange.prepare import PreparedRelease, prepare
from portal.settings import Settings

if TYPE_CHECKING:
    from portal.signing.keys import SigningKey

SHOWN = 20
"""Files a dry run names one by one."""


@dataclass(frozen=True)
class Sending:
    """Where a release goes, and how."""

    url: str
    token: str
    insecure: bool
    workers: int
    dry_run: bool
    reason: str = ""
    """Why there is another version."""
    private: bool = False
    """Whether only tokens of its organisation may read it."""
    look_up: bool = False
    """Whether the portal asks its Hub for sizes and sha256 of files there."""

    def __repr__(self) -> str:
        return f"Sending({self.url!r})"


def send_release(source: Path, settings: Settings, key: SigningKey | None, how: Sending, as_json: bool) -> None:
    """Prepare, send, register, and print what became of it."""
    _check(how)
    with progress_bars() as progress, Portal(how.url, how.token) as api:
        prepared = prepare(source, settings, key, progress)
        report = publish_to(api, _release(prepared, how), how.dry_run, how.workers, progress)
    if as_json:
        print_json({**asdict(report), "elsewhere": prepared.elsewhere})
        return
    _print(report, prepared, how)


def send_demo(settings: Settings, how: Sending, only: str | None = None) -> None:
    """Publish the demo's runs at a portal elsewhere, but those that it has already, whoever published them."""
    _check(how)
    for release in choose_releases(only):
        if _has(how, release.run):
            complain(f"{release.run} is there already.")
            continue
        with progress_bars() as progress:
            place = place_of(release, settings, progress)
        send_release(place, settings, None, how, as_json=False)


def _check(how: Sending) -> None:
    if not how.token:
        raise UsageError(
            "Publishing to a portal needs a token.",
            "Set PORTAL_TOKEN (or --token); its operator makes one with `portal token create --role publisher`.",
        )
    check_address(how.url, how.insecure)


def _has(how: Sending, run: str) -> bool:
    with Portal(how.url, how.token) as api:
        try:
            api.run(run)
        except RunNotFound:
            return False
    return True


def _release(prepared: PreparedRelease, how: Sending) -> LocalRelease:
    files = {path: LocalFile(f.place, f.sha256, f.size) for path, f in prepared.files.items()}
    signature = asdict(prepared.signature) if prepared.signature else None
    named = prepared.run, prepared.manifest, prepared.name
    return LocalRelease(*named, files, signature, how.reason, how.private, how.look_up)


def _print(report: SentReport, prepared: PreparedRelease, how: Sending) -> None:
    if report.state == "dry-run":
        say(f"Would send {number(len(report.sent))} files ({size(report.sent_bytes)}) to {report.url}:")
        for path in report.sent[:SHOWN]:
            say(f"  {path}  {size(prepared.files[path].size)}")
        if len(report.sent) > SHOWN:
            say(f"  … and {number(len(report.sent) - SHOWN)} more")
        if how.look_up:
            say("The portal would ask its Hub for sizes and sha256 of the files that lie there.")
        say(f"{report.run} would become version {report.version}, unless it is there already.")
        return
    for sentence in report.answer.get("plan", []):
        say(str(sentence))
    if report.findings:
        rows = [(f["severity"], f["code"], number(f["step"]), f["message"]) for f in report.findings]
        print_table(["severity", "finding", "step", "what"], rows, right=["step"])
    print_fields(
        [
            ("run", report.run),
            ("version", f"{report.version} ({report.state})"),
            ("files", number(report.files)),
            ("sent", f"{number(len(report.sent))} files, {size(report.sent_bytes)} of {size(report.total_bytes)}"),
            ("signed", "by your key" if prepared.signature else None),
            ("findings", number(len(report.findings))),
            ("at", report.answer.get("url")),
        ]
    )
