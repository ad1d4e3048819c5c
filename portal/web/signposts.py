"""Signposting: `Link` headers that lead harvesters from a page to its citation, description, files and licence.

https://signposting.org/FAIR/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from portal.catalog.answers import FileView

MAX_ITEMS = 20
"""Files named one by one; of more, the description tells."""
_LICENCES = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "odc-by": "ODC-By-1.0",
    "odc-by-1.0": "ODC-By-1.0",
    "cc0-1.0": "CC0-1.0",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
}
"""As manifests write them, to SPDX names; a licence that is not here gets no link, because none can be known."""


def add_signposts(
    answer: Response, address: str, place: tuple[str, int, int | None], licence: Any, files: Sequence[FileView] = ()
) -> Response:
    """``place`` is run, version and step (None for the run as a whole); ``files`` are its contents."""
    run, version, step = place
    here = f"{address}/r/{run}" + (f"/s/{step}" if step is not None else "")
    described = f"{address}/api/v1/runs/{run}" + (f"/steps/{step}" if step is not None else "")
    links = [
        f'<{here}?v={version}>; rel="cite-as"',
        '<https://schema.org/Dataset>; rel="type"',
        '<https://schema.org/AboutPage>; rel="type"',
        f'<{described}>; rel="describedby"; type="application/json"',
        f'<{address}/api/v1/runs/{run}/croissant>; rel="describedby"; type="application/ld+json"',
    ]
    known = _licence(licence)
    links += [f'<{known}>; rel="license"'] if known else []
    urls = [f.url for f in files if f.url]
    if len(urls) <= MAX_ITEMS:
        links += [f'<{_absolute(url, address)}>; rel="item"; type="application/octet-stream"' for url in urls]
    answer.headers["Link"] = ", ".join(links)
    return answer


def _licence(name: Any) -> str | None:
    text = str(name or "").strip()
    if text.startswith("https://"):
        return quote(text, safe="%/:=&?~#+!$,;@()*")
    spdx = _LICENCES.get(text.lower())
    return f"https://spdx.org/licenses/{spdx}" if spdx else None


def _absolute(url: str, address: str) -> str:
    return quote(url if "://" in url else f"{address}{url}", safe="%/:=&?~#+!$,;@()*")
