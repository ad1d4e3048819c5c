"""Addresses of questions and files: put together, quoted, and as messages may show them."""

from __future__ import annotations

from urllib.parse import quote, urljoin

from portal.errors import Unavailable, UsageError


def run_path(run: str) -> str:
    """Where a run lies below the API; UsageError for what is not ``org/name``."""
    org, slash, name = run.partition("/")
    if not (org and slash and name) or "/" in name:
        raise UsageError(f"{run!r} is no run.", "A run is named org/name, e.g. llm360/amber.")
    return f"/runs/{path_part(org)}/{path_part(name)}"


def path_part(value: int | str) -> str:
    """One part of a path, quoted; UsageError for what would lead to another question."""
    text = str(value)
    if text in ("", ".", "..") or "/" in text:  # would change the address's path, and so the question
        raise UsageError(f"{text!r} names nothing.", "Give a run as org/name, and a step as a number.")
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def joined(address: str, url: str) -> str:
    """Where ``url`` leads from ``address``; Unavailable when it is no address."""
    try:
        return urljoin(address, url)
    except ValueError as error:
        raise Unavailable(f"{url!r} is no address: {error}.", "Report it to the portal's operator.") from None


def shown(address: str) -> str:
    """An address as messages and reports may hold it: what is signed in a query opens the file for whoever reads it."""
    return address.partition("?")[0]
