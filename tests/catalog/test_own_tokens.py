"""Tokens of one's own, and people of an identity provider, on both databases and by many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from portal.catalog.accounts import Caller, TokenTerms, TokenView, create_token, find_caller, revoke_token
from portal.catalog.own_tokens import Lifetimes, TokenWish, list_own_tokens, make_token, revoke_own_token
from portal.catalog.people import Vouched, list_people, sign_in_person
from portal.catalog.replies import Request
from portal.catalog.sessions import SessionTerms, begin_session, find_session
from portal.database import open_session
from portal.errors import Conflict, Forbidden, NotFound, Unauthorized

DAYS = Lifetimes(timedelta(days=90), timedelta(days=365))
ADA = Vouched("https://id.example", "1", "ada", "nonce-1", "publisher", "lab")


def wish(name: str | None = None, role: str = "reader") -> TokenWish:
    return TokenWish(TokenTerms(role), name)


def caller_of(engine: Engine, secret: str) -> Caller | None:
    with open_session(engine) as session:
        return find_caller(session, secret)


def holder(engine: Engine, name: str, role: str = "publisher") -> Caller:
    found = caller_of(engine, create_token(engine, role, name, "lab")[0])
    assert found is not None
    return found


def test_one_request_sent_many_times_at_once_makes_one_token(engine: Engine) -> None:
    ada = holder(engine, "ada")
    keyed = Request.of("ada", "once", "POST", "/api/v1/tokens", b"{}")

    def ask(_: int) -> tuple[str | None, TokenView]:
        return make_token(engine, ada, wish("laptop"), DAYS, keyed)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    assert len([secret for secret, _ in answers if secret]) == 1
    assert len({view.id for _, view in answers}) == 1


def test_what_was_made_ends_with_its_maker_whenever_it_was_made(engine: Engine) -> None:
    ada = holder(engine, "ada")

    def make(number: int) -> str | None:
        try:
            return make_token(engine, ada, wish(f"t{number}"), DAYS)[0]
        except (Forbidden, Conflict):
            return None

    with ThreadPoolExecutor(6) as pool:
        made = pool.map(make, range(12))
        revoke_token(engine, "ada")
        secrets = [secret for secret in made if secret]
    assert [caller_of(engine, secret) for secret in secrets] == [None] * len(secrets)
    with pytest.raises(Forbidden):
        make_token(engine, ada, wish(), DAYS)


def test_only_ones_own_are_listed_and_ended(engine: Engine) -> None:
    ada, bob = holder(engine, "ada"), holder(engine, "bob")
    secret, mine = make_token(engine, ada, wish("one"), DAYS)
    _, yours = make_token(engine, bob, wish("one"), DAYS)
    assert (mine.name, yours.name) == ("ada/one", "bob/one")
    with open_session(engine) as session:
        assert [view.name for view in list_own_tokens(session, ada)] == ["ada/one", "ada"]
        with pytest.raises(Forbidden):
            list_own_tokens(session, Caller(None, "attempt 1 of job 1", "attempt"))
    with pytest.raises(NotFound):
        revoke_own_token(engine, ada, yours.id)
    assert revoke_own_token(engine, ada, mine.id).state == "revoked"
    assert caller_of(engine, secret or "") is None


def test_a_holder_has_so_many_tokens_and_no_more(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.catalog.own_tokens.MOST_ACTIVE", 2)
    ada = holder(engine, "ada")
    first = make_token(engine, ada, wish(), DAYS)[1]
    make_token(engine, ada, wish(), DAYS)
    with pytest.raises(Conflict, match="2 tokens"):
        make_token(engine, ada, wish(), DAYS)
    revoke_own_token(engine, ada, first.id)
    make_token(engine, ada, wish(), DAYS)


def test_an_answer_of_the_provider_is_spent_by_one_of_many(engine: Engine) -> None:
    sign_in_person(engine, ADA, SessionTerms())
    again = Vouched("https://id.example", "1", "ada", "nonce-2", "publisher", "lab")

    def come(_: int) -> bool:
        try:
            sign_in_person(engine, again, SessionTerms())
        except Unauthorized:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(come, range(6))) == 1
    with open_session(engine) as session:
        assert [person.name for person in list_people(session)] == ["ada"]


def test_a_person_of_the_same_number_elsewhere_is_another(engine: Engine) -> None:
    cookie, found = sign_in_person(engine, ADA, SessionTerms())
    other = Vouched("https://other.example", "1", "ada", "nonce-2", "reader", "lab")
    assert sign_in_person(engine, other, SessionTerms())[1].caller.name == "ada-2"
    with open_session(engine) as session:
        signed_in = find_session(session, cookie)
    assert signed_in is not None
    assert (signed_in.caller, signed_in.issuer) == (found.caller, "https://id.example")
    revoke_token(engine, "ada")
    with open_session(engine) as session:
        assert find_session(session, cookie) is None
    with pytest.raises(Unauthorized):
        begin_session(engine, "llm360_nobody")
