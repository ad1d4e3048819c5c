"""Lists that other downloaders read, for a pair or a checkpoint, and small pairs as one zip."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from portal.catalog.checkpoints import get_checkpoint
from portal.web.checkpoints import StepOrLabel
from portal.web.deps import Config, Db, PortalAddress, RunName, ready_answer
from portal.web.downloads import DownloadPlan, plan_checkpoint, plan_pair
from portal.web.fetch_lists import write_list
from portal.web.pairs import ChosenPair, Wish
from portal.web.zips import zip_answer

router = APIRouter(prefix="/api/v1")

Kind = Annotated[
    Literal["meta4", "aria2", "curl"],
    Path(description="`meta4` (Metalink 4), `aria2` (its input file) or `curl` (a config file)."),
]
_PAIR = "/runs/{org}/{name}/steps/{step}/pair"
_CHECKPOINT = "/runs/{org}/{name}/checkpoints/{step:path}"


@router.get(f"{_PAIR}/pair.zip", tags=["steps"], summary="A small pair as one zip", response_class=Response)
def read_zip(db: Db, settings: Config, wish: Wish, pair: ChosenPair) -> Response:
    """Stored, not compressed, with `SHA256SUMS` inside and its exact length known before it starts.

    Up to 2 GiB, and only where every file lies here or (`PORTAL_REMOTE_FILES=proxy`) passes through the portal; other
    pairs are fetched file by file.
    """
    return zip_answer(db, settings, plan_pair(pair), f"{pair.run.split('/')[-1]}-step-{pair.step}-{wish.data}")


@router.get(f"{_PAIR}/pair.{{kind}}", tags=["steps"], summary="The pair for aria2 or curl", response_class=Response)
def read_pair_list(request: Request, pair: ChosenPair, kind: Kind, address: PortalAddress) -> Response:
    """Every file with its place in the folder that `portal pair` makes, its size, sha256 and address."""
    return _list(request, kind, plan_pair(pair), address, "pair")


@router.get(
    f"{_CHECKPOINT}/SHA256SUMS", tags=["checkpoints"], summary="A checkpoint's digests", response_class=Response
)
def read_checkpoint_sums(
    request: Request, db: Db, settings: Config, run: RunName, step: StepOrLabel, address: PortalAddress
) -> Response:
    """For `sha256sum -c`; a file whose sha256 was never published is named in a comment."""
    return _list(request, "sha256", plan_checkpoint(get_checkpoint(db, run, step, settings)), address, "checkpoint")


@router.get(
    f"{_CHECKPOINT}/checkpoint.{{kind}}",
    tags=["checkpoints"],
    summary="A checkpoint for aria2 or curl",
    response_class=Response,
)
def read_checkpoint_list(  # noqa: PLR0913 - FastAPI reads the query from the signature
    request: Request,
    db: Db,
    settings: Config,
    run: RunName,
    step: StepOrLabel,
    kind: Kind,
    address: PortalAddress,
) -> Response:
    """Its files below `checkpoint/`, each with its size, sha256 and address."""
    return _list(request, kind, plan_checkpoint(get_checkpoint(db, run, step, settings)), address, "checkpoint")


def _list(request: Request, kind: str, plan: DownloadPlan, address: str, stem: str) -> Response:
    text, media = write_list(kind, plan, address)
    answer = ready_answer(request, text.encode(), media if "xml" in media else f"{media}; charset=utf-8")
    name = "SHA256SUMS" if kind == "sha256" else f"{stem}.{kind}"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
