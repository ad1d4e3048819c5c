"""What compose.yaml and its neighbours promise without an engine: no secret, nobody is root, everything is waited for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from portal.settings import Settings
from portal.web.files import XACCEL_PREFIX
from tests.conftest import REPOSITORY

FILES = {"compose.yaml": REPOSITORY / "compose.yaml", "bridges.yaml": REPOSITORY / ".compose" / "bridges.yaml"}
SECRET = re.compile(r"PASS|SECRET|TOKEN|CREDENTIAL|KEY")
OVERRIDES = {"bridges.yaml": {"web", "worker"}}
"""Services that a second file only changes."""


class Loader(yaml.SafeLoader):
    """Compose's own tags are read as what they stand before."""


Loader.add_constructor("!reset", lambda loader, node: loader.construct_sequence(node))


def services(file: str) -> dict[str, Any]:
    read = yaml.load(FILES[file].read_text(), Loader)  # noqa: S506 - a SafeLoader
    return {name: body for name, body in read["services"].items() if name not in OVERRIDES.get(file, set())}


EACH = [(file, name) for file in FILES for name in services(file)]


@pytest.fixture(params=EACH, ids=lambda pair: "/".join(pair))
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    file, name = request.param
    found: dict[str, Any] = services(file)[name]
    return found


def test_nobody_is_root_and_nothing_can_be_gained(service: dict[str, Any]) -> None:
    user = service["user"]
    assert re.fullmatch(r"(\$\{CLUSTER_USER:-)?[1-9]\d*:[1-9]\d*\}?", user)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_each_tells_its_health_or_ends(service: dict[str, Any]) -> None:
    once = service["restart"] == "no"
    assert once != ("healthcheck" in service)


def test_no_value_is_a_secret(service: dict[str, Any]) -> None:
    for name, value in service.get("environment", {}).items():
        if SECRET.search(name):
            assert re.fullmatch(r"/keys/[a-z0-9./]+", value), name
    assert "env_file" not in service


def test_images_are_pinned(service: dict[str, Any]) -> None:
    name, _, tag = service["image"].partition(":")
    assert tag == "local" if name.startswith("llm360-portal") else re.match(r"\d", tag)


@pytest.mark.parametrize("file", FILES)
def test_no_secret_is_written_anywhere(file: str) -> None:
    text = FILES[file].read_text()
    assert "llm360_" not in text
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text), "a password in an address"


def test_each_image_is_built_once() -> None:
    every = [body for file in FILES for body in services(file).values()]
    built = [body["image"] for body in every if "build" in body]
    assert len(built) == len(set(built))
    assert {body["image"] for body in every if body["image"].endswith(":local")} == set(built)


def test_whatever_ends_is_waited_for() -> None:
    """`up --wait` takes a service that has ended for a failure unless another one depends on its end."""
    every = services("compose.yaml")
    once = {name for name, body in every.items() if body["restart"] == "no"}
    waited = {
        name
        for body in every.values()
        for name, how in body.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert once == waited


def test_only_the_portal_is_reached_and_only_from_this_machine_unless_told() -> None:
    for file in FILES:
        for name, body in services(file).items():
            published = body.get("ports", [])
            assert not published or name in ("web", "proxy")
            assert all(port.startswith("${WEB_BIND:-127.0.0.1}:") for port in published)


def test_what_asks_for_no_password_is_on_closed_networks() -> None:
    read = yaml.safe_load(FILES["compose.yaml"].read_text())
    closed = {name for name, how in read["networks"].items() if how and how.get("internal")}
    for name in ("db", "s3", "migrate", "worker", "demo"):
        assert set(read["services"][name]["networks"]) <= closed


def test_the_portal_is_told_nothing_it_does_not_know() -> None:
    known = {f"PORTAL_{name.upper()}" for name in Settings.model_fields}
    for file in FILES:
        for name in ("migrate", "web"):
            body = yaml.load(FILES[file].read_text(), Loader)["services"].get(name, {})  # noqa: S506 - a SafeLoader
            assert {n for n in body.get("environment", {}) if n.startswith("PORTAL_")} <= known


def test_every_variable_is_told_of_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    named = {name for file in FILES.values() for name in re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", file.read_text())}
    assert {name for name in named if f"`{name}`" not in readme} == set()


def test_the_recipe_copies_what_the_build_is_shown() -> None:
    recipe = (REPOSITORY / ".compose" / "Dockerfile").read_text()
    shown = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [line.split()[1:-1] for line in recipe.splitlines() if line.startswith("COPY ") and "--from" not in line]
    sources = {Path(source).parts[0] for sources in copied for source in sources}
    assert sources == shown
    assert "# syntax" not in recipe
    users = [line for line in recipe.splitlines() if line.startswith("USER ")]
    assert users[-1] == "USER 10001:10001"


def test_nginx_sends_what_the_portal_names() -> None:
    told = (REPOSITORY / ".compose" / "nginx.conf").read_text()
    assert f"location ~ ^{XACCEL_PREFIX}(?<local>/(data|releases)/" in told
    assert "internal;" in told
