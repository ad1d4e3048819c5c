"""A checkpoint with its data: as JSON, as sums to check a download with, and as a page to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from portal.catalog.answers import Pair
from portal.catalog.pairs import get_pair
from portal.catalog.parts import PairLimits, choose_parts, pair_limits, parts_of
from portal.catalog.runs import get_run
from portal.web.commands import pair_commands
from portal.web.deps import Config, Db, PortalAddress, RunName, Step, json_answer, parse_step, ready_answer
from portal.web.downloads import plan_pair, write_sums
from portal.web.drawings import draw_pair
from portal.web.fetch_lists import LISTS
from portal.web.render import render
from portal.web.zips import fits_zip

api = APIRouter(prefix="/api/v1", tags=["steps"])
pages = APIRouter(include_in_schema=False)

RATES = ((100, "100 Mbit/s"), (1000, "1 Gbit/s"), (10_000, "10 Gbit/s"))
"""Megabits a second."""


@dataclass(frozen=True)
class PairWish:
    """Which data, and which parts of the checkpoint."""

    data: str
    steps: int | None
    parts: tuple[str, ...]

    @property
    def query(self) -> str:
        """The same wish as part of an address."""
        asked: list[tuple[str, str]] = [("data", self.data)]
        asked += [("steps", str(self.steps))] if self.steps is not None else []
        return urlencode([*asked, *(("parts", ",".join(self.parts)) for _ in self.parts[:1])])


def read_wish(
    data: Annotated[
        str, Query(description="`next` (to resume), `previous` (to study) or `batch` (this step).")
    ] = "next",
    steps: Annotated[
        int | None, Query(description="Steps of data; default: up to the neighbouring checkpoint.")
    ] = None,
    parts: Annotated[
        str, Query(description="Of the checkpoint: `weights,optimizer,config`; default: all.", max_length=200)
    ] = "",
) -> PairWish:
    """What the query of an API call asks for."""
    return PairWish(data, steps, tuple(p.strip() for p in parts.split(",") if p.strip()))


Wish = Annotated[PairWish, Depends(read_wish)]


def choose_pair(db: Db, settings: Config, run: RunName, step: Step, wish: Wish) -> Pair:
    """The pair that an API call asks for, with the parts it wants."""
    return choose_parts(get_pair(db, settings, run, step, wish.data, wish.steps), wish.parts)


ChosenPair = Annotated[Pair, Depends(choose_pair)]


@api.get("/runs/{org}/{name}/steps/{step}/pair", response_model=Pair, summary="A checkpoint with its data")
def read_pair(pair: ChosenPair) -> Response:
    """The checkpoint at or before the step with the rows it reads next, or read since the checkpoint before.

    `batch` gives the rows of the step itself with the checkpoint before it. `files`, `total_bytes` and the counts
    beside it are of the `parts` asked for; `checkpoint` is always described whole.
    """
    return json_answer(pair)


@api.get("/runs/{org}/{name}/steps/{step}/pair/SHA256SUMS", summary="The pair's digests, for sha256sum")
def read_sums(request: Request, pair: ChosenPair) -> Response:
    """One line a file, with its place in the folder that `portal pair` makes; check with `sha256sum -c`.

    A file whose sha256 was never published is named in a comment.
    """
    answer = ready_answer(request, write_sums(plan_pair(pair)).encode(), "text/plain; charset=utf-8")
    answer.headers["Content-Disposition"] = 'attachment; filename="SHA256SUMS"'
    return answer


@pages.get("/runs/{org}/{name}/steps/{step}/pair")
def show_pair(request: Request, db: Db, settings: Config, run: RunName, step: Step, address: PortalAddress) -> Response:
    """A form whose choices are the address, and the pair they make, drawn."""
    limits = pair_limits(db, run, step)
    wish = _page_wish(request, limits)
    whole = get_pair(db, settings, run, step, wish.data, wish.steps)
    pair = choose_parts(whole, wish.parts)
    plan = plan_pair(pair)
    context = {
        "pair": pair,
        "wish": wish,
        "limits": limits,
        "released": parts_of(whole),
        "rates": RATES,
        "plan": plan,
        "lists": LISTS,
        "zipped": fits_zip(pair, plan, settings.remote_files == "proxy"),
        "drawing": draw_pair(pair),
        "commands": pair_commands(pair, plan, wish.steps, address),
    }
    return render(request, "steps/pair.html", {"detail": get_run(db, run), "tab": "Timeline", **context})


def _page_wish(request: Request, limits: PairLimits) -> PairWish:
    """As the form sends it: an empty number is none, and a batch is one step whatever the number says."""
    given = request.query_params
    data = given.get("data") or ("next" if limits.next or not limits.previous else "previous")
    steps = given.get("steps", "")
    parts = tuple(p.strip() for part in given.getlist("parts") for p in part.split(",") if p.strip())
    return PairWish(data, parse_step(steps, "steps") if steps and data != "batch" else None, parts)
