"""Facts of a run as whoever asks may see them: not at all, or without the private runs that they name."""

from __future__ import annotations

from dataclasses import replace

from portal.catalog.facts import CheckpointFact, ReleaseFacts
from portal.catalog.sight import current_sight


def seen_facts(facts: ReleaseFacts) -> ReleaseFacts | None:
    """The facts; without the names of private parents that are not seen, None for a run that is not."""
    sight = current_sight()
    if sight.everything:
        return facts
    if not sight.sees(facts.run, facts.private_to):
        return None
    hidden = frozenset(name for name, owner in facts.private_parents.items() if not sight.sees(name, owner))
    return _without(facts, hidden) if hidden else facts


def named_runs(facts: ReleaseFacts) -> set[str]:
    """Other runs that a release says it began from."""
    merged = (parent.get("run") for checkpoint in facts.checkpoints for parent in checkpoint.parents)
    return {str(name) for name in (facts.head.parent_run, *merged) if name and name != facts.run}


def _without(facts: ReleaseFacts, hidden: frozenset[str]) -> ReleaseFacts:
    key = ("without", *sorted(hidden))
    if key not in facts.kept:
        head = facts.head
        if head.parent_run in hidden:
            head = replace(head, parent_run=None, parent_step=None)
        fresh = {c.id: _cut(c, hidden) for c in facts.checkpoints}
        facts.kept[key] = replace(
            facts,
            head=head,
            checkpoints=[fresh[c.id] for c in facts.checkpoints],
            released=[fresh[c.id] for c in facts.released],
            labels={label: fresh[c.id] for label, c in facts.labels.items()},
            # What was worked out of the whole facts may name what is left out here.
            kept={},
        )
    found: ReleaseFacts = facts.kept[key]
    return found


def _cut(checkpoint: CheckpointFact, hidden: frozenset[str]) -> CheckpointFact:
    left = [p for p in checkpoint.parents if p.get("run") not in hidden]
    return checkpoint if len(left) == len(checkpoint.parents) else replace(checkpoint, parents=left)
