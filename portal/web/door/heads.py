"""Limits on what stands before a request's body: its address, its headers, and the time they take to come."""

from __future__ import annotations

from starlette.types import Scope

from portal.errors import BadRequest, HeadersTooLarge, PortalError, UriTooLong

MAX_ADDRESS = 16 << 10
MAX_HEADERS = 32 << 10
MAX_FIELDS = 100
MAX_QUERY_PARTS = 1_000
HEAD_SECONDS = 15.0
"""Until the first byte of a connection and from the first to the last byte of a head."""


def head_fault(scope: Scope, told: dict[bytes, bytes]) -> PortalError | None:
    """What is too much about a head that has come whole; None for nearly all. ``told``: its headers by name."""
    headers = scope["headers"]
    size = sum(map(len, told.values()))
    if len(told) != len(headers):
        size = sum(len(value) for _, value in headers)
    if size > MAX_HEADERS or len(headers) > MAX_FIELDS:
        return headers_too_large()
    query, path = scope["query_string"], scope["path"]
    if "\x00" in path or b"%00" in query:
        # No name holds it, and PostgreSQL refuses to look for it.
        return BadRequest("The address holds the character NUL.", "Leave it out: nothing is named with it.")
    if len(query) + len(path) <= MAX_QUERY_PARTS:
        return None
    if len(query) + len(path) > MAX_ADDRESS:
        return address_too_long()
    if query.count(b"&") >= MAX_QUERY_PARTS:
        return BadRequest(f"The address has more than {MAX_QUERY_PARTS:,} parameters.", "Ask for less at once.")
    return None


def headers_too_large() -> PortalError:
    """The refusal of a head."""
    return HeadersTooLarge(
        f"The request's headers have more than {MAX_HEADERS >> 10} KiB, or are more than {MAX_FIELDS}.",
        "Send fewer cookies or headers.",
    )


def address_too_long() -> PortalError:
    """The refusal of an address."""
    return UriTooLong(f"The address has more than {MAX_ADDRESS >> 10} KiB.", "Ask for less at once.")
