"""The tables: columns and relations, nothing else.

A *run* is a name; each publish of it is a *release* with its own version, and every other
row belongs to one release, so a correction never changes what an earlier answer said.
Steps, tokens and bytes are 64-bit. NaN and infinities never reach a column: numbers by step
live in columnar files, and single values carry a ``special`` name beside a null.
"""

from portal.models.accounts import ApiToken
from portal.models.audit import AuditEntry, AuditHead
from portal.models.checkpoints import Checkpoint, CheckpointLabel
from portal.models.data import Chunk, ChunkSpan, DataOrder
from portal.models.duties import Duty
from portal.models.files import BlockDigests, File, FileLocation
from portal.models.jobs import Job, JobAttempt, JobEvent, JobLog, JobMetric, JobOutput, JobOwner, Worker
from portal.models.record import Config, Evaluation, Event, Finding, FindingReview, MetricSeries
from portal.models.replies import KeptReply
from portal.models.runs import Release, Run, Stage
from portal.models.sessions import BrowserSession, SpentNonce
from portal.models.signatures import PortalKey, ReleaseSignature
from portal.models.withdrawals import Withdrawal

__all__ = [
    "ApiToken",
    "AuditEntry",
    "AuditHead",
    "BlockDigests",
    "BrowserSession",
    "Checkpoint",
    "CheckpointLabel",
    "Chunk",
    "ChunkSpan",
    "Config",
    "DataOrder",
    "Duty",
    "Evaluation",
    "Event",
    "File",
    "FileLocation",
    "Finding",
    "FindingReview",
    "Job",
    "JobAttempt",
    "JobEvent",
    "JobLog",
    "JobMetric",
    "JobOutput",
    "JobOwner",
    "KeptReply",
    "MetricSeries",
    "PortalKey",
    "Release",
    "ReleaseSignature",
    "Run",
    "SpentNonce",
    "Stage",
    "Withdrawal",
    "Worker",
]
