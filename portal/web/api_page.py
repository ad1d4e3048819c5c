"""The API's description as a page: OpenAPI read once into what a template can list."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from markupsafe import Markup, escape

from portal.errors import PortalError

_MARK = re.compile(r"\*\*(?P<strong>.+?)\*\*|\*(?P<em>[^*\s][^*]*)\*|`(?P<code>.+?)`", re.DOTALL)


@dataclass(frozen=True)
class Parameter:
    """One parameter of an operation."""

    name: str
    place: str
    kind: str
    required: bool
    default: str
    description: str


@dataclass(frozen=True)
class Operation:
    """One method of one address."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Parameter]
    answers: str
    """Name of the schema it answers with, empty for bytes and pages."""


@dataclass(frozen=True)
class OperationGroup:
    """Operations about one thing."""

    name: str
    description: str
    operations: list[Operation]


@dataclass(frozen=True)
class Member:
    """One member of an answer."""

    name: str
    kind: str
    description: str


@dataclass(frozen=True)
class Schema:
    """One kind of answer."""

    name: str
    description: str
    members: list[Member]


@dataclass(frozen=True)
class ErrorKind:
    """One stable error code."""

    code: str
    status: int
    phrase: str
    meaning: str


def group_operations(openapi: dict[str, Any]) -> list[OperationGroup]:
    """Operations by tag, in the order of the description."""
    by_tag: dict[str, list[Operation]] = {tag["name"]: [] for tag in openapi.get("tags", [])}
    for path, methods in openapi.get("paths", {}).items():
        for method, about in methods.items():
            by_tag.setdefault(next(iter(about.get("tags", [])), "other"), []).append(_operation(path, method, about))
    said = {tag["name"]: tag.get("description", "") for tag in openapi.get("tags", [])}
    return [OperationGroup(name, said.get(name, ""), found) for name, found in by_tag.items() if found]


def list_schemas(openapi: dict[str, Any]) -> list[Schema]:
    """Kinds of answers by name."""
    schemas = openapi.get("components", {}).get("schemas", {})
    return [
        Schema(
            _plain(name),
            about.get("description", ""),
            [
                Member(member, _kind(kind), kind.get("description", ""))
                for member, kind in about.get("properties", {}).items()
            ],
        )
        for name, about in sorted(schemas.items())
    ]


def list_errors() -> list[ErrorKind]:
    """Every error code the portal answers with, by status."""
    found: dict[str, ErrorKind] = {}
    waiting: list[type[PortalError]] = [PortalError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        meaning = (kind.__doc__ or "").split("\n")[0]
        found.setdefault(kind.code, ErrorKind(kind.code, kind.status, HTTPStatus(kind.status).phrase, meaning))
    return sorted(found.values(), key=lambda e: (e.status, e.code))


def paragraphs(text: str) -> Markup:
    """The little Markdown that descriptions use (paragraphs, bold, code) as markup."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text) if block.strip()]
    return Markup("").join(Markup("<p>{}</p>").format(inline(block)) for block in blocks)


def inline(text: str) -> Markup:
    """Strong and emphasised words and code of one line of Markdown as markup."""
    parts: list[Markup] = []
    at = 0
    for found in _MARK.finditer(text):
        parts.append(escape(text[at : found.start()]))
        name = found.lastgroup or "code"
        parts.append(Markup("<{0}>{1}</{0}>").format(Markup(name), found[name]))  # noqa: S704
        at = found.end()
    return Markup("").join([*parts, escape(text[at:])])


def _operation(path: str, method: str, about: dict[str, Any]) -> Operation:
    content = about.get("responses", {}).get("200", {}).get("content", {})
    return Operation(
        anchor=about.get("operationId", f"{method}-{path}"),
        method=method.upper(),
        path=path,
        summary=about.get("summary", ""),
        description=about.get("description", ""),
        parameters=[_parameter(p) for p in about.get("parameters", [])],
        answers=_kind(content.get("application/json", {}).get("schema", {})),
    )


def _parameter(about: dict[str, Any]) -> Parameter:
    schema = about.get("schema", {})
    default = schema.get("default")
    return Parameter(
        name=about["name"],
        place=about["in"],
        kind=_kind(schema),
        required=bool(about.get("required")),
        default="" if default is None else str(default),
        description=about.get("description", ""),
    )


def _kind(schema: dict[str, Any]) -> str:
    """A type in words: ``integer or null``, ``list of FileView``."""
    if "$ref" in schema:
        return _plain(schema["$ref"].rsplit("/", 1)[-1])
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", ""))


def _plain(name: str) -> str:
    """``Page_RunSummary_`` as ``Page of RunSummary``."""
    return re.sub(r"^(\w+?)_(\w+)_$", r"\1 of \2", name)
