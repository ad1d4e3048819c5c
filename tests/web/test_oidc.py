"""Signing in through an identity provider: a real one on the loopback, as it should be and with everything spoilt."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import TokenTerms, create_token, list_tokens, revoke_token
from portal.catalog.own_tokens import Lifetimes, TokenWish, make_token
from portal.catalog.people import list_people
from portal.catalog.sessions import find_session
from portal.database import create_database_engine, open_session
from portal.errors import Unavailable, UsageError
from portal.settings import Settings
from portal.web.app import create_app
from portal.web.identity import provider as identity
from portal.web.identity.attempts import new_attempt
from portal.web.identity.network import BoundedTransport
from portal.web.identity.rules import find_rule, read_rules
from tests.web.identity_provider import (
    ADA,
    CLIENT,
    SECRET,
    Provider,
    by_a_stranger,
    by_the_public_key,
    new_key,
    serving_identity,
    tampered,
    unsigned,
)

ROLES = "portal-admins=admin; lab-a=publisher@lab-a; guests=reader@lab-b"
DAYS = Lifetimes(timedelta(days=30), timedelta(days=365))


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving_identity() as found:
        yield found


@pytest.fixture
def engine(sqlite_settings: Settings) -> Iterator[Engine]:
    made = create_database_engine(sqlite_settings)
    yield made
    made.dispose()


@pytest.fixture
def tab(provider: Provider, sqlite_settings: Settings) -> Iterator[TestClient]:
    yield from _tab(provider, sqlite_settings)


def _tab(provider: Provider, settings: Settings, **more: Any) -> Iterator[TestClient]:
    told = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET, "oidc_roles": ROLES}
    app = create_app(Settings(rates="off", **(settings.model_dump(include={"data"}) | told | more)))
    yield TestClient(app, raise_server_exceptions=False, follow_redirects=False)
    app.state.desk.close()


def leave(tab: TestClient, to: str = "") -> str:
    """Go to the provider: the address it sends the tab back to."""
    left = tab.get("/sign-in/oidc", params={"to": to} if to else {})
    assert left.status_code == 303, left.text
    back = httpx.get(left.headers["location"])
    assert back.status_code == 302, back.text
    return back.headers["location"]


def come(tab: TestClient, to: str = "") -> httpx.Response:
    return tab.get(leave(tab, to))


def put(tab: TestClient, cookie: str) -> None:
    """In the place of the attempt that the browser remembers."""
    tab.cookies.delete("portal-oidc")
    tab.cookies.set("portal-oidc", cookie, domain="testserver.local")


def name_of(tab: TestClient) -> str | None:
    page = tab.get("/sign-in").text
    return page.partition("signed in as <strong>")[2].partition("</strong>")[0] or None


def test_a_person_signs_in_and_out(tab: TestClient, provider: Provider, engine: Engine) -> None:
    shown = tab.get("/sign-in?to=/jobs").text
    host = provider.issuer.partition("//")[2]
    assert f"Sign in with {host}" in shown
    assert 'href="/sign-in/oidc?to=/jobs"' in shown
    answer = come(tab, "/jobs?mine=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?mine=1")
    cookies = answer.headers.get_list("set-cookie")
    session = next(c for c in cookies if c.startswith("portal-session="))
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= {part.strip() for part in session.split(";")}
    assert any(c.startswith("portal-oidc=") and "Max-Age=0" in c for c in cookies)
    assert name_of(tab) == "ada"
    account = tab.get("/account").text
    assert "lab-a" in account
    assert f"signed in with {host}" in account
    assert tab.get("/api/v1/tokens").status_code == 401
    with open_session(engine) as session_:
        (person,) = list_people(session_)
        assert (person.role, person.organisation, person.issuer) == ("publisher", "lab-a", provider.issuer)
        assert list_tokens(session_) == []
    assert tab.post("/sign-out", headers={"Origin": "http://testserver"}).status_code == 303
    assert name_of(tab) is None


def test_the_same_person_keeps_their_name_and_nobody_gets_it(
    tab: TestClient, provider: Provider, engine: Engine
) -> None:
    create_token(engine, "admin", "ada")
    come(tab)
    assert name_of(tab) == "ada-2"
    provider.person = ADA | {"preferred_username": "bob"}
    come(tab)
    assert name_of(tab) == "ada-2"
    for number, called in enumerate(["ada", "anonymous", "portal", "ada@elsewhere.example", "x/../y\n", ""]):
        provider.person = ADA | {"sub": f"another-{number}", "preferred_username": called}
        assert come(tab).status_code == 303, called
        assert name_of(tab) == ["ada-3", "person", "person-2", "ada-4", "x-..-y", "person-3"][number]


def test_a_new_session_takes_the_place_of_the_old_one(tab: TestClient, engine: Engine) -> None:
    come(tab)
    old = tab.cookies["portal-session"]
    come(tab)
    new = tab.cookies["portal-session"]
    with open_session(engine) as session:
        assert (find_session(session, old), old == new) == (None, False)
        assert find_session(session, new) is not None


def _set(**claims: Any) -> Callable[[dict[str, Any]], None]:
    return lambda told: told.update(claims)


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda told: told.pop(name)


SPOILT: list[Callable[[dict[str, Any]], None]] = [
    _set(nonce="another"),
    _without("nonce"),
    _set(nonce=7),
    _set(aud="somebody-else"),
    _set(aud=[]),
    _set(aud=[CLIENT, "somebody-else"]),
    _set(aud=[CLIENT, "somebody-else"], azp="somebody-else"),
    _set(azp="somebody-else"),
    _without("aud"),
    _set(iss="http://127.0.0.1:1"),
    _without("iss"),
    lambda told: told.update(exp=int(time.time()) - 90),
    _without("exp"),
    _set(exp="tomorrow"),
    lambda told: told.update(iat=int(time.time()) - 3600),
    lambda told: told.update(iat=int(time.time()) + 3600),
    _without("iat"),
    _without("sub"),
    _set(sub=""),
    _set(sub="a\0b"),
    _set(sub="x" * 256),
    _set(sub=["ada"]),
]


def test_claims_that_do_not_hold_are_refused(tab: TestClient, provider: Provider) -> None:
    for number, change in enumerate(SPOILT):
        provider.change = change
        answer = come(tab)
        assert answer.status_code == 401, (number, answer.text)
        assert "does not count" in answer.text, number
        assert name_of(tab) is None, number


def test_signatures_that_are_not_the_providers_are_refused(tab: TestClient, provider: Provider) -> None:
    for sign in (unsigned, tampered, by_a_stranger, by_the_public_key, lambda *_: "a.b", lambda *_: 7):
        provider.sign = sign
        assert come(tab).status_code == 401, sign
        assert name_of(tab) is None, sign


def test_an_answer_counts_once_and_in_the_browser_that_asked(tab: TestClient, provider: Provider) -> None:
    back = leave(tab)
    asked = tab.cookies["portal-oidc"]
    stranger = TestClient(tab.app, follow_redirects=False)
    refused = stranger.get(back)
    assert (refused.status_code, "not begun in this browser" in refused.text) == (401, True)
    wrong = tab.get(back.replace("state=", "state=x"))
    assert wrong.status_code == 401
    put(tab, asked)
    assert tab.get(back).status_code == 303
    assert tab.get(back).status_code == 401
    tab.post("/sign-out", headers={"Origin": "http://testserver"})
    # Also where the cookie was kept, and the provider takes its code a second time.
    put(tab, asked)
    assert tab.get(back).status_code == 401
    provider.forgets = False
    back = leave(tab)
    asked = tab.cookies["portal-oidc"]
    assert tab.get(back).status_code == 303
    tab.post("/sign-out", headers={"Origin": "http://testserver"})
    put(tab, asked)
    again = tab.get(back)
    assert (again.status_code, "used before" in again.text) == (401, True)
    assert name_of(tab) is None


def test_a_code_alone_is_of_no_use(tab: TestClient, provider: Provider) -> None:
    stolen = leave(tab)
    thief = TestClient(tab.app, follow_redirects=False)
    own = leave(thief)
    code = stolen.partition("code=")[2].partition("&")[0]
    mine = own.partition("code=")[2].partition("&")[0]
    # The provider compares the verifier of PKCE, which only the first tab has.
    assert thief.get(own.replace(mine, code)).status_code == 401


def test_answers_of_other_issuers_and_refusals_are_told(tab: TestClient, provider: Provider) -> None:
    back = leave(tab)
    mixed = tab.get(back.partition("&iss=")[0] + "&iss=https://evil.example")
    assert (mixed.status_code, "evil.example" in mixed.text) == (401, False)
    back = leave(tab)
    state = back.partition("state=")[2].partition("&")[0]
    denied = tab.get(f"/sign-in/oidc/callback?error=access_denied&state={state}&error_description=<script>x</script>")
    assert (denied.status_code, "did not let you in" in denied.text, "<script>x" in denied.text) == (401, True, False)


def test_nobody_is_led_elsewhere(tab: TestClient) -> None:
    for to in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/a\nb"):
        assert come(tab, to).headers["location"] == "/account", to
        # Not by a cookie somebody else made up, either.
        back = leave(tab)
        told = orjson.loads(base64.urlsafe_b64decode(tab.cookies["portal-oidc"])) | {"to": to}
        put(tab, base64.urlsafe_b64encode(orjson.dumps(told)).decode())
        assert tab.get(back).headers["location"] == "/account", to


def test_roles_follow_from_the_claim_each_time(tab: TestClient, provider: Provider, engine: Engine) -> None:
    come(tab)
    with open_session(engine) as session:
        caller = find_session(session, tab.cookies["portal-session"])
    assert caller is not None
    secret, _ = make_token(engine, caller.caller, TokenWish(TokenTerms("publisher"), "laptop"), DAYS)

    def asked() -> int:
        return tab.get("/api/v1/whoami", headers={"Authorization": f"Bearer {secret}"}).status_code

    assert asked() == 200
    provider.person = ADA | {"groups": ["guests"]}
    come(tab)
    assert asked() == 401, "What was granted is taken back, from tokens as well."
    account = tab.get("/account").text
    assert "withheld" in account
    provider.person = ADA | {"groups": "nothing"}
    refused = come(tab)
    assert (refused.status_code, "gives no role" in refused.text) == (403, True)
    assert name_of(tab) is None, "The session from before ends, too."
    provider.person = ADA
    come(tab)
    assert asked() == 200


def test_a_stranger_without_a_role_leaves_no_trace(tab: TestClient, provider: Provider, engine: Engine) -> None:
    provider.person = ADA | {"groups": []}
    assert come(tab).status_code == 403
    with open_session(engine) as session:
        assert list_people(session) == []


def test_an_administrator_shuts_a_person_out(tab: TestClient, engine: Engine) -> None:
    come(tab)
    revoke_token(engine, "ada")
    assert name_of(tab) is None
    refused = come(tab)
    assert (refused.status_code, "shut out" in refused.text) == (403, True)


def test_a_provider_that_is_down_is_told_on_a_page(
    tab: TestClient, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "FAILURE_S", 0.0)
    provider.broken = True
    answer = tab.get("/sign-in/oidc")
    assert (answer.status_code, "does not answer" in answer.text) == (503, True)
    assert 'name="token"' in answer.text
    provider.broken = False
    back = leave(tab)
    provider.broken = True
    assert tab.get(back).status_code == 503
    provider.broken = False
    assert come(tab).status_code == 303


def test_a_provider_that_failed_is_left_alone_for_a_while(tab: TestClient, provider: Provider) -> None:
    provider.broken = True
    for _ in range(3):
        assert tab.get("/sign-in/oidc").status_code == 503
    assert len(provider.asked) == 1


@pytest.mark.parametrize(
    "change", [{"issuer": "http://127.0.0.1:1"}, {"token_endpoint": None}, {"jwks_uri": "file:///"}]
)
def test_a_provider_that_describes_itself_wrongly_is_not_used(
    tab: TestClient, provider: Provider, change: dict[str, Any]
) -> None:
    provider.describe = lambda told: told.update(change)
    assert tab.get("/sign-in/oidc").status_code == 503


def test_a_new_key_is_asked_for_when_it_is_met(
    tab: TestClient, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert come(tab).status_code == 303
    provider.key = new_key("second")
    assert come(tab).status_code == 401, "Not more often than once a minute."
    monkeypatch.setattr(identity, "NEW_KEYS_S", 0.0)
    assert come(tab).status_code == 303
    assert provider.asked.count("/jwks") == 2


def test_over_tls_the_cookies_are_this_hosts_alone(provider: Provider, sqlite_settings: Settings) -> None:
    provider.redirect_uri = "https://portal.example/sign-in/oidc/callback"
    for tab in _tab(provider, sqlite_settings, public_url="https://portal.example"):
        left = tab.get("/sign-in/oidc")
        cookie = left.headers["set-cookie"]
        assert cookie.startswith("__Host-portal-oidc=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}


def test_without_a_provider_there_is_none(sqlite_settings: Settings) -> None:
    app = create_app(sqlite_settings)
    client = TestClient(app, follow_redirects=False)
    assert client.get("/sign-in/oidc").status_code == 404
    assert client.get("/sign-in/oidc/callback?code=x&state=y").status_code == 404
    assert "Sign in with" not in client.get("/sign-in").text
    app.state.desk.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"oidc_client_id": ""},
        {"oidc_roles": ""},
        {"oidc_roles": "lab-a=king"},
        {"oidc_roles": "lab-a"},
        {"oidc_roles": "lab-a=reader@../x"},
    ],
)
def test_settings_that_do_not_go_together_are_refused_at_the_start(wrong: dict[str, str]) -> None:
    right = {"oidc_issuer": "https://id.example", "oidc_client_id": "portal", "oidc_roles": ROLES}
    assert identity.Provider.of(Settings(**right)) is not None
    with pytest.raises(UsageError, match="PORTAL_OIDC"):
        identity.Provider.of(Settings(**(right | wrong)))


def test_an_encrypted_provider_leads_to_no_plain_address(monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"oidc_issuer": "https://id.example", "oidc_client_id": "portal", "oidc_roles": ROLES}
    told = {name: f"https://id.example/{name}" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    for plain in told:
        answer = {"issuer": "https://id.example"} | told | {plain: "http://id.example/x"}
        description = httpx.MockTransport(lambda _, answer=answer: httpx.Response(200, json=answer))
        monkeypatch.setattr(identity, "BoundedTransport", lambda *_, found=description: found)
        with pytest.raises(Unavailable, match="does not say where"):
            identity.Provider(Settings(**right)).authorization_address("https://portal.example/x", new_attempt(""))
    with pytest.raises(httpx.UnsupportedProtocol):
        BoundedTransport(httpx.create_ssl_context(), False).handle_request(httpx.Request("GET", "http://id.example"))


def test_only_encrypted_issuers_may_be_set() -> None:
    with pytest.raises(ValueError, match="oidc_issuer"):
        Settings(oidc_issuer="http://id.example")
    assert "between-us" not in repr(Settings(oidc_client_secret="between-us"))


def test_the_first_rule_that_fits_counts() -> None:
    rules = read_rules("CN=portal,OU=groups=admin; a=reader@lab ; *=reviewer")
    assert [(r.value, r.role, r.organisation) for r in rules] == [
        ("CN=portal,OU=groups", "admin", None),
        ("a", "reader", "lab"),
        ("*", "reviewer", None),
    ]
    found = [find_rule(rules, claims, "realm.roles") for claims in ({"realm": {"roles": ["b", "a"]}}, {"realm": 7}, {})]
    assert [rule.role if rule else None for rule in found] == ["reader", "reviewer", "reviewer"]
    assert find_rule(rules[:1], {"groups": "CN=portal,OU=groups"}, "groups") == rules[0]
    assert find_rule(rules[:1], {"groups": ["cn=portal,ou=groups", 7, None]}, "groups") is None
