"""Citations of runs whose every text is hostile to BibTeX, YAML and terminals."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from portal.catalog.answers.moments import CheckpointMark, Moment
from portal.web.citations import cite, plain, tex

TITLES = [
    r"100 % of $x_1$ & {brace} #1 \input{/etc/passwd} ~^",
    "quote \" and ' colon: # no comment",
    "- a list\n? a key: value\n--- \n... !!python/object:os.system",
    "line\nbreak\r\ttab   wide",
    "\x1b]8;;http://evil.example\x07link\x1b]8;;\x07 \x1b[31m",
    "right\u202eto left \u2066\u200b\ufeff zero",
    "*anchor &alias @misc{x, } %TAG ! | > yes null ~",
    "naïve 日本語 🙂",
    "}}}, year = {1900}",
]


def moment(title: str, **changes: Any) -> Moment:
    mark = CheckpointMark(5, [title], False, "ab" * 32, ["a.safetensors", "b.safetensors"])
    values: dict[str, Any] = {
        "run": "lab/run", "title": title, "synthetic": True, "version": 2, "current_version": 3,
        "published_at": datetime(2024, 2, 29, tzinfo=UTC), "fingerprint": "cd" * 32, "permalink": "/r/lab/run?v=2",
        "page": "/runs/lab/run", "at": None, "before": mark, "saved": None, "after": None, "row": None, "tokens": None,
    }  # fmt: skip
    return Moment(**{**values, **changes})


@pytest.mark.parametrize("title", TITLES)
def test_bibtex_holds_one_entry_whatever_the_title(title: str) -> None:
    bib = cite(moment(title), "http://portal.example").bib
    assert bib.count("\n@") == 0
    assert bib.startswith("@misc{lab_run_v2,")
    # Unescaped braces balance and close only at the entry's end.
    depth, ends = 0, []
    for at, char in enumerate(bib):
        if bib[at - 1] == "\\":
            continue
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth == 0 and char == "}":
            ends.append(at)
    assert ends == [len(bib) - 2]
    assert re.search(r"^  year    = \{2024\},$", bib, re.MULTILINE)
    assert not set(bib) & set(map(chr, [*range(10), *range(11, 32), 0x202E, 0x200B, 0xFEFF, 0x2066]))


@pytest.mark.parametrize("title", TITLES)
def test_citation_cff_reads_back(title: str) -> None:
    text = cite(moment(title), "http://portal.example").cff
    document = yaml.safe_load(text)
    assert document["title"] == plain(title)
    assert document["version"] == "2"
    assert document["date-released"].isoformat() == "2024-02-29"
    assert document["identifiers"][0]["value"] == "http://portal.example/r/lab/run?v=2"
    assert document["identifiers"][2]["value"] == f"sha256:{'ab' * 32}"
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_latex_sets_special_characters_as_they_are() -> None:
    assert tex(r"a_b & 5% {x}\y") == r"a\_b \& 5\% \{x\}\textbackslash{}y"
    assert tex("\x1b[0m") == r"\textless{}U+001B\textgreater{}[0m"


def test_nothing_is_made_up() -> None:
    unhashed = CheckpointMark(5, [], False, None, [])
    citation = cite(moment("A run", before=unhashed, synthetic=False), "http://portal.example")
    assert "sha256" not in citation.bib
    assert "not hashed" in citation.bib
    assert "urldate" not in citation.bib
    assert "its sha256 is that of the sha256sum list" in cite(moment("A run"), "").bib
    assert "Synthetic" in cite(moment("A run"), "").bib
