"""A run as two repositories, its model and its data, with revisions that follow from what was released.

Model: ``main`` is the last checkpoint, ``step-N`` the state after step N, ``before-step-N`` the last checkpoint
released at or before step N-1, a label whatever its authors called it. Data: ``main`` is every chunk, ``step-N``
exactly the rows that step N read. Either may be asked for by a commit id, also of an earlier version of the run.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col

from portal.catalog import repository_data
from portal.catalog.commits import COMMIT, NUMBERS, make_commit, number_in
from portal.catalog.facts import CheckpointFact, ReleaseFacts
from portal.catalog.files import FileRow, load_files
from portal.catalog.release import load_facts
from portal.catalog.repository_cards import model_card
from portal.catalog.repository_files import RepoFile, canonical, checkpoint_files, in_order, made_file, named_again
from portal.errors import NotFound, PortalError, RevisionNotFound, RunNotFound
from portal.models import File
from portal.settings import Settings

MODELS, DATASETS = "models", "datasets"
KEPT_VERSIONS = 20
"""Earlier versions of a run in which a commit id is looked for."""
STEP_LIMIT = NUMBERS >> 1
"""Numbers from here on are places in the list of checkpoints, for those that no step names."""
NO_CHECKPOINT = NUMBERS - 1
_STEP = re.compile(r"^(before-)?step-(\d{1,12})$")
_TOKENIZER = '{"tokenizer_class": "PreTrainedTokenizerFast"}\n'
_CARD = "README.md"


@dataclass(frozen=True)
class Revision:
    """One state of a repository."""

    facts: ReleaseFacts
    kind: str
    commit: str
    title: str
    files: tuple[RepoFile, ...]
    """By path."""
    step: int | None
    """Step of the checkpoint, or the step whose rows these are."""
    whole: bool = False
    """Whether this is a checkpoint with all of its files."""

    @property
    def date(self) -> datetime:
        """When the release was published."""
        return self.facts.head.published_at


@dataclass(frozen=True)
class Ref:
    """A name of a revision."""

    name: str
    commit: str


@dataclass(frozen=True)
class Refs:
    """Steps as branches, labels as tags."""

    branches: list[Ref]
    tags: list[Ref]


def find_revision(session: Session, kind: str, run: str, name: str, settings: Settings | None = None) -> Revision:
    """The revision of a branch, label or commit. RunNotFound, RevisionNotFound with what there is instead.

    Rows of steps that lie elsewhere need ``settings``.
    """
    facts = load_repository(session, kind, run)
    if COMMIT.match(name):
        return _of_commit(session, kind, run, name, settings)
    if kind == DATASETS:
        return _data(session, facts, _data_step(facts, name), settings)
    return _model(session, facts, _checkpoint(facts, name))


def load_repository(session: Session, kind: str, run: str) -> ReleaseFacts:
    """The facts behind a repository; RunNotFound, also for the data of a run that has none."""
    facts = load_facts(session, run)
    if kind == DATASETS and not facts.chunks:
        raise RunNotFound(f"{run} has released no data.", "Its model repository has the same name.")
    return facts


def list_refs(session: Session, kind: str, run: str, settings: Settings | None = None) -> Refs:
    """Every checkpoint's step and label; of the data, the steps of checkpoints whose rows can be read here.

    Any other step of the data is a revision as well, but hundreds of thousands of branches would help nobody.
    """
    facts = load_repository(session, kind, run)
    if kind == DATASETS:
        commits = repository_data.step_commits(session, facts, settings)
        main = _data(session, facts, None, settings).commit
        return Refs([Ref("main", main), *(Ref(f"step-{step}", commit) for step, commit in commits.items())], [])
    return _model_refs(session, facts)


def list_commits(session: Session, revision: Revision) -> list[Revision]:
    """The revision and, of a model, every checkpoint before it, newest first."""
    if revision.kind == DATASETS or revision.step is None:
        return [revision]
    models = _all_models(session, revision.facts)
    steps = revision.facts.released_steps
    earlier = [models[c.id] for c in revision.facts.released if (c.row.step or 0) < revision.step] if steps else []
    return [revision, *reversed(earlier)]


def _of_commit(session: Session, kind: str, run: str, commit: str, settings: Settings | None) -> Revision:
    number = number_in(commit)
    for facts in _versions(session, run) if number is not None else ():
        found = _numbered(session, facts, kind, number or 0, settings)
        if found is not None and found.commit == commit:
            return found
    raise RevisionNotFound(
        f"{run} has no revision {commit}.", "Ask for its refs: the run may have been published anew."
    )


def _numbered(
    session: Session, facts: ReleaseFacts, kind: str, number: int, settings: Settings | None
) -> Revision | None:
    try:
        if kind == DATASETS:
            return _data(session, facts, number or None, settings)
        return _model(session, facts, _by_number(facts, number))
    except PortalError:
        # This version has no such step, or nobody can read its rows any more.
        return None


def _versions(session: Session, run: str) -> Iterator[ReleaseFacts]:
    facts = load_facts(session, run)
    yield facts
    for version in range(facts.head.version - 1, max(facts.head.version - 1 - KEPT_VERSIONS, 0), -1):
        try:
            yield load_facts(session, run, version)
        except NotFound:
            continue


def _checkpoint(facts: ReleaseFacts, name: str) -> CheckpointFact | None:
    """The checkpoint of a branch or label; None is `main` of a run that has released none."""
    if name == "main":
        there = [c for c in facts.checkpoints if not c.row.missing]
        return facts.released[-1] if facts.released else there[-1] if there else None
    step = _STEP.match(name)
    found = _at(facts, int(step[2]), bool(step[1])) if step else facts.labels.get(name)
    if found is None or found.row.missing:
        lost = " Its checkpoint was lost." if found else ""
        raise RevisionNotFound(f"{facts.run} has no revision {name[:200]!r}.{lost}", _instead(facts, step))
    return found


def _at(facts: ReleaseFacts, step: int, before: bool) -> CheckpointFact | None:
    if not before:
        return facts.checkpoint_at(step)
    return facts.checkpoint_before(step - 1) if 0 < step <= facts.last_step else None


def _instead(facts: ReleaseFacts, step: re.Match[str] | None) -> str:
    near = facts.nearest_steps(int(step[2])) if step else facts.released_steps[:1] + facts.released_steps[-1:]
    names = [f"step-{n}" for n in dict.fromkeys(near)]
    return f"There is {' and '.join(['main', *names])}." if names else "There is main."


def _data_step(facts: ReleaseFacts, name: str) -> int | None:
    """The step whose rows a name means; None is all data."""
    if name == "main":
        return None
    step = _STEP.match(name)
    label = facts.labels.get(name)
    if (step is None or step[1]) and (label is None or not label.row.step):
        raise RevisionNotFound(
            f"The data of {facts.run} has no revision {name[:200]!r}.",
            f"There is main, and step-1 to step-{facts.last_step}: what that step read.",
        )
    return int(step[2]) if step else (label.row.step if label else None)


def _data(session: Session, facts: ReleaseFacts, step: int | None, settings: Settings | None) -> Revision:
    if step is None:
        files = repository_data.chunks_of(session, facts)
        title = f"All data of {facts.run}"
        return Revision(facts, DATASETS, make_commit(canonical(facts.run, DATASETS, files), 0), title, files, None)
    if not 0 < step <= min(facts.last_step, STEP_LIMIT):
        raise RevisionNotFound(
            f"The data of {facts.run} has no revision step-{step}.", f"There is step-1 to step-{facts.last_step}."
        )
    commit, files = repository_data.rows_of_step(session, facts, step, settings)
    return Revision(facts, DATASETS, commit, f"What step {step} read", files, step)


def _model(session: Session, facts: ReleaseFacts, checkpoint: CheckpointFact | None) -> Revision:
    key = ("model", str(checkpoint.id if checkpoint else ""))
    if key not in facts.kept:
        condition = col(File.checkpoint_id) == (checkpoint.id if checkpoint else None)
        rows = load_files(session, facts.head.id, condition) if checkpoint else []
        facts.kept[key] = _made_model(facts, checkpoint, rows)
    found: Revision = facts.kept[key]
    return found


def _made_model(facts: ReleaseFacts, checkpoint: CheckpointFact | None, rows: Sequence[FileRow]) -> Revision:
    own = checkpoint_files(rows)
    card = made_file(_CARD, model_card(facts, checkpoint, own.unknown))
    files = in_order([*own.files, *_of_run(facts, {f.path for f in own.files}), card])
    commit = make_commit(canonical(facts.run, MODELS, files), _number(facts, checkpoint))
    step = checkpoint.row.step if checkpoint else None
    names = checkpoint.row.labels if checkpoint else []
    title = (
        f"After step {step}" if step is not None else f"Merged: {', '.join(names)}" if checkpoint else "No checkpoint"
    )
    return Revision(facts, MODELS, commit, title, files, step, bool(own.files) and not own.unknown)


def _of_run(facts: ReleaseFacts, there: set[str]) -> Iterator[RepoFile]:
    """Config and tokenizer of the run, where a checkpoint does not bring its own."""
    config = facts.head.model.get("config")
    yield from named_again(facts.loose_file(config) if isinstance(config, str) else None, "config.json")
    if there & {"tokenizer.json", "tokenizer.model", "vocab.json"} or facts.tokenizer is None:
        return
    name = facts.tokenizer.path.rsplit("/", 1)[-1]
    tokenizer = named_again(facts.tokenizer, "tokenizer.json" if name.endswith(".json") else name)
    yield from tokenizer
    if tokenizer and tokenizer[0].path == "tokenizer.json":
        # Without it, libraries guess a class by the architecture, which may add tokens of its own.
        yield made_file("tokenizer_config.json", _TOKENIZER)


def _number(facts: ReleaseFacts, checkpoint: CheckpointFact | None) -> int:
    if checkpoint is None:
        return NO_CHECKPOINT
    step = checkpoint.row.step
    if step is not None and step < STEP_LIMIT and facts.checkpoint_at(step) is checkpoint:
        return step
    return STEP_LIMIT + next(k for k, c in enumerate(facts.checkpoints) if c.id == checkpoint.id)


def _by_number(facts: ReleaseFacts, number: int) -> CheckpointFact | None:
    """The checkpoint of a number; None is the state of a run without any. RevisionNotFound for any other number."""
    if number == NO_CHECKPOINT:
        return None
    place = number - STEP_LIMIT
    listed = facts.checkpoints[place : place + 1] if place >= 0 else []
    found = facts.checkpoint_at(number) if place < 0 else listed[0] if listed else None
    if found is None:
        raise RevisionNotFound(f"{facts.run} has no revision of this commit.")
    return found


def _all_models(session: Session, facts: ReleaseFacts) -> dict[int, Revision]:
    """The revision of every checkpoint that was not lost, by its key; one query for those not made yet."""
    wanted = [c for c in facts.checkpoints if not c.row.missing]
    if any(("model", str(c.id)) not in facts.kept for c in wanted):
        rows = _rows_by_checkpoint(session, facts.head.id)
        for checkpoint in wanted:
            key = ("model", str(checkpoint.id))
            if key not in facts.kept:
                facts.kept[key] = _made_model(facts, checkpoint, rows.get(checkpoint.id, []))
    return {c.id: facts.kept["model", str(c.id)] for c in wanted}


def _rows_by_checkpoint(session: Session, release_id: int) -> dict[int, list[FileRow]]:
    found: dict[int, list[FileRow]] = defaultdict(list)
    for row in load_files(session, release_id, col(File.checkpoint_id).is_not(None)):
        found[row.checkpoint_id or 0].append(row)
    return found


def _model_refs(session: Session, facts: ReleaseFacts) -> Refs:
    models = _all_models(session, facts)
    main = _checkpoint(facts, "main")
    branches = [Ref("main", models[main.id].commit if main else _model(session, facts, None).commit)]
    for checkpoint in facts.released:
        if facts.checkpoint_at(checkpoint.row.step or 0) is checkpoint:
            branches.append(Ref(f"step-{checkpoint.row.step}", models[checkpoint.id].commit))
    taken = {"main"}
    tags = [
        Ref(label, models[c.id].commit)
        for label, c in facts.labels.items()
        if c.id in models and label not in taken and not _STEP.match(label) and not COMMIT.match(label)
    ]
    return Refs(branches, tags)
