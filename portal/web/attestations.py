"""Signatures and provenance that others verify without this portal, and the keys to do it with."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from portal.catalog.answers.signatures import PortalKeys, SignatureView
from portal.catalog.checkpoints import get_checkpoint
from portal.catalog.release import load_facts
from portal.catalog.runs import get_run
from portal.catalog.signatures import get_public_key, get_signature, list_portal_keys, list_signatures
from portal.errors import NotFound
from portal.exchange.attest import Portal, sign_checkpoint, sign_pair
from portal.exchange.provenance import sign_provenance
from portal.web.checkpoints import StepOrLabel
from portal.web.deps import Config, Db, PortalAddress, RunName, as_json, get_desk, json_answer, ready_answer
from portal.web.pairs import ChosenPair
from portal.web.render import render

router = APIRouter()
pages = APIRouter(include_in_schema=False)
_RUN = "/api/v1/runs/{org}/{name}"
_CHECKPOINT = f"{_RUN}/checkpoints/{{step:path}}"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"


def get_signer(request: Request, address: PortalAddress) -> Portal:
    """This portal with its key; NotFound where it has none."""
    key = get_desk(request).key
    if key is None:
        raise NotFound(
            "This portal signs nothing: it has no key.",
            "Its operator makes one with `portal keygen FILE` and sets PORTAL_SIGNING_KEY.",
        )
    return Portal(address, key)


Signer = Annotated[Portal, Depends(get_signer)]


@router.get("/.well-known/portal-keys", tags=["portal"], response_model=PortalKeys, summary="The portal's public keys")
def read_keys(request: Request, db: Db) -> Response:
    """Every key the portal ever signed with, the current one first; a replaced one still checks what it signed."""
    key = get_desk(request).key
    return json_answer(list_portal_keys(db, key.public.key_id if key else None))


@router.get(
    "/.well-known/portal-keys/{key_id}", tags=["portal"], summary="One public key as PEM", response_class=Response
)
def read_key(request: Request, db: Db, key_id: str) -> Response:
    """By its id, or `current`."""
    pem = get_signer(request, "").key.public.pem if key_id == "current" else get_public_key(db, key_id)
    return ready_answer(request, pem.encode(), "application/x-pem-file")


@router.get(
    f"{_CHECKPOINT}/model.sig",
    tags=["checkpoints"],
    summary="The portal's signature of a checkpoint",
    response_class=Response,
)
def read_model_signature(
    request: Request, db: Db, settings: Config, run: RunName, step: StepOrLabel, portal: Signer
) -> Response:
    """OpenSSF Model Signing over all its files: `model_signing verify key FOLDER --signature model.sig --public_key KEY`.

    Refused (409) where a file has no published sha256, or has changed since.
    """
    version = load_facts(db, run).head.version
    return _attachment(request, sign_checkpoint(get_checkpoint(db, run, step, settings), version, portal), "model.sig")


@router.get(
    f"{_CHECKPOINT}/provenance",
    tags=["checkpoints"],
    summary="What a checkpoint was made from",
    response_class=Response,
)
def read_provenance(
    request: Request, db: Db, settings: Config, run: RunName, step: StepOrLabel, portal: Signer
) -> Response:
    """SLSA provenance v1 in a DSSE envelope: files, config, code, the data read since the checkpoint before, parent.

    What the release declares, what the portal read itself and how sure the data order is stand inside.
    """
    return _attachment(request, sign_provenance(db, settings, run, step, portal), "provenance.dsse.json")


@router.get(
    f"{_RUN}/steps/{{step}}/pair/pair.sig",
    tags=["steps"],
    summary="The portal's signature of a pair",
    response_class=Response,
)
def read_pair_signature(request: Request, portal: Signer, pair: ChosenPair) -> Response:
    """OpenSSF Model Signing over checkpoint and data as `portal pair` lays them out."""
    return _attachment(request, sign_pair(pair, portal), "pair.sig")


@router.get(f"{_RUN}/signatures", tags=["runs"], response_model=list[SignatureView], summary="Signatures of publishers")
def read_signatures(request: Request, db: Db, run: RunName) -> Response:
    """Those over the current version, and what each proves."""
    return ready_answer(request, as_json(list_signatures(db, run)))


@router.get(f"{_RUN}/signatures/{{key_id}}", tags=["runs"], summary="A publisher's signature", response_class=Response)
def read_signature(request: Request, db: Db, run: RunName, key_id: str) -> Response:
    """As it was made: a Sigstore bundle in the form of OpenSSF Model Signing, over the release's folder."""
    return _file(request, get_signature(db, run, key_id).encode(), BUNDLE, "release.sig")


@pages.get("/runs/{org}/{name}/signatures")
def show_signatures(request: Request, db: Db, run: RunName, address: PortalAddress) -> Response:
    """Who vouches for this run, with which keys, what that proves, and how to check it offline."""
    detail, key = get_run(db, run), get_desk(request).key
    last = next((c for c in reversed(load_facts(db, run).released)), None)
    context = {
        "signatures": list_signatures(db, run),
        "keys": list_portal_keys(db, key.public.key_id if key else None),
        "address": address,
        "step": last.row.step if last else None,
    }
    return render(request, "runs/signatures.html", {"detail": detail, "tab": "", **context})


def _attachment(request: Request, document: dict[str, object], name: str) -> Response:
    return _file(request, as_json(document), BUNDLE if name.endswith(".sig") else ENVELOPE, name)


def _file(request: Request, body: bytes, media: str, name: str) -> Response:
    answer = ready_answer(request, body, media)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
