"""Who asks, as a request shows it: by a token, or by a browser's cookie."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request

from portal.catalog.accounts import Caller
from portal.catalog.sessions import SignedIn
from portal.web.deps import get_desk

ASKER = "portal.asker"
"""Where a request carries who asks, once it is known."""


@dataclass(frozen=True)
class Asker:
    """Who asks; nobody in particular where nothing was shown, or nothing that is good."""

    caller: Caller | None = None
    """The holder of the token, or of the cookie's."""
    signed_in: SignedIn | None = None
    """Where it was a cookie."""
    secret: str | None = None
    """The token that was shown, good or not."""


NOBODY = Asker()


def asker_of(request: Request) -> Asker | None:
    """Who asks, as `KnowWhoAsks` found; None where it had no need to look."""
    found: Asker | None = request.scope.get(ASKER)
    return found


def bearer_of(request: Request) -> str | None:
    """The token the request brings, if any."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def cookie_name(request: Request) -> str:
    """With ``__Host-`` browsers take it only over TLS, from this very host, for all of it."""
    return "__Host-portal-session" if is_encrypted(request) else "portal-session"


def is_encrypted(request: Request) -> bool:
    """Whether readers reach the portal over TLS."""
    public = get_desk(request).settings.public_url
    return (urlsplit(public).scheme if public else request.url.scheme) == "https"
