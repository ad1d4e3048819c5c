"""`portal token`: made, listed, revoked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Portal


def test_a_token_is_shown_once_and_listed_without_its_secret(portal: Portal, data: Path) -> None:
    made = portal("token", "create", "--role", "publisher", "--name", "ada", "--org", "lab", "--expires", "30d")
    assert made.code == 0, made.err
    secret = made.out.strip()
    assert secret.startswith("llm360_")
    listed = portal("token", "list")
    assert "ada" in listed.out
    assert "active" in listed.out
    assert secret not in listed.out
    (view,) = portal("token", "list", "--json").json
    assert (view["role"], view["organisation"], view["state"]) == ("publisher", "lab", "active")
    assert portal("token", "revoke", view["prefix"]).code == 0
    assert portal("token", "list", "--json").json[0]["state"] == "revoked"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "--role", "king"), "reader, publisher"),
        (("create", "--role", "reader", "--expires", "soon"), "30d"),
        (("create", "--role", "reader", "--org", "../x"), "organisation"),
        (("create", "--role", "reader", "--name", "a\x1b[2J"), "printable"),
        (("revoke", "nobody"), "portal token list"),
    ],
)
def test_what_cannot_be_done_is_said(portal: Portal, data: Path, arguments: tuple[str, ...], said: str) -> None:
    refused = portal("token", *arguments)
    assert refused.code in (1, 2)
    assert said in refused.err
    assert len(refused.err.strip().splitlines()) == 1
