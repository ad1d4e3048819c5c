"""What routes need, as short type names for their signatures."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from blake3 import blake3
from fastapi import Depends, Path, Query, Request
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from portal.catalog.answers import Page
from portal.database import WORK_STATEMENT_S, Engine, create_database_engine, open_session
from portal.errors import BadRequest
from portal.settings import Settings
from portal.web.kept import matches

if TYPE_CHECKING:
    from portal.signing.keys import SigningKey

_STEP = re.compile(r"^[+-]?[0-9]{1,1000}$")


@dataclass(frozen=True)
class Desk:
    """What one portal process works with; made once by `create_app`."""

    settings: Settings
    engine: Engine
    key: SigningKey | None = None
    """What the portal signs with; None where it signs nothing."""

    @cached_property
    def work_engine(self) -> Engine:
        """The same database for what takes longer than a page may: publishing, jobs, fixity."""
        in_memory = self.engine.url.database in (None, "", ":memory:")
        return self.engine if in_memory else create_database_engine(self.settings, WORK_STATEMENT_S)

    def close(self) -> None:
        """Let go of the connections."""
        self.engine.dispose()
        self.work_engine.dispose()


def get_desk(request: Request) -> Desk:
    """The process's desk."""
    desk: Desk = request.app.state.desk
    return desk


async def get_settings(request: Request) -> Settings:
    """The settings the application was made with."""
    return get_desk(request).settings


async def get_address(request: Request) -> str:
    """Where this portal is reached: as set, else as this request came."""
    return (get_desk(request).settings.public_url or str(request.base_url)).rstrip("/")


async def get_session(request: Request) -> AsyncIterator[Session]:
    """A session for one request; opening one asks the database nothing, so no thread is needed for it."""
    engine = get_desk(request).engine
    with open_session(engine) as session:
        yield session
        if engine.dialect.name != "sqlite":
            # Giving the connection back is a round trip to the server.
            await run_in_threadpool(session.close)


async def get_run_name(
    org: Annotated[str, Path(description="Organisation of the run.")],
    name: Annotated[str, Path(description="Name of the run.")],
) -> str:
    """``org/name``."""
    return f"{org}/{name}"


async def get_step_number(
    step: Annotated[str, Path(description="Step, counted from 1; 0 is the initial model.")],
) -> int:
    """The step as a number of any size; BadRequest when it is none."""
    return parse_step(step)


def parse_step(text: str, parameter: str = "step") -> int:
    """A whole number in decimal digits; BadRequest otherwise."""
    if not _STEP.match(text):
        raise BadRequest(
            f"{parameter} is {text[:100]!r}, which is not a whole number.",
            "Write digits only, e.g. 1000.",
            parameter=parameter,
        )
    return int(text)


Db = Annotated[Session, Depends(get_session)]
Config = Annotated[Settings, Depends(get_settings)]
PortalAddress = Annotated[str, Depends(get_address)]
RunName = Annotated[str, Depends(get_run_name)]
Step = Annotated[int, Depends(get_step_number)]
Limit = Annotated[int, Query(description="Items in one page, 1 to 1000.")]
Cursor = Annotated[str | None, Query(description="`next` of the page before.", max_length=300)]


def ready_answer(request: Request, body: bytes, media_type: str = "application/json") -> Response:
    """Bytes that are made anew for each request, with an ETag so that a client need not fetch them twice."""
    etag = f'"{blake3(body).hexdigest(12)}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    wanted = request.headers.get("if-none-match")
    if wanted is not None and matches(wanted.encode("latin-1"), etag.encode()):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, media_type)


def as_json(value: Any) -> bytes:
    """A dataclass (or what is made of them) as JSON; arrays become lists, NaN becomes null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)


def json_answer(value: Any, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    """An answer that is kept as bytes (see `kept.py`), which also gives it its ETag."""
    return Response(as_json(value), status, headers, "application/json")


def page_answer(request: Request, page: Page[Any]) -> Response:
    """A page of a list, with the next one in `Link` (RFC 8288)."""
    return json_answer(page, _link_next(request, page))


def live_page_answer(request: Request, page: Page[Any]) -> Response:
    """The same for a list that is made anew for each request, with an ETag: whoever looks again gets 304 until it changes."""
    made = ready_answer(request, as_json(page))
    made.headers.update(_link_next(request, page))
    return made


def _link_next(request: Request, page: Page[Any]) -> dict[str, str]:
    if page.next is None:
        return {}
    # Relative, because an answer is kept for whoever asks next, under whatever host name.
    query = request.url.include_query_params(cursor=page.next).query
    return {"Link": f'<{request.url.path}?{query}>; rel="next"'}
