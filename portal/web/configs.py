"""Hyper-parameters and code of a run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from portal.catalog.answers import ConfigView, Page
from portal.catalog.configs import get_config_table
from portal.catalog.findings import list_configs
from portal.catalog.runs import get_run
from portal.web.deps import Config, Cursor, Db, Limit, RunName, page_answer
from portal.web.render import render

api = APIRouter(prefix="/api/v1", tags=["runs"])
pages = APIRouter(include_in_schema=False)

CONFIGS = 20
"""Configs on one page."""


@api.get("/runs/{org}/{name}/configs", response_model=Page[ConfigView], summary="Hyper-parameters and code")
def read_configs(
    request: Request, db: Db, settings: Config, run: RunName, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """What was in force from which step to which."""
    return page_answer(request, list_configs(db, run, limit, cursor, settings))


@pages.get("/runs/{org}/{name}/configs")
def show_configs(
    request: Request,
    db: Db,
    settings: Config,
    run: RunName,
    q: Annotated[str, Query(max_length=200)] = "",
    differing: bool = False,
) -> Response:
    """All settings as one table, a column a config, with where each config comes from."""
    context = {
        "configs": list_configs(db, run, CONFIGS, None, settings),
        "table": get_config_table(db, run, q, differing),
        "q": q,
        "differing": differing,
    }
    return render(request, "runs/configs.html", {"detail": get_run(db, run), "tab": "Config", **context})
