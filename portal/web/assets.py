"""Scripts and styles: served from memory, compressed ahead, cached for ever under an address that names their content."""

from __future__ import annotations

import gzip
import hashlib
import json
import mimetypes
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from portal.errors import NotFound
from portal.web.bundles import SCRIPTS, STYLES, bundle_script, bundle_style

FOREVER = "public, max-age=31536000, immutable"
_STAMP = re.compile(r"^~([0-9a-f]{12})/")
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_SERVED = {".js", ".css", ".svg"}


@dataclass(frozen=True)
class Vendored:
    """One file that another project wrote, as ``static/vendor/vendor.json`` records it."""

    file: str
    package: str
    version: str
    licence: str
    size: int
    sha384: str
    """base64 of the digest, as ``integrity=`` wants it."""


@dataclass(frozen=True)
class Asset:
    """One file under ``static/`` with its ready-made encodings."""

    path: str
    content_type: str
    etag: str
    stamp: str
    bodies: dict[str, bytes]
    """Keyed ``br``, ``gzip`` (where they exist) and ``identity``."""


class Assets:
    """Every file under ``static/`` by its path there."""

    def __init__(self, folder: Path) -> None:
        self.vendored = {entry.file: entry for entry in read_vendored(folder)}
        files = sorted(path for path in folder.rglob("*") if path.suffix in _SERVED and path.is_file())
        # Own modules import each other by relative path, so they share one stamp and change address together;
        # a vendored file keeps its address (and stays in every browser's cache) until it changes itself.
        own = [path for path in files if path.parent.name != "vendor"]
        shared = hashlib.sha256(b"".join(path.read_bytes() for path in own)).hexdigest()[:12]
        self._assets = {
            path.relative_to(folder).as_posix(): _load(path, folder, shared if path in own else None) for path in files
        }

    def url(self, path: str) -> str:
        """The address of a file, changing with its content."""
        return f"/static/~{self._assets[path].stamp}/{path}"

    def integrity(self, file: str) -> str:
        """The ``integrity`` attribute of a vendored file."""
        return f"sha384-{self.vendored[file].sha384}"

    def find(self, path: str) -> tuple[Asset, bool]:
        """The file at a (stamped) path, and whether the stamp is the current one. Raises NotFound."""
        match = _STAMP.match(path)
        plain = path[match.end() :] if match else path
        asset = self._assets.get(plain)
        if asset is None:
            raise NotFound(f"There is no file {plain[:200]!r} under /static.", "Reload the page that asked for it.")
        return asset, bool(match) and match is not None and match.group(1) == asset.stamp


def static_folder() -> Path:
    """Scripts and styles: inside the installed package, or at the top of a checkout."""
    inside = Path(__file__).parent.parent / "_static"
    return inside if inside.is_dir() else Path(__file__).parent.parent.parent / "static"


def read_vendored(folder: Path) -> list[Vendored]:
    """The entries of ``vendor/vendor.json`` below ``folder``."""
    return [Vendored(**entry) for entry in json.loads((folder / "vendor" / "vendor.json").read_text("utf-8"))]


@cache
def load_assets() -> Assets:
    """The files of this installation, read once per process."""
    return Assets(static_folder())


router = APIRouter(include_in_schema=False)


@router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
def get_static(request: Request, path: str) -> Response:
    """A file, in the best encoding the browser takes."""
    asset, current = load_assets().find(path)
    headers = {
        "ETag": asset.etag,
        "Cache-Control": FOREVER if current else "no-cache",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    accepted = {part.split(";")[0].strip() for part in request.headers.get("accept-encoding", "").split(",")}
    encoding = next((name for name in ("br", "gzip") if name in accepted and name in asset.bodies), "identity")
    if encoding != "identity":
        headers["Content-Encoding"] = encoding
    return Response(asset.bodies[encoding], media_type=asset.content_type, headers=headers)


def _read(path: Path) -> bytes:
    """A file as it is served: what pages ask for holds what it imports."""
    if path.parent.name == "js" and path.stem in SCRIPTS:
        return bundle_script(path.parent, path.stem).encode()
    if path.parent.name == "css" and path.stem in STYLES:
        return bundle_style(path.parent, path.stem).encode()
    return path.read_bytes()


def _load(path: Path, folder: Path, shared_stamp: str | None) -> Asset:
    body = _read(path)
    digest = hashlib.sha256(body).hexdigest()
    bodies = {"identity": body, "gzip": gzip.compress(body, 9, mtime=0)} if shared_stamp else {"identity": body}
    for ending, encoding in ((".gz", "gzip"), (".br", "br")):
        packed = path.with_name(path.name + ending)
        if packed.is_file():
            bodies[encoding] = packed.read_bytes()
    return Asset(
        path=path.relative_to(folder).as_posix(),
        content_type=_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        etag=f'"{digest[:32]}"',
        stamp=shared_stamp or digest[:12],
        bodies=bodies,
    )
