"""Any Hub repository whose branches or tags are training steps becomes a manifest; nothing is downloaded."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import cast

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from portal.errors import DataFault, NotFound, Unavailable, UsageError
from portal.exchange.draft import Draft
from portal.exchange.labels import CheckpointName, parse_name
from portal.exchange.patterns import step_patterns

PUBLIC_HUB = "https://huggingface.co"

HTTP_ERRORS = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
"""What requests raise, answered or not: the error of whichever HTTP library huggingface_hub is built on, and OSError."""


@dataclass(frozen=True)
class Reference:
    """A branch or tag that names a checkpoint."""

    name: CheckpointName
    commit: str


def import_repository(repository: str, run: str | None, endpoint: str = PUBLIC_HUB) -> Draft:
    """The manifest draft of ``repository`` (``org/name``), checkpoints from its branches and tags.

    Names are read as hints (see `portal.exchange.labels`): where they count saves, or belong to a later stage with
    steps of its own, the step is left unknown. Raises NotFound, Unavailable, or DataFault when no name speaks of a
    checkpoint.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(f"{repository!r} is not a repository.", "Give org/name as it stands on the Hub.")
    names = _list_references(repository, endpoint)
    parsed = [Reference(name, commit) for label, commit in names.items() if (name := parse_name(label)) is not None]
    if not parsed:
        raise DataFault(
            f"None of the {len(names)} branches and tags of {repository} names a training step.",
            "Portal knows step1000, step-1000, stage1-step1000-tokens5B, checkpoint-1000, iter_0001000, ckpt_007 "
            "and the like; write a manifest by hand.",
        )
    stage, own, others = _main_stage(parsed)
    last = max((r.name.number for r in own), default=0)
    draft = Draft(
        run or repository.lower(),
        {
            "title": repository,
            "description": f"Made from the branches of {repository} on the Hub: what they do not say (batch, "
            "data, metrics) is not known here.",
            "links": {"model": f"{PUBLIC_HUB}/{repository}"},
            "training": {"last_step": last},
        },
    )
    _add_steps(draft, repository, own)
    _add_without_step(draft, repository, others, stage)
    if "main" in names:
        _add_main(draft, repository, names["main"], own, others)
    _find_contradictions(draft, own)
    draft.notes.append(f"{len(names) - len(parsed)} other branches and tags name no checkpoint.")
    return draft


def _list_references(repository: str, endpoint: str) -> dict[str, str]:
    """Commit by branch or tag name."""
    # A user's Hub token goes to the Hub only, never to another endpoint.
    api = HfApi(endpoint=endpoint, token=None if endpoint.rstrip("/") == PUBLIC_HUB else False)
    try:
        references = api.list_repo_refs(repository)
    except RepositoryNotFoundError:
        raise NotFound(
            f"There is no public repository {repository} at {endpoint}.",
            "Check the name; log in with `hf auth login` when it is private.",
        ) from None
    except HFValidationError as error:
        raise UsageError(
            f"{repository!r} is not a repository: {error}", "Give org/name as it stands on the Hub."
        ) from None
    except HTTP_ERRORS as error:
        raise Unavailable(
            f"{endpoint} did not list the branches of {repository}: {error}.",
            "Check PORTAL_HF_ENDPOINT and the network, then try again.",
        ) from None
    return {ref.name: ref.target_commit for ref in [*references.tags, *references.branches]}


def _main_stage(parsed: list[Reference]) -> tuple[str | None, list[Reference], list[Reference]]:
    """The stage whose names give global steps, its references, and all others.

    Names without a stage are global. Where all carry one, the first stage's steps are global, because nothing ran
    before.
    """
    counted = [r for r in parsed if r.name.counts_saves]
    steps = [r for r in parsed if not r.name.counts_saves]
    stages = sorted({r.name.stage or "" for r in steps})
    first = stages[0] if stages else ""
    own = [r for r in steps if (r.name.stage or "") == first]
    return first or None, own, [r for r in steps if (r.name.stage or "") != first] + counted


def _add_steps(draft: Draft, repository: str, own: list[Reference]) -> None:
    by_step: dict[int, list[Reference]] = defaultdict(list)
    for reference in own:
        by_step[reference.name.number].append(reference)
    plain: dict[str, list[int]] = defaultdict(list)
    for step, references in sorted(by_step.items()):
        template = _template(references[0].name) if len(references) == 1 else None
        if template:
            plain[template].append(step)
        else:
            _add_one_step(draft, repository, step, references)
    for template, steps in plain.items():
        for pattern in step_patterns(steps):
            draft.add(
                "checkpoints", {"steps": pattern, "labels": [template], "location": f"hf://{repository}@{template}"}
            )


def _add_one_step(draft: Draft, repository: str, step: int, references: list[Reference]) -> None:
    """Names of one commit are aliases of one checkpoint; names of different commits are different checkpoints."""
    by_commit: dict[str, list[str]] = defaultdict(list)
    for reference in references:
        by_commit[reference.commit].append(reference.name.name)
    for names in by_commit.values():
        draft.add("checkpoints", {"step": step, "labels": names, "location": f"hf://{repository}@{names[0]}"})
    if len(by_commit) > 1:
        draft.find(
            "step-on-two-commits",
            f"Step {step:,} stands on {len(by_commit)} different commits; which one is meant is not said.",
            "warning",
            step,
            commits=dict(by_commit),
        )


def _template(name: CheckpointName) -> str | None:
    """The label with ``{step}`` in place of its number; None when the number is spelt in a way of its own."""
    if name.name.count(str(name.number)) != 1 or name.tokens is not None:
        return None
    head, tail = name.name.split(str(name.number))
    return None if head[-1:].isdigit() or re.match(r"\d|k", tail) else f"{head}{{step}}{tail}"


def _add_without_step(draft: Draft, repository: str, others: list[Reference], stage: str | None) -> None:
    for reference in sorted(others, key=lambda r: r.name.name):
        why = (
            "its number counts saves, not steps"
            if reference.name.counts_saves
            else f"its steps are those of {reference.name.stage}"
        )
        draft.add(
            "checkpoints",
            {
                "labels": [reference.name.name],
                "location": f"hf://{repository}@{reference.name.name}",
                "note": f"No step: {why}.",
            },
        )
    if others:
        draft.find(
            "steps-unknown",
            f"{len(others)} checkpoints have no step: their names count saves, or steps of another stage than "
            f"{stage or 'the first'}.",
            "warning",
            None,
            labels=[r.name.name for r in others][:50],
            count=len(others),
        )


def _add_main(draft: Draft, repository: str, commit: str, own: list[Reference], others: list[Reference]) -> None:
    """Branch main: an alias where it stands on a step's commit, else a state whose step nobody says."""
    if any(r.commit == commit for r in [*own, *others]):
        draft.notes.append("Branch main stands on the commit of another checkpoint and is not listed again.")
        return
    draft.add(
        "checkpoints",
        {
            "labels": ["main"],
            "location": f"hf://{repository}@main",
            "note": "The final state as far as anyone says; its step is not named.",
        },
    )


def _find_contradictions(draft: Draft, own: list[Reference]) -> None:
    by_commit: dict[str, set[int]] = defaultdict(set)
    for reference in own:
        by_commit[reference.commit].add(reference.name.number)
    for commit, steps in by_commit.items():
        if len(steps) > 1:
            draft.find(
                "steps-share-commit",
                f"Steps {', '.join(f'{s:,}' for s in sorted(steps)[:5])} are the same commit, so they hold the "
                "same weights.",
                "error",
                max(steps),
                commit=commit,
                steps=sorted(steps),
            )
    if any(r.name.tokens for r in own):
        draft.find(
            "labels-round-tokens",
            "Names carry rounded token counts; they are kept as labels and not used as counts.",
            "info",
        )
