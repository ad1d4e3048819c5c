"""A download plan in the words of other downloaders: Metalink 4 (RFC 5854), aria2's input file, curl's config."""

from __future__ import annotations

import re
from urllib.parse import quote
from xml.etree import ElementTree

from portal.web.downloads import Download, DownloadPlan, write_sums

METALINK = "urn:ietf:params:xml:ns:metalink"
LISTS = (
    ("meta4", "Metalink", "For aria2c -V --allow-overwrite=true -M pair.meta4: resumable, in parallel, verified"),
    ("aria2", "aria2", "For aria2c -c -x8 -i pair.aria2: resumable, in parallel, verified"),
    ("curl", "curl", "For curl --parallel -K pair.curl: resumable; check it with SHA256SUMS"),
)
"""Kind, name and use of each list."""
_NOT_XML = re.compile("&|[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped; and the ampersand, which aria2 1.36 does not read back as one."""
_KEPT_IN_ADDRESSES = "%/:=&?~#+!$,;'@()*[]"


def write_metalink(plan: DownloadPlan, portal: str) -> str:
    """For ``aria2c -V --allow-overwrite=true -M``: sizes, sha256 and addresses under ``portal``."""
    root = ElementTree.Element("metalink", xmlns=METALINK)
    for told in _left_out(plan, _NOT_XML):
        root.append(ElementTree.Comment(f" {told.replace('--', '- -').rstrip('-')} "))
    for file in _writable(plan, _NOT_XML):
        entry = ElementTree.SubElement(root, "file", name=file.target)
        if file.size is not None:
            ElementTree.SubElement(entry, "size").text = str(file.size)
        if file.sha256:
            ElementTree.SubElement(entry, "hash", type="sha-256").text = file.sha256
        ElementTree.SubElement(entry, "url").text = _address(file, portal)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


_TRIMMED = re.compile(r"^\s|\s$")
"""aria2 trims what an option is set to, so such a file would land under another name."""


def write_aria2(plan: DownloadPlan, portal: str) -> str:
    """For ``aria2c -c -x8 -i``: one address with its place and checksum after the other."""
    lines = [f"# {told}" for told in _left_out(plan, _TRIMMED)]
    for file in _writable(plan, _TRIMMED):
        # A released file may be a metalink or torrent itself: it is to be stored, not obeyed.
        lines += [_address(file, portal), f"  out={file.target}", "  follow-metalink=false", "  follow-torrent=false"]
        lines += [f"  checksum=sha-256={file.sha256}"] if file.sha256 else []
    return "".join(f"{line}\n" for line in lines)


def write_curl(plan: DownloadPlan, portal: str) -> str:
    """For ``curl --parallel -K``: resumable; whether all is well, ``sha256sum -c`` tells, not curl's exit status."""
    lines = [f"# {told}" for told in _left_out(plan, None)]
    lines += [
        "# A finished file answers 416 when this is repeated: judge by sha256sum -c, not by the exit status.",
        "location",
        "fail",
        "globoff",
        "create-dirs",
        'continue-at = "-"',
    ]
    for file in plan.files:
        lines += [f"url = {_quoted(_address(file, portal))}", f"output = {_quoted(file.target)}"]
    return "".join(f"{line}\n" for line in lines)


def write_list(kind: str, plan: DownloadPlan, portal: str) -> tuple[str, str]:
    """Text and media type of the list ``kind``: ``meta4``, ``aria2``, ``curl`` or ``sha256``."""
    if kind == "meta4":
        return write_metalink(plan, portal), "application/metalink4+xml"
    if kind == "aria2":
        return write_aria2(plan, portal), "text/plain"
    return (write_curl(plan, portal) if kind == "curl" else write_sums(plan)), "text/plain"


def _address(file: Download, portal: str) -> str:
    url = file.url if "://" in file.url else portal + file.url
    # An address that a manifest gave may hold anything: what ends a line or a word in these lists is encoded.
    return quote(url, safe=_KEPT_IN_ADDRESSES)


def _writable(plan: DownloadPlan, refused: re.Pattern[str]) -> list[Download]:
    return [f for f in plan.files if not refused.search(f.target)]


def _left_out(plan: DownloadPlan, refused: re.Pattern[str] | None) -> list[str]:
    """A sentence for each file the list lacks, in characters that every one of these formats can hold."""
    odd = [f.target for f in plan.files if refused and refused.search(f.target)]
    told = [*plan.absent, *(f"Not in this list, which cannot name it: {name!r}" for name in odd)]
    return [" ".join(t.encode("ascii", "backslashreplace").decode().split()) for t in told]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
