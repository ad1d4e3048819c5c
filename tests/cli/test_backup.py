"""`portal backup` and `portal restore`: what they say, in words and in JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from portal.settings import Settings
from tests.backup.portals import put
from tests.builders import SmallRun
from tests.cli.conftest import Portal


def test_a_backup_is_made_listed_read_again_and_put_back(
    portal: Portal, small: SmallRun, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Settings(), tmp_path, b"a blob")
    place = tmp_path / "backups"
    made = portal("backup", place)
    assert (made.code, "store    1 files, 6 B" in made.out, "Not signed" in made.out) == (0, True, True), made.err
    assert "files of releases that lie in other folders of this machine" in made.out
    assert portal("keygen", tmp_path / "key").code == 0
    monkeypatch.setenv("PORTAL_SIGNING_KEY", str(tmp_path / "key"))
    told = portal("backup", place, "--keep", 1, "--with-signing-key", "--json").json
    assert (told["blobs"], told["copied"], told["lost"], len(told["forgotten"]["backups"])) == (1, 0, [], 1)
    assert told["id"] in portal("backup", place, "--list").out
    assert [one["id"] for one in portal("backup", place, "--list", "--json").json] == [told["id"]]
    seen = portal("backup", place, "--verify", "--key", tmp_path / "key.pub")
    assert (seen.code, f"{told['id']}: whole, signed by" in seen.out) == (0, True), seen.err
    monkeypatch.setenv("PORTAL_DATA", str(tmp_path / "into"))
    back = portal("restore", place)
    assert (back.code, "rows, as in the backup" in back.out) == (0, True), back.err
    assert "private key is" in back.out
    assert "lab/small" in portal("runs").out
    again = portal("restore", place)
    assert (again.code, "is not empty" in again.err) == (1, True)
    assert portal("doctor", "--quiet").code == 0


def test_what_is_wrong_is_told_with_its_name(portal: Portal, small: SmallRun, tmp_path: Path) -> None:
    lost = put(Settings(), tmp_path, b"a blob")
    path = Settings().data / "store" / "blobs" / "sha256" / lost[:2] / lost
    path.chmod(0o644)
    path.write_bytes(b"a blub")
    place = tmp_path / "backups"
    made = portal("backup", place)
    assert (made.code, lost in made.err, "The rest is safe." in made.err) == (1, True, True)
    assert "made without 1 things" in portal("backup", place, "--verify").out
    document = next((place / "backups").glob("*.json"))
    document.chmod(0o600)
    document.write_bytes(document.read_bytes().replace(b'"rows"', b'"wors"', 1))
    seen = portal("backup", place, "--verify")
    assert (seen.code, str(document) in seen.err) == (1, True)
    assert portal("backup", place, "--verify", "--list").code == 2
    assert portal("backup", tmp_path / "nowhere", "--list").code == 1
    assert portal("backup", place, "--with-signing-key").code == 2
