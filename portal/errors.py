"""Errors raised on purpose; each class knows its HTTP status and a stable code.

    PortalError
    ├── NotFound            404   RunNotFound · StepNotRecorded · CheckpointNotFound · ChunkNotFound
    │                             SeriesNotFound · FileNotCatalogued · FileMissing · RevisionNotFound
    │                             JobNotFound · WorkerNotFound
    │   └── Withdrawn       410   it was published once, and withdrawn; carries who, when and why
    ├── BadRequest          400   anything asked for in a way that cannot be answered
    ├── RangeNotSatisfiable 416
    ├── Unauthorized        401   a token is needed, or this one is not good
    ├── Forbidden           403   this token's role may not
    ├── Conflict            409   somebody else was first, or what is asked contradicts what is there
    │   ├── StaleLease      409   an attempt that no longer holds its job's lease
    │   ├── LogGap          409   a piece of a log further on than what is here; carries ``expected``
    │   ├── BlobMissing     409   files that were announced are not in the portal's store; carries ``missing``
    │   └── NameTaken       409   another worker of this name is alive
    ├── ManifestRefused     422   carries every fault of the manifest
    ├── ReasonNeeded        422   a version that replaces published files, and nobody said why
    ├── DataFault           422   stored bytes are not what the manifest says (bad line, id out of vocabulary, ...)
    ├── OrderUnknown        409   the rows of a step cannot be named, and why
    ├── IntegrityError      409   bytes do not match their digest
    ├── MissingBlobs        409   files of a release that were not sent yet
    ├── OffsetMismatch      409   an upload goes on elsewhere; carries ``received``
    ├── UploadBusy          409   another request writes to the same upload
    ├── TooLarge            413   a line, a file or a ratio beyond a limit
    ├── UriTooLong          414   an address beyond 16 KiB
    ├── UnsupportedEncoding 415   a body that is compressed
    ├── HeadersTooLarge     431   headers beyond 32 KiB
    ├── RateLimited         429   more requests than one client may ask; carries ``retry_after``
    ├── TooSlow             408   a request that trickles
    ├── StorageFull         507   no room where the portal keeps its files
    ├── Unavailable         503   a store or database that does not answer
    │   └── Overloaded      503   more requests than the portal can work on; carries ``retry_after``
    ├── PreflightRefused    422   a job that cannot be run as it is asked for; carries every reason
    └── UsageError          400   a command that was called wrongly (exit code 2)

A message says what is wrong and where; ``remedy`` says what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class PortalError(Exception):
    """Something the portal says no to, in words a person can act on."""

    status = 500
    code = "internal"

    def __init__(self, message: str, remedy: str = "", **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.extra = extra
        """Further members of the problem+json answer, e.g. ``nearest`` steps."""

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class NotFound(PortalError):
    """What was asked for is not in the catalog."""

    status = 404
    code = "not-found"


class RunNotFound(NotFound):
    """No run of this name."""

    code = "run-not-found"


class StepNotRecorded(NotFound):
    """The run has no such step; ``nearest`` names steps it has."""

    code = "step-not-recorded"


class CheckpointNotFound(NotFound):
    """No checkpoint of this step or label; ``nearest`` names those around it."""

    code = "checkpoint-not-found"


class ChunkNotFound(NotFound):
    """The run has no chunk of this name."""

    code = "chunk-not-found"


class SeriesNotFound(NotFound):
    """The run has no metric series of this name."""

    code = "series-not-found"


class FileNotCatalogued(NotFound):
    """No file with this hash or path is in the catalog."""

    code = "file-not-catalogued"


class FileMissing(NotFound):
    """A catalogued file is not where its location says."""

    code = "file-missing"


class RevisionNotFound(NotFound):
    """A repository has no branch, label or commit of this name."""

    code = "revision-not-found"


class JobNotFound(NotFound):
    """No job of this number, or no such attempt of it."""

    code = "job-not-found"


class WorkerNotFound(NotFound):
    """No worker of this number."""

    code = "worker-not-found"


class Withdrawn(NotFound):
    """It was published once and withdrawn: ``withdrawn_by``, ``withdrawn_at``, ``reason``, and ``current`` where a version
    of the run is left."""

    status = 410
    code = "withdrawn"


class BadRequest(PortalError):
    """The question itself is wrong."""

    status = 400
    code = "bad-request"


class UsageError(BadRequest):
    """A command was called with arguments it cannot use."""

    code = "usage"


class Unauthorized(PortalError):
    """A token is needed, or the one that came is not good."""

    status = 401
    code = "unauthorized"


class Forbidden(PortalError):
    """The holder of this token may not do this."""

    status = 403
    code = "forbidden"


class Conflict(PortalError):
    """Contradicts what is already there."""

    status = 409
    code = "conflict"


class StaleLease(Conflict):
    """The job went to another attempt, or ended: whoever hears this stops at once."""

    code = "stale-lease"


class LogGap(Conflict):
    """Bytes between what is here and what came are missing; ``expected`` says from where to send."""

    code = "log-gap"


class BlobMissing(Conflict):
    """Files were announced that the portal's store does not hold; ``missing`` lists their sha256."""

    code = "blob-missing"


class NameTaken(Conflict):
    """Another worker of this name is alive."""

    code = "worker-name-taken"


class VersionTaken(Conflict):
    """Somebody else published a version of this run in between; ``version`` is the one that won."""

    code = "version-taken"

    def __init__(self, run: str, version: int, after: int) -> None:
        was = f"version {after}" if after else "no version"
        super().__init__(
            f"Version {version} of {run} was published meanwhile; this release was to follow {was}. Nothing was published.",
            f"Look at version {version}; if yours is to follow it, publish again.",
            run=run,
            version=version,
            after=after,
        )
        self.version = version


class ReasonNeeded(PortalError):
    """A version that replaces or drops published files of checkpoints or data, and nobody said why."""

    status = 422
    code = "reason-needed"


class IdempotencyKeyReused(PortalError):
    """The same Idempotency-Key came with another request before."""

    status = 422
    code = "idempotency-key-reused"


class MissingBlobs(PortalError):
    """Files of a release that are not here yet; all of them are in ``missing``."""

    status = 409
    code = "missing-blobs"

    def __init__(self, run: str, missing: list[dict[str, Any]]) -> None:
        super().__init__(
            f"{len(missing):,} files of {run} are not here yet; nothing was published.",
            "Send each to PUT /api/v1/blobs/{sha256}, then publish again.",
            missing=missing,
        )
        self.missing = missing


class RangeNotSatisfiable(PortalError):
    """The byte range lies outside the file."""

    status = 416
    code = "range-not-satisfiable"


class OffsetMismatch(PortalError):
    """An upload goes on at another byte than the one sent; ``received`` says where."""

    status = 409
    code = "offset-mismatch"

    def __init__(self, received: int, sent: int) -> None:
        super().__init__(
            f"{received:,} bytes of this upload are here; it cannot go on at byte {sent:,}.",
            f"Go on at byte {received:,}.",
            received=received,
        )
        self.received = received


class UploadBusy(PortalError):
    """Another request writes to this upload."""

    status = 409
    code = "upload-busy"


class StorageFull(PortalError):
    """No room where the portal keeps its files."""

    status = 507
    code = "storage-full"


class TooSlow(PortalError):
    """A request whose body trickles."""

    status = 408
    code = "too-slow"


class TooLarge(PortalError):
    """Beyond a stated limit."""

    status = 413
    code = "too-large"


class UriTooLong(PortalError):
    """The address itself is too long."""

    status = 414
    code = "address-too-long"


class UnsupportedEncoding(PortalError):
    """A body in an encoding that is not taken."""

    status = 415
    code = "encoding-not-taken"


class HeadersTooLarge(PortalError):
    """Too many headers, or too long ones."""

    status = 431
    code = "headers-too-large"


class RateLimited(PortalError):
    """This client asked too often; ``retry_after`` says in how many seconds it may again."""

    status = 429
    code = "rate-limited"


class DataFault(PortalError):
    """Stored data is not what its format or the manifest says."""

    status = 422
    code = "data-fault"


class OrderUnknown(PortalError):
    """The data order does not say which rows this step read."""

    status = 409
    code = "order-unknown"


class IntegrityError(PortalError):
    """Bytes do not match the digest they were published under."""

    status = 409
    code = "integrity"


class Unavailable(PortalError):
    """A store or the database does not answer."""

    status = 503
    code = "unavailable"


class Overloaded(Unavailable):
    """More is asked than can be worked on now; ``retry_after`` says in how many seconds to come again."""

    code = "overloaded"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a manifest or a release folder."""

    where: str
    """Path inside the document or folder, e.g. ``checkpoints[3].step``."""
    what: str
    remedy: str


class ManifestRefused(PortalError):
    """A manifest (or the folder it describes) has faults; all of them are in ``faults``."""

    status = 422
    code = "manifest-refused"

    def __init__(self, source: str, faults: list[Fault]) -> None:
        plural = "fault" if len(faults) == 1 else "faults"
        super().__init__(
            f"{source} has {len(faults)} {plural}; nothing was published.",
            faults=[{"where": f.where, "what": f.what, "remedy": f.remedy} for f in faults],
        )
        self.faults = faults


class PreflightRefused(PortalError):
    """A job that cannot be run as it is asked for; all reasons are in ``reasons``, settings to give in ``unknown``."""

    status = 422
    code = "preflight-refused"

    def __init__(self, reasons: list[tuple[str, str, str]], unknown: list[dict[str, str]]) -> None:
        told = [{"code": code, "message": message, "remedy": remedy} for code, message, remedy in reasons]
        first = " ".join(part for part in reasons[0][1:] if part) if reasons else "It cannot be planned."
        more = f" And {len(reasons) - 1} more." if len(reasons) > 1 else ""
        super().__init__(f"The job was not submitted. {first}{more}", reasons=told, unknown=unknown)
