"""The application: routers, errors, kept answers and headers put together."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portal import __version__
from portal.catalog.jobs.rules import JobRules
from portal.catalog.signatures import record_portal_key
from portal.database import Engine, check_schema, create_database_engine, migrate
from portal.jobs.leftovers import LeftoverWatch
from portal.jobs.reaper import Reaper
from portal.scan.history import HistoryWatch
from portal.scan.schedule import FixityWatch
from portal.settings import Settings
from portal.signing.keys import SigningKey, load_key
from portal.web import (
    access,
    account,
    assets,
    attempts,
    attestations,
    checkpoints,
    chunks,
    compare,
    configs,
    datasets,
    digests,
    docs,
    evaluations,
    fetching,
    figures,
    files,
    findings,
    health,
    history,
    inspector,
    job_figures,
    job_lists,
    job_pages,
    job_submit,
    jobs,
    lineage,
    metrics,
    moments,
    oidc,
    pairs,
    problems,
    promises,
    publishing,
    runs,
    search,
    sign_in,
    steps,
    tokens,
    uploads,
    versions,
    visibility,
    worker_pages,
    workers,
)
from portal.web.asking import KnowWhoAsks
from portal.web.deps import Desk
from portal.web.direct import DirectAnswers
from portal.web.door.bodies import CheckBodies
from portal.web.door.entrance import Entrance, NoteRoute
from portal.web.door.parts import Door
from portal.web.door.places import BoundWork
from portal.web.door.traces import TraceRequests
from portal.web.headers import SecurityHeaders
from portal.web.hub import resolve
from portal.web.hub import routes as hub
from portal.web.job_desk import JobDesk
from portal.web.kept import AnswerShelf, KeepAnswers
from portal.web.openapi import DescribedAPI
from portal.web.sharing import ShareReading
from portal.web.stopping import heed_signals

if TYPE_CHECKING:
    from portal.web.identity.provider import Provider

NOUNS = (
    steps,
    pairs,
    metrics,
    checkpoints,
    chunks,
    runs,
    lineage,
    evaluations,
    configs,
    findings,
    search,
    compare,
    versions,
    history,
    promises,
)
"""Modules with an `api` and a `pages` router each; routes are tried in this order, so the busiest come first."""
DIRECT = ((metrics.api, metrics.read_metric_data), (steps.api, steps.read_step), (tokens.api, tokens.read_tokens))
"""What is answered without the framework."""

_STREAMED = re.compile(r"^/(files|static|api/v1/blobs)/|^/(datasets/)?([^/]+/){1,2}resolve/")


def create_app(settings: Settings, operator: bool = False, shared: Path | None = None) -> FastAPI:
    """The portal over the settings' database and files; ``operator`` where nobody but its operator can reach it,
    ``shared`` the folder of numbers that several processes of it share.

    Migrates an embedded database; raises Unavailable when a shared one has an outdated schema.
    """
    engine = create_database_engine(settings, settings.statement_seconds)
    if engine.dialect.name == "sqlite":
        migrate(engine)
    else:
        check_schema(engine)

    desk = Desk(settings, engine, _signing_key(settings, engine))
    rules = JobRules.of(settings)
    heads = HistoryWatch(desk.work_engine, desk.key, settings.history_sign_every)
    watches = (
        FixityWatch(settings, desk.work_engine),
        Reaper(settings, desk.work_engine, rules),
        LeftoverWatch(settings, desk.work_engine, rules),
        heads,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        heed_signals(settings.stop_delay)
        for watch in watches:
            watch.start()
        yield
        for watch in watches:
            await run_in_threadpool(watch.stop)
        door.close()
        desk.close()

    app = DescribedAPI(
        title="LLM360 Portal",
        version=__version__,
        description=docs.DESCRIPTION,
        openapi_tags=docs.TAGS,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.desk = desk
    app.state.jobs = JobDesk(engine, rules)
    app.state.answers = AnswerShelf(settings.answer_cache_bytes)
    app.state.history = heads
    app.state.provider = _provider(settings)
    # Before the nouns: a checkpoint's own address takes everything that comes after it.
    _take(app, attestations.router)
    _take(app, attestations.pages)
    _take(app, fetching.router)
    _take(app, datasets.router)
    for noun in NOUNS:
        _take(app, noun.api)
        _take(app, noun.pages)
    loose = (
        access.router,
        account.api,
        uploads.router,
        publishing.router,
        visibility.router,
        attempts.router,
        workers.router,
        jobs.router,
        tokens.api,
        inspector.pages,
        figures.pages,
        files.router,
        digests.router,
        health.router,
        docs.router,
    )
    # The last one takes every address of two parts that nobody else does.
    of_jobs = (account, oidc, sign_in, job_figures, job_lists, job_pages, job_submit, worker_pages)
    for router in (
        *loose,
        *(module.pages for module in of_jobs),
        moments.api,
        moments.pages,
        assets.router,
        resolve.router,
        hub.router,
        hub.pages,
    ):
        _take(app, router)
    problems.install(app)
    door = Door(desk, app.state.answers, shared)
    app.state.watched = door.watched
    _put_around(app, door, desk, operator)
    return app


def _put_around(app: FastAPI, door: Door, desk: Desk, operator: bool) -> None:
    """What every request passes. The last one added is met first: kept answers need no framework, and carry their
    headers themselves."""
    settings, engine = desk.settings, desk.engine
    app.add_middleware(NoteRoute)
    app.add_middleware(DirectAnswers, ways=DIRECT)
    app.add_middleware(BoundWork, places=door.places, costly=door.costly)
    app.add_middleware(HeadAsGet)
    app.add_middleware(CheckBodies, settings=settings)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(KeepAnswers, engine=engine, shelf=app.state.answers)
    # Before anything is looked up, kept answers included: what there is depends on who asks.
    app.add_middleware(KnowWhoAsks, engine=engine, anonymous_reading=settings.anonymous_reading, operator=operator)
    app.add_middleware(ShareReading)
    if door.tracing is not None:
        app.add_middleware(TraceRequests, provider=door.tracing)
    app.add_middleware(Entrance, front=door.front)


def _take(app: FastAPI, router: APIRouter) -> None:
    """Answer what ``router`` does: its routes are complete as they are, where including them makes each anew."""
    app.router.routes.extend(router.routes)


def _signing_key(settings: Settings, engine: Engine) -> SigningKey | None:
    """The portal's key, remembered with those it had before; whoever serves must be able to read it."""
    if settings.signing_key is None:
        return None
    key = load_key(settings.signing_key)
    record_portal_key(engine, key.public.key_id, key.public.pem)
    return key


def _provider(settings: Settings) -> Provider | None:
    if not settings.oidc_issuer:
        return None
    from portal.web.identity.provider import Provider  # noqa: PLC0415 - half a second that a portal without one does not need

    return Provider.of(settings)


class HeadAsGet:
    """Answers HEAD with the headers of GET, for every route but those that stream files, which do it cheaper."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; the body of a HEAD stays here."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or _STREAMED.match(scope["path"]):
            await self.app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, send_head)
