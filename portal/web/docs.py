"""The API's description: OpenAPI with a page to read and try it, all of it served from here."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from portal.web.api_page import group_operations, list_errors, list_schemas
from portal.web.deps import PortalAddress
from portal.web.render import render

DESCRIPTION = """
Look inside fully open LLM training runs: what the model measured at a step, what it had just read, what it reads
next, and which checkpoint lies there.

**Steps** count optimizer updates from 1; step 0 is the initial model. A **checkpoint** is the state *after* its step.
A **pair** is a checkpoint with its data: `next` (what it reads next, to resume), `previous` (what it read since the
checkpoint before, to study) or `batch` (the rows of one step).

**Lists** answer `{"items": [...], "total": n, "next": cursor}`; pass `next` as `cursor`, or follow the `Link` header.

**Errors** are `application/problem+json` (RFC 9457). `code` is stable, `detail` says what is wrong, `remedy` what to
do; `nearest` names steps or names that do exist.

**Numbers** that are not finite are `null` in JSON; `special` or counts beside them say what they were.

Answers carry an `ETag`; send it back as `If-None-Match` to learn cheaply that nothing changed. Files are addressed by
their sha256, take `Range`, and say their digest in `Repr-Digest`.
"""

TAGS = [
    {"name": "runs", "description": "Training runs, their timeline and what is known about them as a whole."},
    {"name": "search", "description": "Anything by its name, number or hash."},
    {"name": "steps", "description": "What lies at one step, and the checkpoint and data that belong together there."},
    {
        "name": "moments",
        "description": "Short permanent addresses for papers, each pinned to a version of the release.",
    },
    {"name": "checkpoints", "description": "The state after a step, with its files."},
    {"name": "data", "description": "Chunks of training data and the rows one step read."},
    {"name": "metrics", "description": "Numbers by step, with their definitions; nothing is hidden by sampling."},
    {"name": "files", "description": "Bytes by their sha256."},
    {"name": "history", "description": "Who did what and when, each entry bound to the one before it."},
    {
        "name": "publishing",
        "description": "Runs come in: files by their sha256, then the manifest that makes them a release.",
    },
    {"name": "jobs", "description": "Training that goes on from a checkpoint, on workers attached to the portal."},
    {"name": "workers", "description": "What workers say: they attach themselves, lease jobs and tell how these go."},
    {"name": "access", "description": "Whose token it is, and tokens of one's own."},
    {"name": "portal", "description": "Whether the portal itself is well."},
]

router = APIRouter(include_in_schema=False)


@router.get("/api/docs")
def read_docs(request: Request, address: PortalAddress) -> Response:
    """The whole description as one page, from the same OpenAPI document that programs read."""
    openapi = request.app.openapi()
    schemas = list_schemas(openapi)
    context = {
        "description": DESCRIPTION,
        "groups": group_operations(openapi),
        "schemas": schemas,
        "schema_names": {schema.name for schema in schemas},
        "errors": list_errors(),
        "address": address,
        "openapi_url": request.app.openapi_url,
    }
    return render(request, "docs.html", context)
