"""A small OpenID Connect provider on the loopback: code flow with PKCE, one-time codes, signed ID tokens; and ways to
spoil what it answers."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwk, jwt

CLIENT, SECRET = "portal", "between-us"
ADA = {"sub": "248289761001", "preferred_username": "ada", "groups": ["lab-a", "staff"]}


@dataclass
class Provider:
    """What it knows and does; tests change it."""

    issuer: str = ""
    redirect_uri: str = "http://testserver/sign-in/oidc/callback"
    person: dict[str, Any] = field(default_factory=lambda: dict(ADA))
    """Who signs in: their claims."""
    key: jwk.RSAKey = field(default_factory=lambda: new_key("first"))
    change: Callable[[dict[str, Any]], None] = lambda _claims: None
    """Done to the claims of an ID token before it is signed."""
    sign: Callable[[Provider, dict[str, Any]], str] | None = None
    """Instead of signing as it should."""
    describe: Callable[[dict[str, Any]], None] = lambda _told: None
    forgets: bool = True
    """Whether a code is good once."""
    broken: bool = False
    asked: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def description(self) -> dict[str, Any]:
        """As `.well-known/openid-configuration` answers it."""
        told = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }
        self.describe(told)
        return told

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser is sent: back, with a code, as this person has always signed in already."""
        assert (asked["client_id"], asked["redirect_uri"]) == (CLIENT, self.redirect_uri)
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{self.redirect_uri}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.issuer})}"

    def token(self, sent: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """The answer to a code: its status and body."""
        if authorization != "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode():
            return 401, {"error": "invalid_client"}
        asked = (self.codes.pop if self.forgets else self.codes.get)(sent.get("code", ""), None)
        challenge = create_s256_code_challenge(sent.get("code_verifier", ""))
        if asked is None or asked["redirect_uri"] != sent.get("redirect_uri") or asked["code_challenge"] != challenge:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims |= self.person
        self.change(claims)
        token = (self.sign or signed)(self, claims)
        return 200, {"access_token": "opaque", "token_type": "Bearer", "expires_in": 300, "id_token": token}


@cache
def new_key(kid: str) -> jwk.RSAKey:
    """A key of this name, the same each time: making one takes a while."""
    return jwk.RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


def signed(provider: Provider, claims: dict[str, Any]) -> str:
    """As it should be."""
    return jwt.encode({"alg": "RS256", "kid": provider.key.kid}, claims, provider.key)


def unsigned(_provider: Provider, claims: dict[str, Any]) -> str:
    """`alg: none`."""
    return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."


def tampered(provider: Provider, claims: dict[str, Any]) -> str:
    """Signed, then changed."""
    head, _, signature = signed(provider, claims).split(".")
    return f"{head}.{_part(claims | {'groups': ['portal-admins']})}.{signature}"


def by_a_stranger(provider: Provider, claims: dict[str, Any]) -> str:
    """With somebody else's key under the same name."""
    return jwt.encode({"alg": "RS256", "kid": provider.key.kid}, claims, new_key("stranger"))


def by_the_public_key(provider: Provider, claims: dict[str, Any]) -> str:
    """HS256 with the public key as if it were a shared secret."""
    signed_part = f"{_part({'alg': 'HS256', 'kid': provider.key.kid})}.{_part(claims)}"
    made = hmac.digest(provider.key.as_pem(private=False), signed_part.encode(), "sha256")
    return f"{signed_part}.{base64.urlsafe_b64encode(made).decode().rstrip('=')}"


@contextmanager
def serving_identity() -> Iterator[Provider]:
    """A provider that answers until the block ends."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            provider.asked.append(where.path)
            if provider.broken:
                self._answer(500, b"no")
            elif where.path == "/.well-known/openid-configuration":
                self._answer(200, json.dumps(provider.description()).encode())
            elif where.path == "/jwks":
                self._answer(200, json.dumps({"keys": [provider.key.as_dict(private=False)]}).encode())
            else:
                self._answer(302, b"", provider.authorize(dict(parse_qsl(where.query))))

        def do_POST(self) -> None:
            provider.asked.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, told = provider.token(dict(parse_qsl(body)), self.headers.get("Authorization", ""))
            self._answer(500 if provider.broken else status, json.dumps(told).encode())

        def _answer(self, status: int, body: bytes, location: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
