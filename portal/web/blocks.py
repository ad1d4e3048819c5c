"""Digests of the blocks of a file."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from portal.catalog.answers.files import FileBlocks
from portal.catalog.blocks import get_blocks
from portal.web.deps import Db, json_answer

router = APIRouter(prefix="/api/v1", tags=["files"])


@router.get("/blocks/{sha256}", response_model=FileBlocks, summary="Digests of a file's blocks")
def read_blocks(db: Db, sha256: str) -> Response:
    """One digest for each block of a file that lies here: whoever holds a damaged copy fetches its bad blocks alone."""
    return json_answer(get_blocks(db, sha256), {"Cache-Control": "public, max-age=31536000, immutable"})
