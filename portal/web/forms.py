"""Forms of pages: what a browser sends when it submits one."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from starlette.datastructures import QueryParams

from portal.errors import BadRequest, TooLarge

MAX_FORM = 1 << 20
MAX_FIELDS = 20_000
_KIND = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> QueryParams:
    """The fields of an urlencoded form, as they came. BadRequest for anything else, TooLarge beyond 1 MiB."""
    kind = request.headers.get("content-type", _KIND).partition(";")[0].strip().lower()
    if kind != _KIND:
        raise BadRequest(f"This address takes forms, not {kind[:100]}.", "Programs use the JSON API: /api/docs.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM:
            raise TooLarge("A form has at most 1 MiB.", "Send less, or use the JSON API.", limit=MAX_FORM)
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BadRequest("The form cannot be read.", "It is UTF-8, and has at most 20,000 fields.") from None
    return QueryParams(pairs)


Form = Annotated[QueryParams, Depends(read_form)]
"""In a route's signature: the fields that were sent."""
