"""Whether an unsafe request comes from the portal's own pages: a cookie alone must not act for whoever carries it."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request

from portal.errors import Forbidden
from portal.web.deps import get_desk


def comes_from(request: Request) -> str:
    """``own``, ``foreign``, or ``unsaid`` where the client names no page (a program, or a browser of before 2020).

    Browsers send `Sec-Fetch-Site` to trustworthy addresses, and `Origin` with every POST.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return "foreign"
    origin = request.headers.get("origin")
    if origin is not None:
        return "own" if _is_own(request, origin) else "foreign"
    return "unsaid" if site is None else "own"


def check_same_origin(request: Request, unsaid: bool = False) -> None:
    """Forbidden for a request from another site's page; with ``unsaid`` one that names none is let in."""
    found = comes_from(request)
    if found == "foreign" or (found == "unsaid" and not unsaid):
        raise Forbidden("This request comes from another site's page.", "Use the portal's own pages, or a token.")


def _is_own(request: Request, origin: str) -> bool:
    there = urlsplit(origin)
    public = urlsplit(get_desk(request).settings.public_url)
    own = [(request.url.scheme, request.headers.get("host", ""))]
    # Behind a proxy that ends TLS this process sees http, and the page's own scheme is told by PORTAL_PUBLIC_URL alone.
    own += [("https", request.headers.get("host", "")), (public.scheme, public.netloc)]
    return bool(there.netloc) and (there.scheme, there.netloc) in own
