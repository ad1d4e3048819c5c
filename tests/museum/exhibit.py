"""What an exhibit is: how a sound release is broken, and what the portal must say of it, neither more nor less."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Engine

from portal.catalog.batches import read_batch
from portal.catalog.findings import list_findings
from portal.catalog.pairs import get_pair
from portal.catalog.runs import get_run, get_timeline
from portal.database import open_session
from portal.errors import ManifestRefused, PortalError
from portal.exchange.publish import publish
from portal.scan.verify import Plan, verify_run
from portal.settings import Settings
from tests.exchange.releases import write_release

RUN = "lab/small"


class Release:
    """A release folder that an exhibit breaks: 20 steps of 4 rows of 8 ids, checkpoints every 5 steps, two chunks."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_release(folder)
        self.manifest: dict[str, Any] = yaml.safe_load((folder / "release.yaml").read_text())

    def path(self, name: str) -> Path:
        """A file of it; its folder is made where it is not there."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def weights(self, step: int) -> Path:
        """The weights of a checkpoint."""
        return self.path(f"checkpoints/step-{step}/model.safetensors")

    def chunk(self, number: int) -> dict[str, Any]:
        """The manifest's entry of a chunk."""
        held: dict[str, Any] = self.manifest["data"]["chunks"][number]
        return held

    @property
    def orders(self) -> list[dict[str, Any]]:
        """The manifest's data orders."""
        held: list[dict[str, Any]] = self.manifest["data"]["order"]
        return held

    def checkpoints(self, *entries: dict[str, Any]) -> None:
        """One entry a step in place of the pattern."""
        self.manifest["checkpoints"] = [
            {"location": f"checkpoints/step-{entry['step']}", **entry} if "step" in entry else entry
            for entry in entries
        ]

    def each_checkpoint(self, **more: Any) -> list[dict[str, Any]]:
        """Entries of the four checkpoints, to be changed."""
        return [{"step": step, "labels": [f"ckpt_{step // 5 - 1:03d}"], **more} for step in (5, 10, 15, 20)]

    def write(self) -> None:
        """Write the manifest as it stands now."""
        (self.folder / "release.yaml").write_text(yaml.safe_dump(self.manifest, sort_keys=False))


@dataclass(frozen=True)
class Verdict:
    """What the portal says: faults that refuse the release, or findings it is published with."""

    faults: tuple[str, ...] = ()
    """``where: what`` of each fault, or the beginning of it."""
    findings: tuple[str, ...] = ()
    """``code`` or ``code@step`` of each finding."""


@dataclass(frozen=True)
class Exhibit:
    """One broken run."""

    name: str
    story: str
    """What is broken, and where it was seen."""
    breaks: Callable[[Release], None]
    verdict: Verdict
    answers: Mapping[str, str] = field(default_factory=dict)
    """Question -> answer once it is published; see `Room.ask`."""
    later: Callable[[Release], None] | None = None
    """What happens to the files after publication."""


EXHIBITS: list[Exhibit] = []
"""All of them, filled by the modules beside this one."""

Broken = Callable[[Release], None]


def exhibit(
    story: str, verdict: Verdict, answers: Mapping[str, str] | None = None, later: Broken | None = None
) -> Callable[[Broken], Broken]:
    """Put a function that breaks a release into the museum, under the function's name."""

    def put(breaks: Broken) -> Broken:
        name = breaks.__name__.strip("_").replace("_", "-")
        EXHIBITS.append(Exhibit(name, story, breaks, verdict, answers or {}, later))
        return breaks

    return put


def refused(*faults: str) -> Verdict:
    """The release is refused with exactly these faults."""
    return Verdict(faults=faults)


def published(*findings: str) -> Verdict:
    """The release is published with exactly these findings."""
    return Verdict(findings=findings)


@dataclass(frozen=True)
class Room:
    """A portal that exhibits are shown to."""

    engine: Engine
    settings: Settings

    def judge(self, exhibit: Exhibit, folder: Path) -> list[str]:
        """What differs from the expected verdict, one sentence each; empty where the portal is right."""
        release = Release(folder)
        exhibit.breaks(release)
        release.write()
        try:
            report = publish(release.folder, self.settings, self.engine)
        except ManifestRefused as error:
            said = [f"{fault.where}: {fault.what}" for fault in error.faults]
            return _compare_faults(exhibit.verdict, said)
        expected, found = exhibit.verdict, Counter(_codes(report.findings))
        if expected.faults:
            return [f"published with {dict(found)} although it must be refused: {list(expected.faults)}"]
        wrong = []
        if found != Counter(expected.findings):
            told = [f"{c}: {f.message}" for c, f in zip(_codes(report.findings), report.findings, strict=True)]
            wrong.append(f"findings are {told}, not {list(expected.findings)}")
        if exhibit.later:
            exhibit.later(release)
        answers = {question: self.ask(question) for question in exhibit.answers}
        return wrong + [f"{q}: {answers[q]!r}, not {a!r}" for q, a in exhibit.answers.items() if answers[q] != a]

    def ask(self, question: str) -> str:
        """A question in words, answered in words; an error is its code."""
        kind, *given = question.split()
        try:
            return _QUESTIONS[kind](self, *given)
        except PortalError as error:
            return error.code

    def tokens(self, step: str) -> str:
        """``chunk:row`` of each row of a step; ``!`` before one that cannot be read."""
        with open_session(self.engine) as session:
            batch = json.loads(_json(read_batch(session, self.settings, RUN, int(step), text=False)))
        return " ".join(f"{'!' if row.get('fault') else ''}{row['chunk']}:{row['row']}" for row in batch["rows"])

    def pair(self, step: str, data: str = "next") -> str:
        """The checkpoint's step and the chunks of its data."""
        with open_session(self.engine) as session:
            pair = get_pair(session, self.settings, RUN, int(step), data)
        return f"{pair.checkpoint.step} + {' '.join(chunk.name for chunk in pair.data.chunks)}"

    def verify(self, how: str = "quick") -> str:
        """States of the files after another look, and what is wrong."""
        report = verify_run(self.engine, self.settings, RUN, Plan(hash_local=how == "deep"))
        return " ".join(sorted(f"{f.code}:{f.evidence['path']}" for f in report.findings)) or "sound"

    def events(self) -> str:
        """Kind, steps and origin of each event."""
        with open_session(self.engine) as session:
            events = get_timeline(session, RUN).events
        return " ".join(f"{e.kind}@{e.step}:{e.origin}" for e in events)

    def open_findings(self) -> str:
        """Codes of findings that are open now."""
        with open_session(self.engine) as session:
            found = list_findings(session, RUN, 1000).items
        return " ".join(sorted(f.code for f in found if f.state == "open"))

    def version(self) -> str:
        """The current version."""
        with open_session(self.engine) as session:
            return str(get_run(session, RUN).summary.version)


_QUESTIONS: dict[str, Callable[..., str]] = {
    "tokens": Room.tokens,
    "pair": Room.pair,
    "verify": Room.verify,
    "events": Room.events,
    "findings": Room.open_findings,
    "version": Room.version,
}


def _codes(findings: Any) -> list[str]:
    return [f.code if f.step is None else f"{f.code}@{f.step}" for f in findings]


def _json(value: Any) -> bytes:
    import orjson

    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY, default=str)


def _compare_faults(expected: Verdict, said: list[str]) -> list[str]:
    if not expected.faults:
        return [f"refused with {said}, although it must be published with {list(expected.findings)}"]
    left = list(said)
    wrong = []
    for fault in expected.faults:
        met = next((one for one in left if one.startswith(fault)), None)
        if met is None:
            wrong.append(f"no fault begins {fault!r}")
        else:
            left.remove(met)
    return wrong + [f"unexpected fault: {one}" for one in left]
