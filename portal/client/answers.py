"""What a portal answered: dictionaries that say whose answer lacks a field."""

from __future__ import annotations

from typing import Any

import httpx

from portal.errors import Unavailable

REMEDY = "It may be another version, or no portal: compare its version with `portal --version`, and check the address."


class Answer(dict[str, Any]):
    """A JSON object that knows which address it came from; a field that is not there is Unavailable, not a KeyError."""

    url = ""

    def __missing__(self, key: str) -> Any:
        """Say whose answer lacks what."""
        raise Unavailable(f"{self.url} answered without the field {key!r}.", REMEDY)


def read_answer(answer: httpx.Response) -> Answer:
    """The JSON object that was answered, and all objects in it, as `Answer`; Unavailable when it is none."""

    def named(found: dict[str, Any]) -> Answer:
        made = Answer(found)
        made.url = str(answer.url)
        return made

    try:
        found = answer.json(object_hook=named)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, Answer):
        raise Unavailable(f"{answer.url} did not answer as a portal does.", REMEDY)
    return found


def unexpected(url: str, error: Exception) -> Unavailable:
    """What to say where an answer has every field that was asked for, but one of another kind."""
    return Unavailable(f"{url} answered in another form than this version reads ({error}).", REMEDY)
