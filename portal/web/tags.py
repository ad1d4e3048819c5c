"""ETags of answers that follow from a published release and the question alone: hashing those is shorter than hashing the answer."""

from __future__ import annotations

from blake3 import blake3
from fastapi import Request
from starlette.responses import Response

from portal import __version__
from portal.web.kept import matches


def tag_of(run: str, release: str, question: str) -> str:
    """The ETag of what is answered to ``question`` of ``release`` (`ReleaseFacts.key`)."""
    basis = f"{__version__}\n{run}\n{release}\n{question}"
    return f'"{blake3(basis.encode()).hexdigest(12)}"'


def unless_held(request: Request, etag: str) -> Response | None:
    """304 where the client says that it holds this already."""
    wanted = request.headers.get("if-none-match")
    if wanted is not None and matches(wanted.encode("latin-1"), etag.encode()):
        return Response(status_code=304, headers={"ETag": etag, "Cache-Control": "no-cache"})
    return None
