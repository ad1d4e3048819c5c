"""Rows by column: what both databases keep, ids nobody else gets, and rows that are there already."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine
from sqlmodel import select

from portal.catalog.bulk import insert_columns, next_ids
from portal.database import open_session
from portal.models import BlockDigests, Run

MOMENT = datetime(2026, 11, 21, 12, 30, 15, 250_000, tzinfo=UTC)


def test_rows_given_as_columns_are_kept_as_rows(engine: Engine) -> None:
    with open_session(engine) as session:
        ids = list(next_ids(session, Run, 3))
        more = {"version": [0, 1, 2], "revision": [0] * 3, "created_at": [MOMENT] * 3}
        insert_columns(session, Run, {"id": ids, "org": ["lab"] * 3, "name": ["a", "b", "é"], **more})
        session.commit()
        later = next_ids(session, Run, 2)
        assert len({*ids, *later}) == 5
        assert max(ids) < min(later)
        found = session.exec(select(Run).order_by(Run.id)).all()  # type: ignore[arg-type]
    assert [(r.id, r.org, r.name, r.version) for r in found] == list(
        zip(ids, ["lab"] * 3, "abé", range(3), strict=True)
    )
    assert {r.created_at.replace(tzinfo=UTC) for r in found} == {MOMENT}


def test_rows_that_are_there_already_are_left_alone(engine: Engine) -> None:
    def digests(*names: str, blocks: bytes) -> dict[str, list[object]]:
        n = len(names)
        same = {"size": [1] * n, "block_size": [8] * n, "algorithm": ["blake3"] * n}
        return {"sha256": list(names), **same, "digests": [blocks] * n}

    with open_session(engine) as session:
        insert_columns(session, BlockDigests, digests("a", "b", blocks=b"\0first"), unless_known="sha256")
        insert_columns(session, BlockDigests, digests("b", "c", blocks=b"second"), unless_known="sha256")
        insert_columns(session, BlockDigests, digests(blocks=b""), unless_known="sha256")
        session.commit()
        found = session.exec(select(BlockDigests).order_by(BlockDigests.sha256)).all()
    assert [(b.sha256, b.digests) for b in found] == [("a", b"\0first"), ("b", b"\0first"), ("c", b"second")]
