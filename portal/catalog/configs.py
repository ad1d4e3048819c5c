"""The config in force at a step, and what differs between two of them."""

from __future__ import annotations

from sqlmodel import Session

from portal.catalog.answers import ConfigChange, ConfigTable, SettingRow
from portal.catalog.facts import ConfigFact, ReleaseFacts
from portal.catalog.hyperparameters import flatten, written
from portal.catalog.release import load_facts

MAX_COLUMNS = 20


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


def get_config_table(session: Session, run: str, text: str = "", differing: bool = False) -> ConfigTable:
    """Every setting of the first twenty configs, in the order they were written.

    ``text`` keeps those whose name or value contains it, whatever the case; ``differing`` those that change.
    """
    configs = [c for c in load_facts(session, run).configs if c.values][:MAX_COLUMNS]
    flat = [flatten(c.values) for c in configs]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    rows = [SettingRow(key, [one.get(key) for one in flat], _differs(key, flat)) for key in keys]
    needle = text.casefold()
    kept = [row for row in rows if (row.differs or not differing) and (not needle or _contains(row, needle))]
    return ConfigTable([(c.first_step, c.last_step) for c in configs], kept, len(rows))


def _differs(key: str, flat: list[dict[str, object]]) -> bool:
    return any(key not in one for one in flat) or len({written(one[key]) for one in flat}) > 1


def _contains(row: SettingRow, needle: str) -> bool:
    return needle in row.key.casefold() or any(needle in written(value).casefold() for value in row.values)
