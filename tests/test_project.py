"""Promises of the repository itself: documented settings, lock files without hosts, files that ship in the wheel."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from portal.settings import Settings
from tests.conftest import REPOSITORY

REGISTRY_HOSTS = ("py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com")


def committed_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    return [REPOSITORY / name for name in listed.decode().split("\0") if name and (REPOSITORY / name).is_file()]


def test_every_setting_is_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    undocumented = [name for name in Settings.model_fields if f"`PORTAL_{name.upper()}`" not in readme]
    assert undocumented == []


def test_the_readme_names_no_setting_that_does_not_exist() -> None:
    named = set(re.findall(r"^\| `PORTAL_([A-Z_]+)`", (REPOSITORY / "README.md").read_text(), re.MULTILINE))
    assert named <= {name.upper() for name in Settings.model_fields}


def test_committed_files_name_no_package_registry() -> None:
    if not (REPOSITORY / ".git").exists():
        # Whoever unpacks a source archive runs the tests, too; what an archive holds was checked where it was made.
        pytest.skip("git is missing: a source archive has no list of committed files")
    guilty = [
        str(path.relative_to(REPOSITORY))
        for path in committed_files()
        if any(host.encode() in path.read_bytes() for host in REGISTRY_HOSTS)
    ]
    assert guilty == []


def test_lock_files_pin_every_package_with_a_hash() -> None:
    for name in ("build.txt", "prod.txt", "dev.txt"):
        text = (REPOSITORY / "requirements" / name).read_text()
        pinned = re.findall(r"^[a-z0-9][^\s]*==", text, re.MULTILINE)
        entries = re.split(r"\n(?=[a-z0-9])", text)
        assert len(pinned) > 2
        assert all("--hash=sha256:" in entry for entry in entries if "==" in entry.split("\n")[0])
        assert "://" not in text


@pytest.mark.parametrize("variable", ["PORTAL_DATA", "PORTAL_URL"])
def test_settings_come_from_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "elsewhere")
    assert str(getattr(Settings(), variable.removeprefix("PORTAL_").lower())) == "elsewhere"


def test_settings_come_from_portal_toml_below_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "portal.toml").write_text('hash_workers = 3\nurl = "from-file"\n')
    monkeypatch.setenv("PORTAL_URL", "from-environment")
    settings = Settings()
    assert (settings.hash_workers, settings.url) == (3, "from-environment")
