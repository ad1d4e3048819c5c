"""Help, versions, exit codes, and sentences instead of tracebacks."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from portal import __version__
from portal.cli import COMMANDS, _application, main
from portal.cli.refusals import explain
from portal.errors import Fault, ManifestRefused
from tests.builders import SmallRun
from tests.cli.conftest import Portal

PORTAL = [sys.executable, "-m", "portal"]


def test_version(portal: Portal) -> None:
    assert portal("--version") == (said := portal("--version"))
    assert (said.code, said.out) == (0, f"portal {__version__}\n")


def test_help_lists_every_command(portal: Portal) -> None:
    said = portal("--help")
    assert said.code == 0
    listed = [line.split()[0] for line in said.out.split("Commands:")[1].splitlines() if line[:3] > "   "]
    assert listed == list(COMMANDS)
    assert "..." not in said.out.split("Commands:")[1], "no line is cut"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    command = typer.main.get_command(_application([name])).commands[name]  # type: ignore[attr-defined]
    assert command.help.split("\n\n")[0] == COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_for_all_it_takes(portal: Portal, name: str) -> None:
    said = portal(name, "--help")
    assert (said.code, said.out.split()[:3]) == (0, ["Usage:", "portal", name])
    command = typer.main.get_command(_application([name])).commands[name]  # type: ignore[attr-defined]
    assert [p.name for p in command.params if not p.help] == []


def test_help_and_version_import_no_room() -> None:
    code = "import sys; from portal.cli import main; main(['--help']); main(['--version']);"
    code += (
        "print([m for m in sys.modules if m in ('portal.web','portal.client','portal.settings','numpy','sqlalchemy')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["frobnicate"], "frobnicate"),
        (["at"], "RUN"),
        (["at", "lab/small"], "STEP"),
        (["at", "lab/small", "-1"], "-1"),
        (["at", "lab/small", "1", "--nonsense"], "--nonsense"),
        (["pair", "lab/small", "5"], "--to"),
        (["pair", "lab/small", "5", "--to", "x", "--steps", "0"], "--steps"),
        (["serve", "--port", "99999"], "--port"),
        (["serve", "--workers", "0"], "--workers"),
    ],
)
def test_a_command_called_wrongly(portal: Portal, data: Path, arguments: list[str], word: str) -> None:
    said = portal(*arguments)
    assert (said.code, said.out) == (2, "")
    assert word in said.err


@pytest.mark.parametrize("collecting", [True, False])
def test_imports_leave_garbage_collection_as_it_was(portal: Portal, collecting: bool) -> None:
    try:
        (gc.enable if collecting else gc.disable)()
        portal("releases", "--json")
        assert gc.isenabled() is collecting
    finally:
        gc.enable()


def test_without_arguments_there_is_help(portal: Portal) -> None:
    said = portal()
    assert said.code == 2
    assert "Commands:" in said.out + said.err


@pytest.mark.parametrize(
    ("variable", "value", "word", "code"),
    [
        ("PORTAL_HASH_WORKERS", "many", "PORTAL_HASH_WORKERS", 2),
        ("PORTAL_SENDFILE", "pigeon", "PORTAL_SENDFILE", 2),
        ("PORTAL_DATABASE_URL", "nonsense", "PORTAL_DATABASE_URL", 2),
        ("PORTAL_DATABASE_URL", "oracle+nothing://x/y", "PORTAL_DATABASE_URL", 2),
        ("PORTAL_DATABASE_URL", "postgresql+psycopg://x@127.0.0.1:1/y", "Connection refused", 1),
        ("PORTAL_DATA", "/proc/nothing", "/proc/nothing", 1),
        ("PORTAL_URL", "localhost", "'localhost' is no address", 2),
        ("PORTAL_URL", "http://127.0.0.1:1", "does not answer", 1),
    ],
)
def test_settings_that_cannot_be_used(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, word: str, code: int
) -> None:
    monkeypatch.setattr("portal.client.api.FIRST_WAIT", 0.001)
    monkeypatch.setenv(variable, value)
    said = portal("runs")
    assert (said.code, said.out) == (code, "")
    assert word in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("body", [b"this is no database, it is a text of some length" * 30, b""])
def test_a_database_that_is_none(portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.setenv("PORTAL_DATA", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "portal.sqlite3").write_bytes(body)
    said = portal("scan", "lab/small")
    assert said.code == 1
    assert ("cannot be used" if body else "no run") in said.err
    assert len(said.err.splitlines()) == 1


def test_every_fault_of_a_manifest_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(ManifestRefused("x.yaml", [Fault(f"at[{k}]", "is wrong.", "Mend it.") for k in range(50)])) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 51
    assert lines[50] == "  at[49]: is wrong. Mend it."


def test_what_nobody_expected_is_not_hidden(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    def fail(_url: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("portal.cli.reading.open_portal", fail)
    with pytest.raises(ZeroDivisionError):
        main(["runs"])
    assert explain(OSError("no number and no file")) is None


@pytest.mark.parametrize("arguments", ["runs", "at lab/small 5 --json", "tokens lab/small 5 --json", "releases"])
def test_a_reader_that_leaves_early_is_no_error(small: SmallRun, arguments: str) -> None:
    ran = subprocess.Popen([*PORTAL, *arguments.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert ran.stdout is not None
    assert ran.stderr is not None
    ran.stdout.close()
    with ran.stderr as stderr:
        assert stderr.read() == b""
    assert ran.wait() == 1


def test_a_terminal_without_unicode_gets_escapes(small: SmallRun) -> None:
    ran = subprocess.run(
        [*PORTAL, "runs"], env={"PORTAL_DATA": str(small.folder.parent / "portal-data"), "PYTHONIOENCODING": "ascii"},
        capture_output=True, check=True,
    )  # fmt: skip
    assert ran.stdout.isascii()
    assert b"\\u2013" in ran.stdout
