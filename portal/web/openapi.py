"""The API's own description made true: every answer an operation may give, refusals included, with its media type.

FastAPI describes what it would answer itself; the portal answers errors as problem+json, reads some parameters by
hand and sends files. What follows from a route's shape is written here once, for every route; what does not, stands in
`MEDIA` and `ALSO`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from portal.web.problems import MEDIA_TYPE

EVERYWHERE = (400, 401, 403, 404, 414, 429, 431, 503)
"""Refusals that any operation may give: a wrong question, a closed door, nothing there, too long, too often, not now."""
WRITING = (408, 409, 413, 422, 507)
"""Besides, of what takes a body."""
_PARQUET, _OCTETS, _JSON = "application/vnd.apache.parquet", "application/octet-stream", "application/json"
MEDIA: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\.parquet$|/jobs/\{job\}/plan$", (_PARQUET, _OCTETS)),
    (r"\.csv$", ("text/csv",)),
    (r"/SHA256SUMS$|/log$", ("text/plain",)),
    (r"/(pair|checkpoint)\.\{kind\}$", ("application/metalink4+xml", "text/plain")),
    (r"\.zip$", ("application/zip",)),
    (r"/model\.sig$|/pair\.sig$|/signatures/\{key_id\}$", ("application/vnd.dev.sigstore.bundle.v0.3+json",)),
    (r"/provenance$", ("application/vnd.dsse.envelope.v1+json",)),
    (r"/portal-keys/\{key_id\}$", ("application/x-pem-file",)),
    (r"/croissant$", (_JSON, "application/ld+json")),
    (r"/tokens$", (_JSON, _OCTETS, _PARQUET, "application/jsonl")),
    (r"^/api/v1/r/", (_JSON, "application/x-bibtex", "application/yaml", _OCTETS, _PARQUET, "application/jsonl")),
    (r"/events$", (_JSON, "text/event-stream")),
    (r"/files/\{sha256\}/\{name\}$", (_OCTETS,)),
    (r"^/metrics$", ("text/plain",)),
)
"""Addresses -> media types of what they answer with; JSON where none is named."""
ALSO: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("GET", r"/files/\{sha256\}/\{name\}$|/plan$", (206, 302, 307, 416)),
    ("GET", r"/tokens$|/rows$|/tensors$|^/api/v1/r/|/search$|/pair|/plan$|/files/", (409, 413, 422)),
    ("GET", r"", (304,)),
    ("POST", r"/releases$", (200,)),
    ("POST", r"/jobs$", (200,)),
    ("POST", r"/lease$", (204,)),
    ("POST", r"/complete$", (202,)),
    ("PUT", r"/blobs/", (201, 202, 416)),
    ("GET", r"/readyz$", (503,)),
)
"""Further statuses by method and address."""
_EMPTY = (204, 302, 304, 307)


class DescribedAPI(FastAPI):
    """An application whose description says what it really answers."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = describe(super().openapi())
        return self.openapi_schema


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with every answer in it; changed in place."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = PROBLEM
    document["components"]["responses"] = {
        _name(status): {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": _ref("Problem")}}}
        for status in sorted({*EVERYWHERE, *WRITING, 416})
    }
    document["components"].setdefault("securitySchemes", {})["token"] = {"type": "http", "scheme": "bearer"}
    _tell_of_packed(schemas.get("SeriesBuckets", {}))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _describe(method.upper(), path, operation)
    return document


PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "An error (RFC 9457). Further members depend on the code.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "Where the code is explained."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and where."},
        "code": {"type": "string", "description": "Stable name of the kind of error."},
        "remedy": {"type": "string", "description": "What to do about it."},
    },
}


def _tell_of_packed(buckets: dict[str, Any]) -> None:
    """Columns come as {dtype, bdata} where base64 is asked for."""
    packed = {
        "type": "object",
        "required": ["dtype", "bdata"],
        "properties": {"dtype": {"type": "string"}, "bdata": {"type": "string", "format": "byte"}},
    }
    for name, column in buckets.get("properties", {}).items():
        if column.get("type") == "array" or any(kind.get("type") == "array" for kind in column.get("anyOf", ())):
            told = {key: value for key, value in column.items() if key in ("title", "description")}
            kinds = column.get("anyOf", [{k: v for k, v in column.items() if k not in told}])
            buckets["properties"][name] = {**told, "anyOf": [*kinds, packed]}


def _describe(method: str, path: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    for status, answer in list(answers.items()):
        _give_media(path, int(status), answer)
    for status in _statuses(method, path):
        if status < 400:
            answer = {"description": HTTPStatus(status).phrase}
            if status not in _EMPTY:
                best = next(iter(answers.values()))
                answer |= {"content": best.get("content", {})}
            answers.setdefault(str(status), answer)
        else:
            answers[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
    if method == "HEAD":
        answers = {status: {"description": HTTPStatus(int(status)).phrase} for status in answers}
    operation["responses"] = dict(sorted(answers.items()))


def _statuses(method: str, path: str) -> Iterator[int]:
    yield from EVERYWHERE
    if method in ("POST", "PUT", "PATCH", "DELETE"):
        yield from WRITING
    for wanted, pattern, statuses in ALSO:
        if wanted == method and re.search(pattern, path):
            yield from statuses


def _give_media(path: str, status: int, answer: dict[str, Any]) -> None:
    media = next((kinds for pattern, kinds in MEDIA if re.search(pattern, path)), None)
    if media is None or status in _EMPTY:
        return
    known = answer.get("content", {})
    answer["content"] = {kind: known.get(kind, {"schema": {}}) for kind in media}


def _name(status: int) -> str:
    return re.sub(r"[^A-Za-z]", "", HTTPStatus(status).phrase)


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
