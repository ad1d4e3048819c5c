"""An in-toto statement with SLSA provenance: a checkpoint, and what the release says it was made from.

https://slsa.dev/spec/v1.0/provenance. The portal did not run the training, and says so in the statement.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from sqlmodel import Session

from portal.catalog.answers import CheckpointView, FileView
from portal.catalog.checkpoints import checkpoint_view, find_checkpoint
from portal.catalog.configs import config_at
from portal.catalog.facts import ReleaseFacts
from portal.catalog.files import Links
from portal.catalog.pairs import get_pair
from portal.catalog.published import find_published
from portal.catalog.read_spans import ReadSpan, read_spans
from portal.catalog.release import load_facts
from portal.errors import BadRequest, PortalError
from portal.exchange.attest import Portal, checkpoint_table, declared_only, digests
from portal.settings import Settings
from portal.signing import envelopes
from portal.signing.envelopes import STATEMENT, Document

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:llm360-portal:training:1"
BUILDER = "urn:llm360-portal:unwitnessed-training"
SAYS = (
    "The portal did not run or watch this training. It attests the bytes of the subjects by sha256, and repeats what the "
    "release says they were made from; `order` of each span of data says how sure that is."
)
_COMMIT = re.compile(r"^[0-9a-f]{40}$")


def sign_provenance(session: Session, settings: Settings, run: str, step: str, portal: Portal) -> Document:
    """The provenance of a checkpoint in a DSSE envelope; raises as `sign_checkpoint`."""
    return envelopes.sign(provenance_of(session, settings, run, step, portal.address), portal.key)


def provenance_of(session: Session, settings: Settings, run: str, step_or_label: str, address: str) -> Document:
    """The statement itself. Its numbers are text where they may be large: a verifier may read them as floats."""
    facts = load_facts(session, run)
    view = checkpoint_view(session, facts, find_checkpoint(facts, step_or_label), Links.of(settings), [])
    table = checkpoint_table(view)
    step = view.step
    dependencies: list[Document] = []
    gaps: list[str] = []
    if step is None:
        gaps.append("The checkpoint has no step, so no data is tied to it.")
        dependencies += [_declared_parent(p) for p in view.parents]
    else:
        dependencies += _config(facts, settings, step, gaps)
        dependencies += _data(session, settings, facts, view, gaps)
        dependencies += _parent(session, settings, facts, view, gaps)
    published = find_published(session, run)
    return {
        "_type": STATEMENT,
        "subject": [{"name": path, "digest": {"sha256": digest}} for path, digest in sorted(digests(table).items())],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"run": run, "version": facts.head.version, "step": step, "labels": view.labels},
                "internalParameters": {
                    "attested_by": address,
                    "says": SAYS,
                    "synthetic": facts.head.synthetic,
                    "release_fingerprint": published.fingerprint if published else "",
                    "digest_declared_not_read_by_the_portal": declared_only(table),
                    "not_known": gaps,
                    "findings": [f.message for f in view.findings if f.state == "open"],
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "metadata": {"invocationId": f"{address}/r/{run}/s/{step}?v={facts.head.version}"},
            },
        },
    }


def _config(facts: ReleaseFacts, settings: Settings, step: int, gaps: list[str]) -> Iterator[Document]:
    config = config_at(facts, step)
    if config is None:
        gaps.append(f"No config is recorded for step {step}.")
        return
    about = {"role": "config", "steps": _steps(config.first_step, config.last_step)}
    if config.file is not None:
        yield _file(Links.of(settings).file_view(config.file), about)
    if config.values:
        text = orjson.dumps(config.values, option=orjson.OPT_SORT_KEYS)
        of = "sha256 of the settings as JSON with sorted keys"
        yield {
            "name": f"settings from step {config.first_step}",
            "digest": {"sha256": hashlib.sha256(text).hexdigest()},
            "annotations": {**about, "digest_of": of},
        }
    repository = str(config.code.get("repo") or "")
    commit = str(config.code.get("commit") or "")
    if not repository and not commit:
        gaps.append("The release names no code.")
        return
    if not _COMMIT.match(commit):
        gaps.append("The release names no full commit of the code, so the code is not pinned.")
    digest = {"digest": {"gitCommit": commit}} if _COMMIT.match(commit) else {}
    yield {"name": "code", "uri": repository, **digest, "annotations": {"role": "code", "declared": config.code}}


def _data(
    session: Session, settings: Settings, facts: ReleaseFacts, view: CheckpointView, gaps: list[str]
) -> Iterator[Document]:
    """The chunks read since the checkpoint before; none for the initial model."""
    if not view.step:
        return
    try:
        half = get_pair(session, settings, facts.run, view.step, "previous").data
    except BadRequest as error:
        gaps.append(error.message)
        return
    spans: dict[str, list[ReadSpan]] = {}
    for span in read_spans(facts, half.first_step, half.last_step):
        spans.setdefault(span.chunk, []).append(span)
    if not half.chunks:
        gaps.append(f"No data is tied to steps {half.first_step} to {half.last_step}.")
    for chunk in half.chunks:
        about = {"role": "data", "chunk": chunk.name, "read": [_span(s) for s in spans.get(chunk.name, [])]}
        yield from (_file(file, about) for file in chunk.files)
        if not chunk.files:
            gaps.append(f"The files of chunk {chunk.name} are not listed.")
        gaps.extend(f"{f.path} has no published sha256." for f in chunk.files if f.sha256 is None)
    yield from (_file(file, {"role": "data order"}) for file in half.order_files)


def _parent(
    session: Session, settings: Settings, facts: ReleaseFacts, view: CheckpointView, gaps: list[str]
) -> Iterator[Document]:
    """The files of the checkpoint before, or the run this one began from."""
    before = facts.checkpoint_before((view.step or 0) - 1) if view.step else None
    if before is None:
        if facts.head.parent_run:
            yield _declared_parent({"run": facts.head.parent_run, "step": facts.head.parent_step})
        return
    step = before.row.step
    parent = checkpoint_view(session, facts, before, Links.of(settings), [])
    try:
        table: Mapping[str, FileView] = checkpoint_table(parent)
    except PortalError as error:
        gaps.append(f"The checkpoint before, at step {step}: {error.message}")
        return
    about = {"role": "parent checkpoint", "step": step}
    yield from (_file(file, about, f"step-{step}/{path}") for path, file in sorted(table.items()))


def _declared_parent(parent: Mapping[str, Any]) -> Document:
    named = f"{parent.get('run') or ''}@{parent.get('step') if parent.get('step') is not None else ''}"
    return {"name": f"checkpoint {named}", "annotations": {"role": "parent checkpoint", "declared": dict(parent)}}


def _file(file: FileView, about: Mapping[str, Any], name: str = "") -> Document:
    read = {
        "bytes": "declared, not read by the portal" if file.state == "unverified" else f"{file.state} by the portal"
    }
    found: Document = {"name": name or file.path, "annotations": {**about, **read}}
    found |= {"uri": file.url} if file.url else {}
    return found | ({"digest": {"sha256": file.sha256}} if file.sha256 else {})


def _span(span: ReadSpan) -> Document:
    order = {"kind": span.kind, "confidence": span.confidence, "assumption": span.assumption, "reason": span.reason}
    places = {"positions": span.positions} if span.positions else {}
    rows = span.rows or f"not listed: {span.unlisted}"
    return {"steps": _steps(span.first_step, span.last_step), "rows": rows, **places, "order": order}


def _steps(first: int, last: int | None) -> str:
    return f"{first}-{'' if last is None else last}"
