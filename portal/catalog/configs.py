"""The config in force at a step, and what differs between two of them."""

from __future__ import annotations

from portal.catalog.answers import ConfigChange
from portal.catalog.facts import ConfigFact, ReleaseFacts
from portal.catalog.hyperparameters import flatten


def config_at(facts: ReleaseFacts, step: int) -> ConfigFact | None:
    """The config declared last among those in force; the initial model goes by the first step's."""
    step = max(step, 1)
    held = [c for c in facts.configs if c.first_step <= step and (c.last_step is None or step <= c.last_step)]
    return held[-1] if held else None


def changes_between(facts: ReleaseFacts, earlier: int, later: int) -> list[ConfigChange]:
    """Settings in force at ``later`` that were others at ``earlier``; empty where one of them has none recorded."""
    before, after = config_at(facts, earlier), config_at(facts, later)
    if before is None or after is None or before is after or not before.values or not after.values:
        return []
    old, new = flatten(before.values), flatten(after.values)
    return [
        ConfigChange(key, old.get(key), new.get(key), after.first_step)
        for key in dict.fromkeys([*old, *new])
        if key not in old or key not in new or old[key] != new[key]
    ]
