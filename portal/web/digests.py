"""What the files of a run are: their digests, and those of their blocks."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from portal.catalog.answers import FileView, Page
from portal.catalog.answers.files import FileBlocks
from portal.catalog.digests import get_blocks, list_files
from portal.web.deps import Config, Cursor, Db, Limit, RunName, json_answer, live_page_answer

router = APIRouter(prefix="/api/v1", tags=["files"])


@router.get("/runs/{org}/{name}/files", response_model=Page[FileView], summary="All files of a run")
def read_files(
    request: Request, db: Db, settings: Config, run: RunName, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Checkpoints, data and everything else of the current version, with sizes, sha256 and addresses."""
    return live_page_answer(request, list_files(db, settings, run, limit, cursor))


@router.get("/blocks/{sha256}", response_model=FileBlocks, summary="Digests of a file's blocks")
def read_blocks(db: Db, sha256: str) -> Response:
    """One digest for each block of a file that lies here: whoever holds a damaged copy fetches its bad blocks alone."""
    return json_answer(get_blocks(db, sha256), {"Cache-Control": "public, max-age=31536000, immutable"})
