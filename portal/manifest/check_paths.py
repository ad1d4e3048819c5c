"""Paths, URIs and templates: nothing may lead out of the release, and every placeholder must have a value."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterator

from portal.manifest.faults import Contradiction, Place, listed, shown

SCHEMES = ("hf", "s3", "https", "http")
"""Where bytes may lie outside the release folder."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")
_SPEC = re.compile(r"^0?\d{0,2}d?$")
_ODD = re.compile(
    r"[\\\x00-\x1f\x7f]|(?:^|/)\.\.(?:/|$)|^[/~]|^[A-Za-z][A-Za-z0-9+.-]*:|//|%2e%2e|\ufffe", re.IGNORECASE
)
"""Anything that deserves the longer look of `_path_fault`."""
_TEXT_NAMES = ("name", "stage")
"""Placeholders that stand for text; the others stand for numbers."""


def check_path(path: str, place: Place) -> Iterator[Contradiction]:
    """Refuse a path that is absolute, leads out of the release, or is a URI of an unknown kind."""
    if _ODD.search(path):
        fault = _path_fault(path)
        if fault:
            yield Contradiction(place, f"{shown(path)!r} {fault[0]}", fault[1])


def check_link(link: str, place: Place) -> Iterator[Contradiction]:
    """Refuse an address that a browser would not simply open."""
    scheme = _SCHEME.match(link.strip())
    if any(ord(c) < 32 for c in link) or (scheme and scheme[1].lower() not in ("http", "https")):
        yield Contradiction(place, f"{shown(link)!r} is not a web address", "Write https://...")


def check_template(template: str, names: Collection[str], place: Place) -> Iterator[Contradiction]:
    """Refuse placeholders other than ``names``, and formats that are no plain integer formats."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        yield Contradiction(
            place, f"{shown(template)!r} is not a template: {error}", "Write a literal brace as {{ or }}."
        )
        return
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in names:
            known = f"Known here: {listed(['{' + n + '}' for n in names])}." if names else "None has a value here."
            yield Contradiction(
                place, f"{{{shown(name)}}} has no value here", f"{known} Write a literal brace as {{{{ or }}}}."
            )
        elif conversion or not (_SPEC.match(spec or "") if name not in _TEXT_NAMES else not spec):
            yield Contradiction(
                place,
                f"{{{name}{'!' + conversion if conversion else ''}:{shown(spec or '')}}} is not a format for it",
                "Numbers take formats like {index:03d}, names take none.",
            )


def placeholders(template: str) -> set[str]:
    """Names a template uses; empty when it is malformed."""
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError:
        return set()


def _path_fault(path: str) -> tuple[str, str] | None:
    inside = "Write a path below the manifest's folder, or a URI (hf://, s3://, https://)."
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        return "holds a control character", "Rename the file."
    if "\\" in path:
        return "holds a backslash", "Separate folders by /."
    scheme = _SCHEME.match(path)
    if scheme:
        return _uri_fault(path, scheme[1])
    if path.startswith(("/", "~")):
        return "is not relative to the manifest", inside
    if ".." in path.split("/"):
        return "leads out of the release folder", inside
    if "//" in path:
        return "holds an empty folder name", "Write single slashes."
    return None


def _uri_fault(path: str, scheme: str) -> tuple[str, str] | None:
    kinds = f"Known are paths below the manifest's folder and {listed([s + '://' for s in SCHEMES])}."
    if scheme not in SCHEMES or not path.startswith(f"{scheme}://"):
        return "is not a kind of address that can be published", kinds
    host, _, rest = path.removeprefix(f"{scheme}://").partition("/")
    segments = re.sub("%2e", ".", rest, flags=re.IGNORECASE).split("/")
    if not host or ".." in segments or any(c.isspace() for c in path):
        return f"is not a valid {scheme}:// address", "Correct it."
    if "@" in host and scheme != "hf":
        return "holds a user name or password", "Leave credentials out; a manifest is public."
    if scheme == "hf" and not rest.strip("/"):
        return "names no repository", "Write hf://org/name@revision/path, or hf://datasets/org/name/path."
    return None
