"""What a portal or another host refused, as errors and in words."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from portal import errors
from portal.errors import PortalError, Unavailable


def read_refusal(answer: httpx.Response) -> PortalError:
    """The portal's own error again, from its problem+json; any other answer is Unavailable."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "detail" not in problem:
        return Unavailable(
            f"{answer.url} answered {answer.status_code}.",
            "Is this the address of a portal?",
            answered=answer.status_code,
        )
    known = ("type", "title", "status", "detail", "code", "remedy", "instance")
    kind = _KINDS.get(str(problem.get("code")), PortalError)
    extra = {k: v for k, v in problem.items() if k not in known}
    # Some kinds make their words of what they are given; here the words are there already.
    error = kind.__new__(kind)
    PortalError.__init__(error, str(problem["detail"]), str(problem.get("remedy", "")), **extra)
    if kind is PortalError:
        error.status = answer.status_code
    if isinstance(error, errors.ManifestRefused):
        told = extra.get("faults") or []
        error.faults = [errors.Fault(*(str(f.get(k, "")) for k in ("where", "what", "remedy"))) for f in told]
    return error


def _kinds(parent: type[PortalError]) -> Iterator[tuple[str, type[PortalError]]]:
    yield parent.code, parent
    for child in parent.__subclasses__():
        yield from _kinds(child)


_KINDS = dict(_kinds(PortalError))


def told(error: Exception) -> str:
    """What an error of the network says, to stand inside a sentence."""
    return str(error).rstrip(".") or type(error).__name__
