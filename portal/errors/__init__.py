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
    │   ├── NameTaken       409   another worker of this name is alive
    │   └── VersionTaken    409   somebody else published this version in between; carries ``version``
    ├── ManifestRefused     422   carries every fault of the manifest
    ├── ReasonNeeded        422   a version that replaces published files, and nobody said why
    ├── IdempotencyKeyReused 422  the same Idempotency-Key came with another request before
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

from portal.errors.absent import (
    CheckpointNotFound,
    ChunkNotFound,
    FileMissing,
    FileNotCatalogued,
    JobNotFound,
    NotFound,
    RevisionNotFound,
    RunNotFound,
    SeriesNotFound,
    StepNotRecorded,
    Withdrawn,
    WorkerNotFound,
)
from portal.errors.family import (
    BadRequest,
    BlobMissing,
    Conflict,
    DataFault,
    Forbidden,
    IdempotencyKeyReused,
    IntegrityError,
    LogGap,
    MissingBlobs,
    NameTaken,
    OrderUnknown,
    Overloaded,
    PortalError,
    ReasonNeeded,
    StaleLease,
    Unauthorized,
    Unavailable,
    UsageError,
    VersionTaken,
)
from portal.errors.limits import (
    HeadersTooLarge,
    OffsetMismatch,
    RangeNotSatisfiable,
    RateLimited,
    StorageFull,
    TooLarge,
    TooSlow,
    UnsupportedEncoding,
    UploadBusy,
    UriTooLong,
)
from portal.errors.refused import Fault, ManifestRefused, PreflightRefused

__all__ = [
    "BadRequest",
    "BlobMissing",
    "CheckpointNotFound",
    "ChunkNotFound",
    "Conflict",
    "DataFault",
    "Fault",
    "FileMissing",
    "FileNotCatalogued",
    "Forbidden",
    "HeadersTooLarge",
    "IdempotencyKeyReused",
    "IntegrityError",
    "JobNotFound",
    "LogGap",
    "ManifestRefused",
    "MissingBlobs",
    "NameTaken",
    "NotFound",
    "OffsetMismatch",
    "OrderUnknown",
    "Overloaded",
    "PortalError",
    "PreflightRefused",
    "RangeNotSatisfiable",
    "RateLimited",
    "ReasonNeeded",
    "RevisionNotFound",
    "RunNotFound",
    "SeriesNotFound",
    "StaleLease",
    "StepNotRecorded",
    "StorageFull",
    "TooLarge",
    "TooSlow",
    "Unauthorized",
    "Unavailable",
    "UnsupportedEncoding",
    "UploadBusy",
    "UriTooLong",
    "UsageError",
    "VersionTaken",
    "Withdrawn",
    "WorkerNotFound",
]
