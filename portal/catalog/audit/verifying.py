"""The whole history checked from its first entry on, and against heads that were signed or that somebody kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select
from sqlmodel import Session, col

from portal.catalog.answers.audit import Break, HistoryReport
from portal.catalog.audit.chain import GENESIS, Change, link
from portal.catalog.audit.heads import list_kept_heads
from portal.errors import DataFault, PortalError
from portal.models import AuditEntry, PortalKey
from portal.signing.envelopes import read
from portal.signing.heads import read_head
from portal.signing.keys import PublicKey

BATCH = 10_000
"""Entries read at a time."""
Keys = Mapping[str, PublicKey]
"""Keys that are believed, by their id."""
_ENTRIES: Any = AuditEntry.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Witness:
    """What somebody says an entry's hash was."""

    seq: int
    hash: str
    who: str
    """For sentences: ``the head signed by key 1234…``."""
    fault: str = ""
    """Why it cannot be believed; empty where it can."""


def load_keys(session: Session) -> dict[str, PublicKey]:
    """Every key the portal ever signed with, by its id."""
    return {row.key_id: PublicKey.read(row.public_key) for row in session.execute(select(PortalKey)).scalars()}


def verify_history(
    session: Session,
    keys: Keys,
    kept: Sequence[Witness] = (),
    progress: Callable[[int], None] = lambda _entries: None,
) -> HistoryReport:
    """Follow the chain from the first entry and stop at the first place where it is not what it was.

    Heads that the portal signed are compared where one of ``keys`` made the signature; so are those in ``kept``.
    ``progress`` is told after each batch how many entries were good.
    """
    started = time.perf_counter()
    signed = list(_signed_heads(session, keys))
    witnesses: dict[int, list[Witness]] = {}
    for witness in (*signed, *kept):
        witnesses.setdefault(witness.seq, []).append(witness)
    last, prev, broken = 0, GENESIS, _at_genesis(witnesses.pop(0, []))
    for row in _rows(session, progress) if broken is None else ():
        broken = _fault(row, last, prev) or _contradicted(row[0], row[8], witnesses.pop(row[0], ()))
        if broken:
            break
        last, prev = row[0], row[8]
    if broken is None and witnesses:
        broken = _cut_off(last, max(witnesses.items())[1][0])
    used = sorted({w.who.rpartition(" ")[2] for w in signed})
    return HistoryReport(last, prev, len(signed), used, broken, time.perf_counter() - started)


def read_witness(text: bytes, who: str, keys: Keys) -> Witness:
    """A head that was kept: the answer of ``/api/v1/audit/head``, the envelope in it alone, or a pair's ``pair.json``.

    DataFault when it is neither; IntegrityError where it is signed, and by none of ``keys``.
    """
    try:
        document = orjson.loads(text)
        document = document.get("history", document)
        envelope = document if "payloadType" in document else document.get("envelope")
        if envelope is None:
            return Witness(int(document["seq"]), str(document["hash"]), who)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataFault(f"{who} is no head of a history.", "`portal audit head --json` writes one.") from None
    seq, bound = _checked(orjson.dumps(envelope), keys)
    return Witness(seq, bound, who)


def _signed_heads(session: Session, keys: Keys) -> Iterator[Witness]:
    """Heads in the database as witnesses; those of keys that are not believed are left out."""
    for seq, bound, key_id, envelope in list_kept_heads(session):
        if key_id not in keys:
            continue
        who, fault = f"the head signed by key {key_id}", ""
        try:
            if _checked(envelope.encode(), {key_id: keys[key_id]}) != (seq, bound):
                fault = f"The signature kept for entry {seq} is over another head."
        except PortalError as error:
            fault = f"The signature kept for entry {seq} is not good: {error.message}"
        yield Witness(seq, bound, who, fault)


def _checked(envelope: bytes, keys: Keys) -> tuple[int, str]:
    signed = read(envelope)
    key = keys.get(signed.key_id)
    if key is None:
        raise DataFault(
            f"The head was signed by key {signed.key_id[:16]}…, which is none of this portal's.",
            "Name the public key it was signed with: --key FILE.",
        )
    return read_head(signed.check(key))


def _rows(session: Session, progress: Callable[[int], None]) -> Iterator[tuple[Any, ...]]:
    last = 0
    while True:
        asked = select(_ENTRIES).where(col(AuditEntry.seq) > last).order_by(col(AuditEntry.seq)).limit(BATCH)
        batch = session.execute(asked).all()
        for row in batch:
            yield tuple(row)
        if len(batch) < BATCH:
            return
        last = batch[-1][0]
        progress(last)


def _fault(row: tuple[Any, ...], last: int, prev: str) -> Break | None:
    seq, said_prev, at_ms, actor, action, what, run, detail, bound = row
    if seq != last + 1:
        gone = f"Entry {last + 1} is" if seq == last + 2 else f"Entries {last + 1} to {seq - 1} are"
        return Break(last + 1, f"{gone} gone: entry {seq} comes next.")
    if said_prev != prev:
        return Break(
            seq, f"Entry {seq} does not follow {f'entry {last}' if last else 'nothing'}: one of the two was altered."
        )
    if link(prev, seq, Change(at_ms, actor, action, what, run, detail)) != bound:
        return Break(seq, f"Entry {seq} was altered: its hash is not that of what it says.")
    return None


def _contradicted(seq: int, bound: str, witnesses: Sequence[Witness]) -> Break | None:
    for witness in witnesses:
        if witness.fault:
            return Break(seq, witness.fault)
        if witness.hash != bound:
            return Break(seq, f"Entry {seq} is not the one that {witness.who} knows: the history was written anew.")
    return None


def _cut_off(last: int, witness: Witness) -> Break:
    end = f"The history ends with entry {last}" if last else "The history is empty"
    return Break(last + 1, f"{end}; {witness.who} knows of entry {witness.seq}: the newest entries are gone.")


def _at_genesis(witnesses: Sequence[Witness]) -> Break | None:
    """A head of an empty history says nothing but that."""
    return _contradicted(0, GENESIS, witnesses)
