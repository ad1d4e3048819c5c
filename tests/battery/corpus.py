"""Payloads that try to leave a folder, and texts and numbers that break programs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

DEPTHS = (1, 2, 4, 6, 8, 12)
STEPS = (
    "../", "..\\", "%2e%2e/", "%2e%2e%2f", "..%2f", "..%5c", "%252e%252e%252f", "..%252f", "%c0%ae%c0%ae/", "..%c0%af",
    "..%ef%bc%8f", "....//", "..;/", "..%00/", ".%2e/", "%2e./", "..%u2215", "..//", "./../", "x/../../",
)  # fmt: skip
"""One step up, spelt in ways that one decoder or another understands."""
PREFIXES = (
    "file://", "file:", "file:///", "FILE:///", "dbfs:", "dbfs:/", "local:", "hf://../../", "s3://../", "https://127.0.0.1/../",
    "//", "///", "\\\\?\\", "\\\\localhost\\c$\\", "C:", "C:\\", "/proc/self/root", "//proc/self/root", "/proc/self/cwd/",
    "/dev/fd/../../", "~", "~root/", "./", "%2f", "%252f", "%5c", "#", "?", ";", "&", "|", "$HOME/", "${HOME}/", "`pwd`/",
    "\x00", "%00", "\n", "%0a", "%0d%0a", "\ufeff", "jar:file://", "php://filter/resource=", "netdoc:",
)  # fmt: skip
"""Before an absolute path."""
TAILS = (
    "",
    "%00",
    "%00.json",
    "\x00.safetensors",
    "#",
    "#/../x",
    "?",
    "?x=/../",
    ";",
    ";/x",
    "/.",
    "//",
    "%20",
    "%2f",
    ".",
)


def escaping_paths(target: Path, sibling: Path) -> list[str]:
    """At least 400 different payloads that name ``target`` or ``sibling``, or /etc/passwd, from within any folder."""
    found: dict[str, None] = {}
    for place in (str(target), "/etc/passwd"):
        inner = place.lstrip("/")
        for step, depth in itertools.product(STEPS, DEPTHS):
            found[step * depth + inner] = None
        for prefix in PREFIXES:
            found[prefix + place] = None
        for tail in TAILS:
            found[place + tail] = None
            found["../" * 8 + inner + tail] = None
    # A folder whose name begins like the allowed one.
    for step in ("../", "%2e%2e%2f", "..%2f"):
        found[f"{step}{sibling.parent.name}/{sibling.name}"] = None
    found |= dict.fromkeys((".", "..", "/", "//", "...", "\\", "%", "%2", "%zz", "..%", "CON", "NUL", "aux.json", "."))
    return list(found)


NUMBERS = (
    "-1", "0", "-0", "00", "1e3", "1.0", "0x10", "2147483647", "2147483648", "-2147483649", "9007199254740991",
    "9007199254740992", "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "1" * 100, "9" * 10_000, "1e308", "1e309", "1e999", "-1e999", "NaN",
    "nan", "Infinity", "-Infinity", "inf", "-0.0", "5e-324", "1e-400", "true", "false", "null", "None", "", " ", "1 ", " 1",
    "+1", "1_000", "1,000", "١٢٣", "１２", "1\x00", "1;2", "[]", "{}", "[1]", "0b1", "0o7", "1e", "--1", "2**63",
)  # fmt: skip
"""As text in paths and queries, and as JSON where it is JSON."""

JSON_NUMBERS = (
    "-1", "0", "-0", "-0.0", "1.0", "1.5", "2147483648", "9007199254740991", "9007199254740992", "9223372036854775808",
    "18446744073709551616", "9" * 400, "1e308", "1e309", "1e999", "NaN", "Infinity", "-Infinity", "5e-324", "1e-400",
    '"1"', '"NaN"', "true", "false", "null", "[]", "{}", "[1]",
)  # fmt: skip

TEXTS = (
    "\x00", "a\x00b", "\ud800", "\udfff\ud800", "a\ud83d", "\u202eabc", "\u2066x\u2069", "a\u200db", "\u200b", "\ufeffx", "e\u0301",
    "\u00e9", "ᏚᎪFE", "lаb", "\u2028", "\u2029", "\x1b[31m", "\x07", "\x7f", "\x85", "\ufffe", "\uffff", "\U0010ffff", "\ufdfa" * 100,
    "ﬁ", "İ", "ß", "\n", "\r\nX: y", "\t", " ", "", "'", '"', "\\", "%", "%s%s%n", "{0}", "{{7*7}}", "${7*7}", "$(id)", "`id`",
    "; drop table run;--", "' or 1=1--", "%27", "*", "_", "%25", "x" * 300, "x" * 5_000, "../", "/", "//", ".", "..", "null",
    "None", "undefined", "NaN", "true", "0", "-1", "[]", "{}", "<script>1</script>", "javascript:1", "data:text/html,x", "=1+1",
    "@x", "+1", "😀" * 50, "👩‍👩‍👧", "Z̷̧̛", "\u0000".join("abc"), "%00", "%ff", "%c3%28", "%f0%9f", "a" * 9 + "!",
)  # fmt: skip
"""Texts that one layer or another trips over."""


def every(values: tuple[str, ...] | list[str], keep: int, shift: int) -> Iterator[str]:
    """``keep`` of the values, others with each ``shift``: over many parameters all of them come."""
    if keep >= len(values):
        yield from values
        return
    stride = max(len(values) // keep, 1)
    for number in range(keep):
        yield values[(shift + number * stride) % len(values)]
