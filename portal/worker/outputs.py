"""Checkpoints of a trainer: uploaded by digest, then announced; in a thread of their own where time matters."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from portal.client.partial import digest_of
from portal.errors import BlobMissing, PortalError, StaleLease, Unavailable
from portal.worker.calls import AttemptCalls
from portal.worker.spool import Json, Lease, Spool

HANDED_IN = "handed-in.json"
PREFIX = "step-"
_ROLES = {
    "optimizer.safetensors": "optimizer",
    "rng.safetensors": "rng",
    "trainer_state.json": "data_position",
    "config.json": "config",
    "generation_config.json": "config",
    "vocab.json": "tokenizer",
    "merges.txt": "tokenizer",
    "added_tokens.json": "tokenizer",
    "special_tokens_map.json": "tokenizer",
}
_log = logging.getLogger(__name__)


class Checkpoints:
    """Hands in one attempt's checkpoints. Unavailable ends a call; the next one goes on from there."""

    def __init__(self, spool: Spool, lease: Lease, calls: AttemptCalls) -> None:
        self._spool = spool
        self._calls = calls
        self._last_step = int(lease.spec["last_step"])
        self._outputs: list[int] = list((spool.read(HANDED_IN) or {}).get("steps", []))
        self._refused: dict[int, str] = {}

    def hand_in(self, finished: bool = False, up_to: int | None = None) -> None:
        """Upload and announce checkpoints that are whole, the oldest first, none after step ``up_to``.

        The one of the last step is final once the trainer has ``finished`` well; all others are partial. One that
        the portal refuses is left out and does not keep the others; `refusal` tells of the final one.
        """
        for step, folder in self.saved():
            if step in self._outputs or step in self._refused or (step == self._last_step and not finished):
                continue
            if up_to is not None and step > up_to:
                return
            try:
                self._upload(step, folder, "final" if step == self._last_step else "partial")
            except (StaleLease, Unavailable):
                raise
            except PortalError as error:
                _log.warning("The checkpoint of step %d was refused: %s", step, error)
                self._refused[step] = str(error)
                continue
            self._outputs.append(step)
            self._spool.note(HANDED_IN, {"steps": self._outputs})

    def waiting(self, up_to: int) -> bool:
        """Whether there is a partial checkpoint to hand in, none after step ``up_to``."""
        known = {*self._outputs, *self._refused, self._last_step}
        return any(step not in known and step <= up_to for step, _ in self.saved())

    def saved(self) -> list[tuple[int, Path]]:
        """Checkpoints that the trainer has finished writing."""
        folders = (self._spool.output / "checkpoints").glob(f"{PREFIX}*")
        named = [(f.name.removeprefix(PREFIX), f) for f in folders]
        return sorted((int(number), f) for number, f in named if number.isdigit())

    def refusal(self) -> str | None:
        """Why the final checkpoint was refused, if it was."""
        return self._refused.get(self._last_step)

    def _upload(self, step: int, folder: Path, kind: str) -> None:
        files = [_described(path) for path in sorted(folder.iterdir()) if path.is_file()]
        for attempt in (1, 2):
            for file in files:
                self._calls.upload(folder / file["path"], file["sha256"], file["size"])
            try:
                self._calls.outputs(step, kind, files)
            except BlobMissing:
                # Swept between upload and announcement: once more, then it is the portal's fault.
                if attempt == 2:
                    raise Unavailable("The portal does not keep what is uploaded.", "It is tried again.") from None
            else:
                return


class Uploads:
    """Hands checkpoints in beside other work: one thread at a time, started when there is something to do."""

    def __init__(self, spool: Spool, lease: Lease) -> None:
        self._calls = AttemptCalls(lease)
        self._checkpoints = Checkpoints(spool, lease, self._calls)
        self._thread: threading.Thread | None = None

    def go_on(self, up_to: int | None) -> None:
        """Begin with what has been saved since, unless that is being done.

        ``up_to`` is the last step whose numbers the portal has: an attempt that goes on from a checkpoint does not
        train the steps before it, so their numbers must not be lost with this one.
        """
        if up_to is None or (self._thread is not None and self._thread.is_alive()):
            return
        if self._checkpoints.waiting(up_to):
            self._thread = threading.Thread(target=self._run, args=(up_to,), name="uploads", daemon=True)
            self._thread.start()

    def end(self, wait: bool = True) -> None:
        """Finish the one that is on its way, or let go of it."""
        if wait and self._thread is not None:
            self._thread.join()
        self._calls.close()

    def _run(self, up_to: int) -> None:
        try:
            self._checkpoints.hand_in(up_to=up_to)
        except (PortalError, OSError, RuntimeError) as error:  # RuntimeError: the connections were closed meanwhile
            _log.warning("Checkpoints wait: %s", error)


def _described(path: Path) -> Json:
    sha256, size = digest_of(path, lambda _: None)
    return {"path": path.name, "size": size, "sha256": sha256, "role": role_of(path.name)}


def role_of(name: str) -> str:
    """What a file of the trainer's checkpoints is for."""
    if name in _ROLES:
        return _ROLES[name]
    if name.startswith("model") and (name.endswith((".safetensors", ".safetensors.index.json"))):
        return "weights"
    return "tokenizer" if name.startswith("tokenizer") else "other"
