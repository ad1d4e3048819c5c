"""Beyond a limit: of sizes, rates, time and room; and uploads that cannot go on as they were sent."""

from __future__ import annotations

from portal.errors.family import PortalError


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
