"""The address that users know: it answers, it is this portal, and what stands in front of it does its part."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import httpx

from portal.catalog.examined import find_local_file, open_to_look
from portal.database import DatabaseFault
from portal.doctor.configured import is_loopback
from portal.doctor.verdicts import Verdict, fail, ok, warn
from portal.errors import PortalError
from portal.settings import Settings
from portal.signing.keys import PublicKey, load_key

PART = "address"
WAIT_S = 2.0
LARGEST = 1 << 20


def check_address(settings: Settings) -> Iterator[Verdict]:
    """Ask the portal at PORTAL_PUBLIC_URL as a client would; redirects are not followed."""
    base = settings.public_url.rstrip("/")
    host = urlsplit(base).hostname
    if not base or not host:
        yield ok(PART, "PORTAL_PUBLIC_URL is not set: links go where each request came from.")
        return
    with httpx.Client(timeout=WAIT_S, trust_env=False, headers={"User-Agent": "portal-doctor"}) as client:
        try:
            answer = client.get(f"{base}/healthz")
        except httpx.HTTPError as error:
            yield fail(
                PART,
                f"{base} does not answer ({type(error).__name__}).",
                "Is `portal serve` running, and does the proxy in front reach it?",
            )
            return
        if answer.status_code != 200 or not _is_health(answer):
            yield fail(
                PART,
                f"{base}/healthz answers {answer.status_code}, and not as a portal does.",
                "Let the proxy hand every path on, without another prefix.",
            )
            return
        yield from _same(client, base, settings)
        yield from _sending(client, base, settings)
    if is_loopback(host):
        yield warn(PART, f"{base} is an address of this machine alone.", "Set PORTAL_PUBLIC_URL to the one users know.")


def _same(client: httpx.Client, base: str, settings: Settings) -> Iterator[Verdict]:
    """The key that it shows tells whether it is this portal."""
    if settings.signing_key is None:
        yield ok(PART, f"A portal answers at {base}.")
        return
    try:
        mine = load_key(settings.signing_key).public.key_id
    except PortalError:
        return
    shown = client.get(f"{base}/.well-known/portal-keys/current")
    try:
        theirs = PublicKey.read(shown.text).key_id if shown.status_code == 200 else None
    except PortalError:
        theirs = None
    if theirs == mine:
        yield ok(PART, f"This portal answers at {base}: it shows the key that is set here.")
    else:
        yield fail(
            PART,
            f"The portal at {base} signs with {'another key' if theirs else 'no key'} than PORTAL_SIGNING_KEY names.",
            "Correct PORTAL_PUBLIC_URL, or start that portal again with this key.",
        )


def _sending(client: httpx.Client, base: str, settings: Settings) -> Iterator[Verdict]:
    """With xaccel a file comes from nginx, or not at all."""
    if settings.sendfile != "xaccel":
        return
    try:
        with open_to_look(settings) as engine:
            known = find_local_file(engine)
    except (PortalError, DatabaseFault):
        known = None
    if known is None or known.size > LARGEST:
        return
    answer = client.get(f"{base}/files/{known.sha256}/{quote(known.name)}")
    if "x-accel-redirect" in answer.headers or (answer.status_code == 200 and len(answer.content) != known.size):
        yield fail(
            "sendfile",
            "PORTAL_SENDFILE is xaccel, and files come empty: what answers there is not nginx, or does not know /_local.",
            "Let nginx serve `location /_local/ { internal; alias /; }`, or set PORTAL_SENDFILE=builtin.",
        )
    elif answer.status_code == 200:
        yield ok("sendfile", "Files come through nginx.")


def _is_health(answer: httpx.Response) -> bool:
    try:
        return bool(answer.json()["status"] == "ok")
    except (ValueError, KeyError, TypeError):
        return False
