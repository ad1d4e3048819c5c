"""Which place of a file is read and shown where it lies in several."""

from __future__ import annotations

import pytest
from sqlmodel import select

from portal.catalog.files import STORE, FilePlace, FileRow, Links, find_file, place_in_reach
from portal.database import create_database_engine, open_session
from portal.models import File, FileLocation
from portal.settings import Settings
from tests.builders import many_checkpoints

HERE, FAR = "file:///r/w.bin", "s3://bucket/w.bin"


def row(*places: tuple[str, str]) -> FileRow:
    return FileRow(
        1,
        None,
        None,
        "w.bin",
        "weights",
        3,
        "0" * 64,
        tuple(FilePlace(uri, state, None, None) for uri, state in places),
    )


@pytest.mark.parametrize(
    ("places", "read"),
    [
        ([(HERE, "verified"), (FAR, "verified")], HERE),
        ([(HERE, "changed"), (FAR, "verified")], FAR),
        ([(HERE, "changed"), (FAR, "unverified")], FAR),
        ([(HERE, "changed"), (FAR, "changed")], HERE),
        ([(HERE, "changed"), ("file:///store/w", "verified"), (FAR, "verified")], "file:///store/w"),
        ([(HERE, "missing"), (FAR, "verified")], FAR),
        ([(HERE, "changed")], HERE),
        ([(HERE, "missing")], None),
    ],
)
def test_a_good_copy_is_read_before_a_damaged_one(places: list[tuple[str, str]], read: str | None) -> None:
    found = place_in_reach(row(*places))
    assert (found.uri if found else None) == read


def test_both_states_are_shown() -> None:
    view = Links().file_view(row((HERE, "changed"), (FAR, "verified")))
    assert (view.location, view.state) == (FAR, "verified")
    assert [(c.location, c.state) for c in view.copies] == [("local", "changed")]


def test_the_portals_own_bucket_is_named_to_whom_is_sent_there() -> None:
    own, other = f"s3://bucket/own/sha256/00/{'0' * 64}", "s3://bucket/owner/w.bin"
    # Where a signed address tells bucket and key anyway, and where bytes come through the portal.
    for remote_files, shown in (("redirect", own), ("proxy", STORE)):
        settings = Settings(storage_url="s3://bucket/own", remote_files=remote_files)
        view = Links.of(settings).file_view(row((own, "verified"), (other, "changed")))
        assert (view.location, [c.location for c in view.copies]) == (shown, [other])
    assert (
        Links.of(Settings(storage_url="store", remote_files="proxy")).file_view(row((own, "verified"))).location == own
    )


def test_what_the_portal_keeps_itself_is_read_before_other_buckets(sqlite_settings: Settings) -> None:
    engine = create_database_engine(sqlite_settings)
    files = [{"path": "s3://a/w.bin", "size": 3, "sha256": "0" * 64, "role": "weights"}]
    many_checkpoints(engine, sqlite_settings, "lab/mirrored", 1, checkpoints=[{"step": 1, "files": files}])
    with open_session(engine) as session:
        file = session.exec(select(File).where(File.sha256 == "0" * 64)).one()
        session.add(FileLocation(file_id=file.id, uri=f"s3://own/sha256/00/{'0' * 64}", state="verified"))
        session.commit()
        found = place_in_reach(find_file(session, "0" * 64))
    engine.dispose()
    assert found is not None
    assert found.uri.startswith("s3://own/")
