"""What whoever asks may see: the one place that keeps private runs from strangers.

Every request has a sight, and it narrows every query: a private run outside it is not there, nor are its files and jobs.
There are three ways into the catalog, so three rules: by a run's name, by a file's sha256, by a job's number. Whatever
else belongs to a run is reached through these. Outside of requests (commands on the portal's own machine, looks that the
portal takes itself) everything is seen.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, event, or_, select
from sqlalchemy.orm import ORMExecuteState, with_loader_criteria
from sqlmodel import Session, col

from portal.catalog.accounts import ATTEMPT, Caller
from portal.models import File, Job, JobAttempt, JobEvent, JobLog, JobMetric, JobOutput, Release, Run


@dataclass(frozen=True)
class Sight:
    """Which private runs are seen besides the public ones."""

    everything: bool = False
    organisation: str | None = None
    """Those of this organisation; None: of none, or where `runs` names some, of any."""
    runs: frozenset[str] = frozenset()
    """Where it names any, only these."""
    job: int | None = None
    """Of an attempt: the only job on private runs that is seen."""

    @property
    def key(self) -> bytes:
        """Equal keys see the same; empty where nothing private is seen."""
        if self == PUBLIC:
            return b""
        return repr((self.everything, self.organisation, sorted(self.runs), self.job)).encode()

    def sees(self, run: str, private_to: str | None) -> bool:
        """Whether a run (``org/name``) that is private to this organisation (None: public) is seen."""
        if self.everything or private_to is None:
            return True
        if self.runs:
            return run in self.runs and self.organisation in (None, private_to)
        return self.organisation == private_to


EVERYTHING = Sight(everything=True)
PUBLIC = Sight()

_sight: ContextVar[Sight] = ContextVar("sight", default=EVERYTHING)


def sight_of(caller: Caller | None) -> Sight:
    """What a caller sees: holders of tokens that may read see the private runs of their organisation, or where the token
    is bound to none, all of them; an attempt sees the run it trains from; everybody else what is public."""
    if caller is None:
        return PUBLIC
    if caller.role == ATTEMPT:
        return Sight(runs=frozenset(caller.runs), job=caller.job) if caller.runs else PUBLIC
    if caller.token_id is None or not caller.reaches("reader"):
        return PUBLIC
    if caller.organisation is None and not caller.runs:
        return EVERYTHING
    return Sight(organisation=caller.organisation, runs=frozenset(caller.runs))


def current_sight() -> Sight:
    """Of the request that is being answered; everything outside of requests."""
    return _sight.get()


class Looking:
    """`looking_as`: a class, because every request enters one, and a generator would take as long as its answer."""

    __slots__ = ("_sight", "_token")

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def __enter__(self) -> None:
        self._token = _sight.set(self._sight)

    def __exit__(self, *_: object) -> None:
        _sight.reset(self._token)


def looking_as(sight: Sight) -> Looking:
    """See no more than this until the block ends, in this task and in the threads it calls."""
    return Looking(sight)


def hidden_runs(sight: Sight) -> Select[Any]:
    """The names of the private runs that ``sight`` does not see."""
    run = _table(Run)
    return select(run.c.org + "/" + run.c.name).where(_is_hidden(run, sight))


def list_hidden(session: Session, names: set[str] | None = None) -> dict[str, str]:
    """Private runs, of ``names`` where given, with the organisation each is private to; whoever asks. One query."""
    run = _table(Run)
    name = run.c.org + "/" + run.c.name
    asked = select(name, run.c.private_to).where(run.c.private_to.is_not(None))
    if names is not None:
        asked = asked.where(name.in_(sorted(names)))
    return {row[0]: row[1] for row in session.execute(asked)}


def _table(model: Any) -> Any:
    # An alias: neither the narrowing itself nor a query around it must take this for its own table.
    return model.__table__.alias()


def _is_hidden(run: Any, sight: Sight) -> ColumnElement[bool]:
    private = run.c.private_to.is_not(None)
    seen: list[ColumnElement[bool]] = []
    if sight.organisation is not None:
        seen.append(run.c.private_to == sight.organisation)
    if sight.runs:
        seen.append((run.c.org + "/" + run.c.name).in_(sorted(sight.runs)))
    return and_(private, ~and_(*seen)) if seen else private


@lru_cache(maxsize=256)
def _narrowing(sight: Sight) -> tuple[Any, ...]:
    """What every SELECT of runs, files, jobs, and what jobs tell is narrowed by."""
    run, release = _table(Run), _table(Release)
    runs = select(run.c.id).where(_is_hidden(run, sight))
    releases = select(release.c.id).where(release.c.run_id.in_(runs))
    jobs = _hidden_jobs(sight)
    hidden = [(Run, Run.id, runs), (File, File.release_id, releases), (Job, Job.id, jobs)]
    hidden += [(table, table.job_id, jobs) for table in (JobAttempt, JobOutput, JobEvent, JobLog, JobMetric)]
    return tuple(
        with_loader_criteria(table, col(column).not_in(those), include_aliases=True) for table, column, those in hidden
    )


def _hidden_jobs(sight: Sight) -> Select[Any]:
    """Ids of jobs from runs that are not seen, or that made such a run; of an attempt, every other one on private runs."""
    job = _table(Job)
    names = hidden_runs(sight if sight.job is None else PUBLIC)
    hidden = or_(job.c.run.in_(names), job.c.derived_run.in_(names))
    return select(job.c.id).where(hidden if sight.job is None else and_(hidden, job.c.id != sight.job))


@event.listens_for(Session, "do_orm_execute")
def _narrow(state: ORMExecuteState) -> None:
    # Whoever writes has been let in before, and must meet the rows that are there.
    sight = _sight.get()
    if state.is_select and not sight.everything and not state.session.info.get("writing"):
        state.statement = state.statement.options(*_narrowing(sight))
