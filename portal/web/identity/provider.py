"""The identity provider (OpenID Connect): where it sends people, what it answers, and whether that answer is its own.

The portal speaks to the issuer that is set and to the addresses which that issuer's own description names, to nobody
else. What the description and the keys said is remembered for a while; a new key is asked for when one is met.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlsplit

import httpx
from authlib.oauth2 import OAuth2Client, OAuth2Error
from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError

from portal.catalog.people import Vouched
from portal.errors import Unauthorized, Unavailable, UsageError
from portal.settings import Settings
from portal.web.identity.attempts import Attempt
from portal.web.identity.network import BoundedTransport, timeout
from portal.web.identity.rules import find_rule, read_rules

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
"""Signatures by keys of which the portal knows the public half: none that anybody else could make."""
REMEMBERED_S = 3600.0
FAILURE_S = 5.0
"""How long a provider that did not answer is left alone."""
NEW_KEYS_S = 60.0
"""How often at most the keys are asked for again because of one that is not known."""
LEEWAY_S = 60
FRESH_S = 600
"""How old an ID token may be: it is made while the person signs in."""
AT_ONCE = 4
"""People who are waited for at once, so that a slow provider holds up nobody who reads."""
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "llm360-portal"}
_NAMES = ("preferred_username", "name", "email")


@dataclass(frozen=True)
class Described:
    """What the provider says of itself."""

    authorization: str
    token: str
    keys_at: str
    basic: bool
    """Whether the client's secret is sent as a header (else in the form)."""
    at: float


class Provider:
    """The configured identity provider; made once by `create_app`, used by any thread."""

    def __init__(self, settings: Settings) -> None:
        """UsageError where the settings do not go together."""
        if not settings.oidc_client_id:
            raise UsageError("PORTAL_OIDC_ISSUER is set, PORTAL_OIDC_CLIENT_ID is not.", "Set both.")
        self.rules = read_rules(settings.oidc_roles)
        if not self.rules:
            raise UsageError(
                "PORTAL_OIDC_ROLES gives nobody a role, so nobody could sign in with PORTAL_OIDC_ISSUER.",
                "Set it, e.g. to `portal-admins=admin; lab-a=publisher@lab-a`.",
            )
        self.issuer = settings.oidc_issuer
        self.host = urlsplit(settings.oidc_issuer).netloc
        self._plain = urlsplit(settings.oidc_issuer).scheme == "http"
        self._client_id = settings.oidc_client_id
        self._secret = settings.oidc_client_secret.get_secret_value()
        self._scope = settings.oidc_scope
        self._claim = settings.oidc_claim
        self._context = httpx.create_ssl_context()
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._described: Described | None = None
        self._keys: tuple[float, list[jwk.Key]] | None = None
        self._failed: tuple[float, str] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Provider | None:
        """The provider that is set, if any."""
        return cls(settings) if settings.oidc_issuer else None

    def authorization_address(self, redirect_uri: str, attempt: Attempt) -> str:
        """Where the browser goes to sign in. Unavailable when the provider does not answer."""
        with self._place(), self._http() as http:
            described = self._describe(http)
            address, _ = self._client(http, redirect_uri).create_authorization_url(
                described.authorization, state=attempt.state, code_verifier=attempt.verifier, nonce=attempt.nonce
            )
        return str(address)

    def exchange(self, redirect_uri: str, attempt: Attempt, code: str) -> Vouched:
        """Whom the provider vouches for by this code. Unavailable when it does not answer, Unauthorized for a code it
        does not take and for an ID token that is not good."""
        with self._place(), self._http() as http:
            described = self._describe(http)
            answer = self._fetch_token(self._client(http, redirect_uri), described, code, attempt.verifier)
            token = answer.get("id_token")
            if not isinstance(token, str):
                raise self._unsound("it brings no ID token")
            claims = self._verified(http, described, token)
        self._check(claims, attempt.nonce)
        rule = find_rule(self.rules, claims, self._claim)
        names = [claims[n] for n in _NAMES if isinstance(claims.get(n), str) and claims[n].strip()]
        return Vouched(
            self.issuer,
            claims["sub"],
            # Names stand on public pages: addresses of mail do not.
            names[0].partition("@")[0] if names else "",
            attempt.nonce,
            rule.role if rule else None,
            rule.organisation if rule else None,
        )

    def _place(self) -> _Place:
        return _Place(self._places, self.host)

    def _http(self) -> httpx.Client:
        transport = BoundedTransport(self._context, self._plain)
        return httpx.Client(transport=transport, timeout=timeout(), headers=HEADERS)

    def _client(self, http: httpx.Client, redirect_uri: str) -> OAuth2Client:
        return OAuth2Client(
            http, self._client_id, scope=self._scope, redirect_uri=redirect_uri, code_challenge_method="S256"
        )

    def _describe(self, http: httpx.Client) -> Described:
        known, now = self._described, time.monotonic()
        if known is not None and now - known.at < REMEMBERED_S:
            return known
        told = self._get(http, self.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if told.get("issuer") != self.issuer:
            raise Unavailable(
                f"{self.host} calls itself another issuer than PORTAL_OIDC_ISSUER.", "Set it as the provider writes it."
            )
        methods = told.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        ways, keys_at, token = (str(told.get(n)) for n in ("authorization_endpoint", "jwks_uri", "token_endpoint"))
        # The page on which people sign in is no less encrypted than the rest.
        schemes = ("https://", "http://") if self._plain else ("https://",)
        if not all(address.startswith(schemes) for address in (ways, keys_at, token)):
            raise Unavailable(f"{self.host} does not say where people sign in.", "Its operator can tell.")
        self._described = Described(ways, token, keys_at, "client_secret_basic" in methods, now)
        return self._described

    def _fetch_token(self, client: OAuth2Client, described: Described, code: str, verifier: str) -> Mapping[str, Any]:
        sent, auth = self._credentials(described)
        try:
            answer = client.fetch_token(
                described.token,
                grant_type="authorization_code",
                code=code,
                code_verifier=verifier,
                auth=auth,
                **sent,
            )
        except OAuth2Error as error:
            if error.error in ("invalid_client", "unauthorized_client"):
                raise Unavailable(
                    f"{self.host} does not know this portal.", "Check PORTAL_OIDC_CLIENT_ID and its secret."
                ) from None
            raise Unauthorized(f"{self.host} does not take this sign-in (any more).", "Sign in again.") from None
        except (httpx.HTTPError, ValueError, TypeError, KeyError):
            raise self._down() from None
        if not isinstance(answer, dict):
            raise self._down()
        return answer

    def _credentials(self, described: Described) -> tuple[dict[str, str], httpx.Auth]:
        """Who the portal is: in the form, or as a header (by RFC 6749, 2.3.1 each part is encoded before)."""
        if self._secret and described.basic:
            return {}, httpx.BasicAuth(quote_plus(self._client_id), quote_plus(self._secret))
        secret = {"client_secret": self._secret} if self._secret else {}
        return {"client_id": self._client_id, **secret}, httpx.Auth()

    def _verified(self, http: httpx.Client, described: Described, token: str) -> dict[str, Any]:
        """The claims of an ID token that one of the provider's keys has signed."""
        try:
            header = jws.extract_compact(token.encode()).headers()
        except (JoseError, ValueError, KeyError):
            raise self._unsound("its ID token cannot be read") from None
        if header.get("alg") not in ALGORITHMS:
            raise self._unsound("its ID token is not signed in a way that counts")
        for again in (False, True):
            for key in self._candidates(http, described, header, again):
                try:
                    return dict(jwt.decode(token, key, algorithms=ALGORITHMS).claims)
                except (JoseError, ValueError):
                    continue
        raise self._unsound("its ID token is signed by nobody the portal knows")

    def _candidates(
        self, http: httpx.Client, described: Described, header: Mapping[str, Any], again: bool
    ) -> list[jwk.Key]:
        """The provider's keys that may have signed; asked for ``again`` only when the last time is a while ago."""
        known, now = self._keys, time.monotonic()
        if known is None or now - known[0] > (NEW_KEYS_S if again else REMEMBERED_S):
            told = self._get(http, described.keys_at).get("keys")
            known = self._keys = (now, [key for one in told or [] if (key := _public_key(one)) is not None])
        elif again:
            return []
        kid = header.get("kid")
        return [key for key in known[1] if kid is None or key.kid is None or key.kid == kid]

    def _check(self, claims: Mapping[str, Any], nonce: str) -> None:
        """Unauthorized unless the token is of this issuer, for this portal, of now, and for this very sign-in."""
        wanted = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self._client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        try:
            wanted.validate(dict(claims))
        except (JoseError, ValueError, TypeError) as error:
            raise self._unsound(f"its ID token does not hold ({getattr(error, 'claim', '') or 'claims'})") from None
        told, subject = claims.get("nonce"), claims["sub"]
        if not isinstance(told, str) or not hmac.compare_digest(told.encode(), nonce.encode()):
            raise self._unsound("its ID token was made for another sign-in")
        if claims["iat"] < time.time() - FRESH_S - LEEWAY_S:
            raise self._unsound("its ID token is old")
        others = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", self._client_id if not others else None) != self._client_id:
            raise self._unsound("its ID token was made for somebody else")
        if not (isinstance(subject, str) and 0 < len(subject) < 256 and subject.isascii() and subject.isprintable()):
            raise self._unsound("its ID token does not say who")

    def _get(self, http: httpx.Client, address: str) -> dict[str, Any]:
        failed = self._failed
        if failed is not None and failed[1] == address and time.monotonic() - failed[0] < FAILURE_S:
            raise self._down()
        try:
            told = http.get(address).raise_for_status().json()
            if not isinstance(told, dict):
                raise ValueError
        except (httpx.HTTPError, ValueError):
            self._failed = (time.monotonic(), address)
            raise self._down() from None
        return told

    def _down(self) -> Unavailable:
        return Unavailable(
            f"{self.host} does not answer as an identity provider should.",
            "Try again in a moment, or sign in with an API token.",
        )

    def _unsound(self, what: str) -> Unauthorized:
        return Unauthorized(f"The answer of {self.host} does not count: {what}.", "Sign in again.")


class _Place:
    """One of the places of those who wait for the provider; Unavailable when all are taken for long."""

    def __init__(self, places: threading.BoundedSemaphore, host: str) -> None:
        self._places = places
        self._host = host

    def __enter__(self) -> None:
        if not self._places.acquire(timeout=2.0):
            raise Unavailable(f"Many people wait for {self._host}.", "Try again in a moment.")

    def __exit__(self, *_: object) -> None:
        self._places.release()


def _public_key(told: Any) -> jwk.Key | None:
    """A key for signatures; nothing for one of another use, of a secret kind, or that cannot be read."""
    if not isinstance(told, dict) or told.get("kty") not in ("RSA", "EC") or told.get("use", "sig") != "sig":
        return None
    try:
        return jwk.import_key(told)
    except (JoseError, ValueError):
        return None
