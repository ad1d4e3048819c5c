"""Checkpoints that attempts hand in: their files are in the store, and they are what they say.

The store hashed every file on its way in, so a worker cannot announce other bytes than it sent; what is left to check is
that these bytes are a checkpoint of this very model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from sqlmodel import Session

from portal.catalog.jobs.attempts import AttemptKey, keep_output
from portal.catalog.jobs.listing import get_spec
from portal.catalog.jobs.rules import JobRules
from portal.catalog.reach import readable_file
from portal.catalog.referenced import keeping
from portal.catalog.release import load_facts
from portal.database import Engine, open_session
from portal.errors import BadRequest, BlobMissing, DataFault, IntegrityError, PortalError
from portal.jobs.base import find_base, is_weights
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.blobs import BlobStore, open_blobs
from portal.tensors.values import Stored, TensorBytes, first_not_finite, open_tensors
from portal.tokens.readers import ReadableFile

STATE = "trainer_state.json"
MAX_STATE = 16 << 20

Files = Sequence[Mapping[str, Any]]


def take_outputs(  # noqa: PLR0913 - what an output is told by
    engine: Engine, settings: Settings, key: AttemptKey, step: int, kind: str, files: Files, rules: JobRules
) -> int:
    """Note a checkpoint; the step from which a next attempt would go on.

    BlobMissing, IntegrityError, DataFault when it is no checkpoint of this model, StaleLease.
    """
    with open_session(engine) as session:
        spec = get_spec(session, key.job)
        base = find_base_weights(session, settings, spec)
    _check_step(spec, key.job, step, kind)
    check_blobs(settings, files)
    check_loads(settings, base, step, files)
    with keeping(engine, settings.data):
        check_blobs(settings, files)  # from here on nobody removes them
        return keep_output(engine, key, step, kind, files, rules)


def _check_step(spec: Mapping[str, Any], job: int, step: int, kind: str) -> None:
    if not spec["first_step"] <= step <= spec["last_step"]:
        raise BadRequest(
            f"Job {job} trains steps {spec['first_step']} to {spec['last_step']}, not {step}.",
            "Hand in what was trained.",
        )
    if kind == "final" and step != spec["last_step"]:
        raise BadRequest(f"The final checkpoint of job {job} is that of step {spec['last_step']}.", "Send it.")


def check_blobs(settings: Settings, files: Files) -> None:
    """BlobMissing unless every file is in the store, which hashed it on its way in; IntegrityError for another size."""
    names = [str(f["path"]) for f in files]
    if len(set(names)) != len(names) or any("/" in n or "\\" in n or n.startswith(".") or "\0" in n for n in names):
        raise BadRequest("Files of a checkpoint have plain names, each once.", "Send their names without folders.")
    blobs = open_blobs(settings)
    sizes = {f["sha256"]: blobs.has(f["sha256"]) for f in files}
    if missing := sorted(sha256 for sha256, size in sizes.items() if size is None):
        raise BlobMissing(
            f"{len(missing)} of {len(sizes)} files are not in the portal's store.",
            "Upload them with PUT /api/v1/blobs/{sha256} first.",
            missing=missing,
        )
    for file in files:
        if sizes[file["sha256"]] != file["size"]:
            raise IntegrityError(
                f"{file['path']} has {sizes[file['sha256']]} bytes in the store, not {file['size']}.",
                "Announce the file as it was uploaded.",
            )


def check_loads(settings: Settings, base: Sequence[ReadableFile] | None, step: int, files: Files) -> None:
    """DataFault unless the files are a checkpoint after ``step`` of the model whose weights are ``base``.

    Reads files, perhaps far ones: no session of the database is open meanwhile.
    """
    weights = open_tensors(tensor_files(settings, [f for f in files if is_weights(str(f["path"]))]))
    if not weights:
        raise DataFault("The checkpoint has no weights as safetensors.", "Hand in model.safetensors.")
    if base is not None and (known := _open_base(base)) is not None:
        _check_alike(weights, known)
    for file in files:
        name = str(file["path"])
        if name.endswith(".safetensors") and not is_weights(name):
            open_tensors(tensor_files(settings, [file]))
    _check_state(settings, files, step)


def check_finite(settings: Settings, files: Files) -> None:
    """DataFault with the first weight that is not finite."""
    stored = open_tensors(tensor_files(settings, [f for f in files if is_weights(str(f["path"]))]))
    for name, one in stored.items():
        place = first_not_finite(one)
        if place is not None:
            raise DataFault(
                f"Tensor {name[:200]!r} is not finite at element {place:,}, though the loss of the last step is.",
                "The result was not accepted.",
            )


def find_base_weights(session: Session, settings: Settings, spec: Mapping[str, Any]) -> list[ReadableFile] | None:
    """The files of the weights that the job began with; None where they are nowhere any more."""
    about = spec["base"]
    try:
        facts = load_facts(session, about["run"], about["version"], withdrawn=True)
        rows = find_base(session, facts, about["step"]).rows
        return [readable_file(session, settings, r) for r in rows if is_weights(r.path.rsplit("/", 1)[-1])]
    except PortalError:
        return None


def open_readable(files: Sequence[ReadableFile]) -> dict[str, Stored]:
    """The tensors of catalogued files."""
    sizes = [f.size if f.size is not None else f.store.stat(f.uri).size or 0 for f in files]
    return open_tensors(
        [TensorBytes(f.path, n, partial(f.store.read_range, f.uri)) for f, n in zip(files, sizes, strict=True)]
    )


def tensor_files(settings: Settings, files: Files) -> list[TensorBytes]:
    """Files of the portal's own store, to be opened as tensors."""
    blobs = open_blobs(settings)
    return [TensorBytes(str(f["path"]), int(f["size"]), _reader(settings, blobs, str(f["sha256"]))) for f in files]


def _reader(settings: Settings, blobs: BlobStore, sha256: str) -> Any:
    uri = blobs.location(sha256)
    return partial(open_store(uri, settings).read_range, uri)


def _open_base(files: Sequence[ReadableFile]) -> dict[str, Stored] | None:
    try:
        return open_readable(files)
    except DataFault:
        raise
    except PortalError:
        # It lies elsewhere and cannot be read now: nothing to compare with is no fault of the worker.
        return None


def _check_alike(found: Mapping[str, Stored], base: Mapping[str, Stored]) -> None:
    lacking, extra = sorted(base.keys() - found.keys()), sorted(found.keys() - base.keys())
    if lacking or extra:
        which = f"lacks {lacking[0]!r}" if lacking else f"has {extra[0]!r}"
        count = len(lacking) + len(extra)
        raise DataFault(
            f"The checkpoint {which}, unlike the one the job began with; {count} tensors in all are named otherwise.",
            "A job trains the same model on.",
        )
    for name, one in found.items():
        mine, theirs = one.tensor, base[name].tensor
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            raise DataFault(
                f"Tensor {name[:200]!r} is {mine.dtype} {list(mine.shape)}; the job began with {theirs.dtype} "
                f"{list(theirs.shape)}.",
                "A job trains the same model on.",
            )


def _check_state(settings: Settings, files: Files, step: int) -> None:
    state = next((f for f in files if f["path"] == STATE), None)
    if state is None:
        return
    if int(state["size"]) > MAX_STATE:
        raise DataFault(f"{STATE} has {state['size']:,} bytes.", "It holds counters, not data.")
    (file,) = tensor_files(settings, [state])
    try:
        document = orjson.loads(file.read(0, file.size))
    except orjson.JSONDecodeError as error:
        raise DataFault(f"{STATE} is no JSON: {error}.", "Hand in the file as the trainer wrote it.") from None
    told = document.get("step") if isinstance(document, dict) else None
    if told != step:
        raise DataFault(
            f"{STATE} says step {str(told)[:30]}; the checkpoint is announced as step {step}.", "Send its own."
        )
