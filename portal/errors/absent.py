"""What is not there, or no more."""

from __future__ import annotations

from portal.errors.family import PortalError


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
