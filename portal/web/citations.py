"""How a moment is cited: BibTeX and CITATION.cff, with nothing in a title or a label obeyed."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import yaml

from portal.catalog.answers.moments import CheckpointMark, Moment
from portal.web.filters import short

_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", '"': r"\textquotedbl{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
KINDS = {"bib": "application/x-bibtex", "cff": "application/yaml"}


@dataclass(frozen=True)
class Citation:
    """One moment, ready to be pasted."""

    key: str
    title: str
    address: str
    bib: str
    cff: str


def cite(moment: Moment, portal: str) -> Citation:
    """The citation of a moment under the address at which the portal ``portal`` is reached.

    The year is that of the version's publication; an access date is the reader's to add.
    """
    key, title, address = _key(moment), _title(moment), portal + moment.permalink
    return Citation(key, title, address, _bibtex(moment, key, title, address), _cff(moment, title, address))


def place_of(moment: Moment) -> str:
    """The place in words: ``step 131,072, row 17, tokens 3-9``; empty for a whole run."""
    if moment.at is None:
        return ""
    parts = [f"step {moment.at.step:,}"]
    if moment.row is not None:
        parts.append(f"row {moment.row.position:,}")
    if moment.tokens is not None:
        one = moment.tokens.first == moment.tokens.last
        parts.append(f"token {moment.tokens.first}" if one else f"tokens {moment.tokens.first}-{moment.tokens.last}")
    return ", ".join(parts)


def plain(text: str) -> str:
    """Text on one line; what hides or acts becomes its code point's name, as citations have no markup to show it."""
    shown = (f"<U+{ord(c):04X}>" if unicodedata.category(c) in _HIDDEN else c for c in " ".join(text.split()))
    return "".join(shown)


def tex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(_TEX.get(char, char) for char in plain(text))


def mark_in_words(mark: CheckpointMark) -> str:
    """``ckpt_171 (step 131064)``, and that it is missing where it is."""
    name = f"{mark.labels[0]} (step {mark.step})" if mark.labels else f"step {mark.step}"
    return f"{name}, never released" if mark.missing else name


def _title(moment: Moment) -> str:
    place = place_of(moment)
    return f"{plain(moment.title)}: {place}" if place else plain(moment.title)


def _key(moment: Moment) -> str:
    parts = [moment.run, f"v{moment.version}"]
    if moment.at is not None:
        parts.append(f"s{moment.at.step}")
    if moment.row is not None:
        parts.append(f"r{moment.row.position}")
    if moment.tokens is not None:
        parts.append(f"t{moment.tokens.first}_{moment.tokens.last}")
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join(parts))


def _notes(moment: Moment) -> list[str]:
    """What a reader needs to find the same bytes elsewhere."""
    notes = [f"Run {moment.run}, version {moment.version} of its release"]
    at = moment.at
    if at is not None and at.tokens is not None:
        notes.append(f"{short(at.tokens)} tokens read by the end of step {at.step}")
    state = moment.saved if moment.saved and not moment.saved.missing else moment.before
    if state is not None:
        when = "Checkpoint at this step" if state is moment.saved else "Checkpoint before"
        digest = f", sha256 {state.sha256}" if state.sha256 else ", not hashed"
        notes.append(f"{when}: {mark_in_words(state)}{digest}")
        if state.sha256 and len(state.of) > 1:
            notes.append(f"its sha256 is that of the sha256sum list of its {len(state.of)} weights files")
    if moment.row is not None:
        notes.append(f"Row {moment.row.row} of {moment.row.chunk}, data order {moment.row.order.confidence}")
    if moment.tokens is not None:
        notes.append(f"sha256 of the token ids {moment.tokens.ids_sha256}")
    if moment.synthetic:
        notes.append("Synthetic: made up in the shape of a real run")
    return notes


def _bibtex(moment: Moment, key: str, title: str, address: str) -> str:
    fields = {
        "author": "{" + tex(moment.run.partition("/")[0]) + "}",
        "title": "{" + tex(title) + "}",
        "year": str(moment.published_at.year),
        "month": str(moment.published_at.month),
        "version": str(moment.version),
        # Not escaped: \url and biblatex take an address literally. What would end the field is percent-encoded.
        "url": address.replace("{", "%7B").replace("}", "%7D").replace("\\", "%5C").replace(" ", "%20"),
        "note": tex("; ".join(_notes(moment))),
    }
    lines = [f"  {name:<7} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@misc{{{key},", *lines, "}"]) + "\n"


def _cff(moment: Moment, title: str, address: str) -> str:
    identifiers = [
        {"type": "url", "value": address, "description": f"This moment in version {moment.version}"},
        {"type": "other", "value": f"sha256:{moment.fingerprint}", "description": "The version of the release"},
    ]
    state = moment.saved if moment.saved and not moment.saved.missing else moment.before
    if state is not None and state.sha256:
        told = f"Weights of {mark_in_words(state)}"
        identifiers.append({"type": "other", "value": f"sha256:{state.sha256}", "description": told})
    document: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you refer to this moment of the run, please cite it as below.",
        "type": "dataset",
        "title": title,
        "authors": [{"name": moment.run.partition("/")[0]}],
        "version": str(moment.version),
        "date-released": moment.published_at.date(),
        "url": address,
        "identifiers": [{k: plain(v) for k, v in entry.items()} for entry in identifiers],
        "abstract": plain("; ".join(_notes(moment))),
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
