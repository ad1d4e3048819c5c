"""Scripts and styles put together, so that a page asks for few files: what they import stands in them.

The files work as they lie, too. Scripts may import only in the plain ways named at ``_IMPORT`` and ``_EXPORT``; anything
else is an error when the portal starts, never a page that does half.
"""

from __future__ import annotations

import re
from pathlib import Path

SCRIPTS = ("page", "timeline", "compare", "tokens", "runs", "picture", "lists", "submit", "job")
"""Modules that pages or other modules ask for by address; each holds what it imports, except for another one of these."""
STYLES = ("portal",)

_IMPORT = re.compile(
    r'^import (?:\{ (?P<names>[\w$]+(?:, [\w$]+)*) \} from )?"\./(?P<module>[\w-]+)\.js";$', re.MULTILINE
)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (?P<name>[\w$]+))", re.MULTILINE)
_ODD = re.compile(r"^\s*(?:import|export)\b(?!\().*$", re.MULTILINE)
_SHEET = re.compile(r'^@import "(?P<sheet>[\w-]+\.css)";$', re.MULTILINE)


def bundle_script(folder: Path, name: str) -> str:
    """The module ``name`` with those it imports in front, each in a function of its own. Raises ValueError."""
    parts: dict[str, str] = {}
    outside: list[str] = []
    exports = _gather(folder, name, parts, outside, ())
    body = "\n".join([*dict.fromkeys(outside), *parts.values()])
    return body + (f"\nexport const {{ {', '.join(exports)} }} = {_scope(name)};\n" if exports else "\n")


def bundle_style(folder: Path, name: str) -> str:
    """The sheet ``name`` with those it imports where it imports them."""
    text = (folder / f"{name}.css").read_text("utf-8")
    return _SHEET.sub(lambda found: (folder / found["sheet"]).read_text("utf-8"), text)


def _gather(folder: Path, name: str, parts: dict[str, str], outside: list[str], above: tuple[str, ...]) -> list[str]:
    """Put a module into ``parts`` behind those it imports; its exported names."""
    if name in above:
        raise ValueError(f"static/js: modules import each other in a circle: {' → '.join([*above, name])}.")
    text = (folder / f"{name}.js").read_text("utf-8")
    exports = [found["name"] for found in _EXPORT.finditer(text)]
    if name in parts:
        return exports

    def bring(found: re.Match[str]) -> str:
        module, names = found["module"], found["names"]
        if module in SCRIPTS:
            outside.append(found[0])
            return ""
        known = _gather(folder, module, parts, outside, (*above, name))
        missing = [one for one in (names or "").split(", ") if one and one not in known]
        if missing:
            raise ValueError(f"static/js/{name}.js imports {', '.join(missing)}, which {module}.js does not export.")
        return f"const {{ {names} }} = {_scope(module)};" if names else ""

    inside = _EXPORT.sub("", _IMPORT.sub(bring, text))
    odd = _ODD.search(inside)
    if odd:
        raise ValueError(f"static/js/{name}.js: {odd[0].strip()[:80]!r} is no import or export that bundles know.")
    parts[name] = f"const {_scope(name)} = (() => {{\n{inside}return {{ {', '.join(exports)} }};\n}})();"
    return exports


def _scope(name: str) -> str:
    return f"$${name.replace('-', '_')}"
