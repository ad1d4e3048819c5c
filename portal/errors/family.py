"""The family itself, and what is wrong with a question, with who asks, or with what is stored."""

from __future__ import annotations

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
