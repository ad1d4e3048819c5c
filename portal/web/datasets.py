"""The data of a run as a dataset: Croissant for searches and loaders."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from portal.catalog.moments import Place, get_moment
from portal.exchange.croissant import MEDIA_TYPE, croissant_of
from portal.web.citations import cite
from portal.web.deps import Config, Db, PortalAddress, RunName, as_json, ready_answer

router = APIRouter(tags=["data"])


@router.get("/api/datasets/{org}/{name}/croissant", include_in_schema=False)
@router.get("/api/v1/runs/{org}/{name}/croissant", summary="The data as Croissant 1.1", response_class=Response)
def read_croissant(request: Request, db: Db, settings: Config, run: RunName, address: PortalAddress) -> Response:
    """JSON-LD for `mlcroissant` and dataset searches: every data file with its sha256 and address, and its rows."""
    citation = cite(get_moment(db, settings, Place(run)), address)
    return ready_answer(request, as_json(croissant_of(db, settings, run, address, citation.bib)), MEDIA_TYPE)
