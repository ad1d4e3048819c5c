"""PORTAL_OIDC_ROLES: which role, and which organisation, a person gets by what the identity provider says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portal.catalog.accounts import TokenTerms, check_terms
from portal.errors import UsageError

EVERYBODY = "*"


@dataclass(frozen=True)
class Rule:
    """Whoever has ``value`` in the claim gets the role."""

    value: str
    """``*``: everybody whom the provider lets in."""
    role: str
    organisation: str | None = None


def read_rules(text: str) -> list[Rule]:
    """``VALUE=ROLE[@ORGANISATION]``, by semicolons, as names of directories hold commas. UsageError tells what is wrong."""
    return [_rule(part.strip()) for part in text.split(";") if part.strip()]


def find_rule(rules: Sequence[Rule], claims: Mapping[str, Any], claim: str) -> Rule | None:
    """The first rule that fits; None: this person has no role here."""
    values = values_of(claims, claim)
    return next((rule for rule in rules if rule.value == EVERYBODY or rule.value in values), None)


def values_of(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    """The texts of a claim, which may be one or a list; ``a.b`` is ``b`` inside ``a`` where no claim is called so."""
    found: Any = claims.get(claim)
    if found is None:
        found = claims
        for name in claim.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
    listed = found if isinstance(found, list) else [found]
    return frozenset(value for value in listed if isinstance(value, str))


def _rule(text: str) -> Rule:
    value, equals, given = text.rpartition("=")
    role, _, organisation = given.strip().partition("@")
    if not equals or not value.strip():
        raise UsageError(
            f"PORTAL_OIDC_ROLES: {text[:100]!r} is no rule.", "Write VALUE=ROLE or VALUE=ROLE@ORGANISATION."
        )
    terms = TokenTerms(role.strip(), organisation.strip() or None)
    try:
        check_terms(terms)
    except UsageError as error:
        raise UsageError(f"PORTAL_OIDC_ROLES: {error.message}", error.remedy) from None
    return Rule(value.strip(), terms.role, terms.organisation)
