"""One way to the identity provider and back."""

from __future__ import annotations

import secrets
from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """One way to the provider and back, known to the browser that took it."""

    state: str
    nonce: str
    verifier: str
    """Of PKCE: whoever has the code alone cannot use it."""
    to: str
    """Where in the portal it leads."""


def new_attempt(to: str) -> Attempt:
    """One that nobody can guess."""
    return Attempt(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(32), to)
