"""What the routes of jobs and workers share in one process."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from portal.catalog.jobs.rules import JobRules
from portal.database import Engine
from portal.web.bell import Bell
from portal.web.job_events import Watch


class JobDesk:
    """The rules of the queue and those who wait on it."""

    def __init__(self, engine: Engine, rules: JobRules) -> None:
        self.rules = rules
        self.bell = Bell(engine, rules)
        self.watch = Watch(engine)


async def get_job_desk(request: Request) -> JobDesk:
    """The process's desk for jobs."""
    desk: JobDesk = request.app.state.jobs
    return desk


Jobs = Annotated[JobDesk, Depends(get_job_desk)]
