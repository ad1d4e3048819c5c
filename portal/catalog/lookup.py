"""Find anything by its name, number or hash: inside one run, or among all that are published."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session

from portal.catalog import lookup_all, lookup_run
from portal.catalog.answers import SearchAnswer, SearchGroup, SearchHit
from portal.catalog.paging import check_text
from portal.catalog.release import load_facts
from portal.catalog.wishes import LONGEST, SHORTEST_HASH, Wish, read_wish, split_run

SHOWN = 10
COUNTED = 200
"""Counting of one kind stops here: nobody reads further, and a short query would count the whole catalog."""

JUMPS = ("run", "step", "checkpoint", "chunk", "file")
"""Kinds with a page of their own."""


def search(session: Session, query: str, run: str | None = None, shown: int = SHOWN) -> SearchAnswer:
    """Everything that answers ``query``, by kind, at most ``shown`` of each.

    In a run (or where the query begins with one, ``org/name 12000``) its facts are searched; among all runs at most
    nine queries, each of them bounded. RunNotFound when ``run`` is none.
    """
    check_text(query, "q")
    wish = read_wish(query)
    if run is None and len(query) <= LONGEST and (named := split_run(query)) and lookup_all.has_run(session, named[0]):
        run, wish = named[0], read_wish(named[1])
    facts = load_facts(session, run) if run is not None else None
    notes = _notes(wish, len(query))
    if not wish.text or len(query) > LONGEST:
        return SearchAnswer(query, run, [], notes)
    if facts is None:
        found = lookup_all.find(session, wish, COUNTED + 1)
        if wish.tokens is not None or wish.step is not None:
            notes.append("A step belongs to a run: open one and search there, or write the run first: org/name 12000.")
    else:
        found = lookup_run.find(session, facts, wish, COUNTED + 1)
        notes += lookup_run.missed(facts, wish)
    return SearchAnswer(query, run, [_group(kind, hits, shown) for kind, hits in found.items() if hits], notes)


def only_exact(answer: SearchAnswer) -> SearchHit | None:
    """The one thing with a page of its own that the query names exactly; None where it names none or several."""
    exact = [hit for group in answer.groups if group.kind in JUMPS for hit in group.hits if hit.exact]
    return exact[0] if len(exact) == 1 else None


def _group(kind: str, hits: Sequence[SearchHit], shown: int) -> SearchGroup:
    first = sorted(hits, key=lambda hit: not hit.exact)[:shown]
    return SearchGroup(kind, first, min(len(hits), COUNTED), len(hits) <= COUNTED)


def _notes(wish: Wish, length: int) -> list[str]:
    if length > LONGEST:
        return [f"The query has {length:,} characters. No name is longer than {LONGEST}, so nothing was looked up."]
    if wish.quoted:
        return [
            "Searching the text a model read is not built yet. "
            "What follows was found among names, numbers and hashes only."
        ]
    looks_hex = 4 <= len(wish.text) < SHORTEST_HASH and all(c in "0123456789abcdef" for c in wish.text.lower())
    if looks_hex and wish.step is None and any(c.isdigit() for c in wish.text):
        return [f"For a file by its sha256, give at least {SHORTEST_HASH} digits of it."]
    return []
