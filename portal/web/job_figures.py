"""What a job measures, drawn over what its run published, in the figures the timeline draws."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import APIRouter
from sqlmodel import Session
from starlette.responses import Response

from portal.catalog.answers.jobs import JobPoint, JobRow
from portal.catalog.facts import ReleaseFacts
from portal.catalog.jobs.listing import find_job, list_points
from portal.catalog.jobs.told import SPECIAL
from portal.catalog.metrics import MetricQuery, metrics_of, metrics_root
from portal.catalog.release import load_facts
from portal.errors import PortalError
from portal.jobs.verdict import LOSSES
from portal.metrics.charts import Curve, Panel, Window, draw_panels
from portal.metrics.loose import buckets_of
from portal.metrics.series import open_series
from portal.settings import Settings
from portal.web.deps import Config, Db, as_json
from portal.web.jobs import JobId
from portal.web.timeline import DRAWN_AT_FIRST

pages = APIRouter(include_in_schema=False)

DRAWN = ("loss", "grad_norm", "lr")
"""What the trainer calls what is drawn."""
BUCKETS = 1000


@pages.get("/jobs/{job}/figure")
def read_job_figure(db: Db, settings: Config, job: JobId) -> Response:
    """Panels of loss, gradient norm and learning rate as a Plotly figure: the run's own curve, then the job's."""
    about = find_job(db, job)
    points = list_points(db, job, DRAWN)
    panels, first, last = _panels(db, settings, about, points)
    figure = draw_panels(panels, Window(first, last))
    figure |= {"x": "step", "first": first, "last": last, "end": last, "axes": {}}
    return Response(as_json(figure), 200, {"Cache-Control": "no-store"}, "application/json")


def _panels(
    session: Session, settings: Settings, job: JobRow, points: Sequence[JobPoint]
) -> tuple[list[Panel], int, int]:
    """The panels, and the steps they show: the job's, with some of what came before it."""
    first = max(job.first_step - max((job.last_step - job.first_step + 1) // 4, 1), 0)
    found: dict[str, list[JobPoint]] = defaultdict(list)
    for point in points:
        found[point.name].append(point)
    try:
        facts = load_facts(session, job.run, job.version)
    except PortalError:
        facts = None
    panels = []
    for place, name in enumerate(DRAWN):
        own = _published(facts, settings, place, first, job.last_step) if facts else None
        if own is None and not found[name]:
            continue
        # The job's curve is the second of every panel, so that it looks the same in all of them.
        curves = [own or Curve(job.run, buckets_of(np.empty(0, np.int64), np.empty(0)))]
        if found[name]:
            steps = np.array([p.step for p in found[name]], dtype=np.int64)
            values = np.array([_value(p) for p in found[name]], dtype=np.float64)
            curves.append(Curve(f"job {job.id}", buckets_of(steps, values, BUCKETS)))
        panels.append(Panel(name, "", tuple(curves)))
    return panels, first, job.last_step


def _published(facts: ReleaseFacts, settings: Settings, place: int, first: int, last: int) -> Curve | None:
    names = facts.series_by_name
    name = next((n for n in LOSSES if n in names), None) if place == 0 else None
    if name is None:
        fitting = (s.view for s in facts.series if DRAWN_AT_FIRST[place].search(s.view.name) and s.view.points)
        name = next((view.name for view in fitting if view.group != "eval"), None)
    if name is None:
        return None
    try:
        answer = metrics_of(facts, settings, MetricQuery((name,), "step", first, last, BUCKETS))
    except PortalError:
        return None
    return Curve(facts.run, answer.series[0].buckets)


@dataclass(frozen=True)
class LossRow:
    """One step's loss, as published and as the job has it."""

    step: int
    published: float | None
    own: float | None

    @property
    def difference(self) -> float | None:
        """The job's less the published one; 0 where both are the same NaN or infinity."""
        if self.published is None or self.own is None:
            return None
        same = self.own == self.published or (math.isnan(self.own) and math.isnan(self.published))
        return 0.0 if same else self.own - self.published


def list_losses(session: Session, settings: Settings, job: JobRow, most: int) -> tuple[list[LossRow], int]:
    """The last ``most`` steps that the job has trained, and how many came before them."""
    own = {p.step: _value(p) for p in list_points(session, job.id, DRAWN[:1])}
    steps = sorted(own)
    shown = steps[-most:]
    published: dict[int, float] = {}
    if shown:
        try:
            facts = load_facts(session, job.run, job.version)
            name = next((n for n in LOSSES if n in facts.series_by_name), None)
            if name is not None:
                series = open_series(metrics_root(settings), facts.series_by_name[name].location)
                values = {step: series.value_at(step) for step in shown}
                published = {step: value for step, value in values.items() if value is not None}
        except PortalError:
            published = {}
    return [LossRow(step, published.get(step), own[step]) for step in shown], len(steps) - len(shown)


def _value(point: JobPoint) -> float:
    return point.value if point.value is not None else SPECIAL.get(point.special or "", math.nan)
