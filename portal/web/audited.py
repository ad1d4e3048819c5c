"""What each route that changes something leaves in the history, or why it leaves nothing. A test holds every route to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Nothing:
    """A route that leaves no entry, and why."""

    why: str


READS = Nothing("It only reads: what it asks for is too long for an address.")
TOLD_ALREADY = Nothing("It is kept, append-only, among the job's own events; the attempt's end is put on record.")
_ATTEMPT = "/api/v1/jobs/{job}/attempts/{attempt}"

AUDITED: dict[tuple[str, str], str | Nothing] = {
    ("POST", "/api/v1/releases"): "release.published",
    ("POST", "/api/v1/releases/check"): READS,
    ("PUT", "/api/v1/blobs/{sha256}"): Nothing(
        "Bytes nobody can see; the release that refers to them is put on record."
    ),
    ("PUT", "/api/v1/runs/{org}/{name}/visibility"): "run.made-private",
    ("POST", "/api/v1/runs/{org}/{name}/withdraw"): "run.withdrawn",
    ("POST", "/api/v1/runs/{org}/{name}/findings/{finding}/review"): "finding.reviewed",
    ("POST", "/runs/{org}/{name}/findings/{finding}/review"): "finding.reviewed",
    ("POST", "/api/v1/jobs"): "job.submitted",
    ("POST", "/api/v1/jobs/preview"): READS,
    ("POST", "/api/v1/jobs/{job}/cancel"): "job.cancelled",
    ("POST", "/api/v1/jobs/{job}/retry"): "job.retried",
    ("POST", "/jobs/{job}/cancel"): "job.cancelled",
    ("POST", "/jobs/{job}/retry"): "job.retried",
    ("POST", "/runs/{org}/{name}/steps/{step}/submit"): "job.submitted",
    ("POST", "/api/v1/workers"): "worker.attached",
    ("POST", "/api/v1/workers/{worker}/lease"): Nothing(
        "A lease is an attempt, which is kept for good; its end is put on record."
    ),
    ("POST", "/api/v1/workers/{worker}/drain"): "worker.drained",
    ("POST", "/workers/{worker}/drain"): "worker.drained",
    ("POST", f"{_ATTEMPT}/heartbeat"): Nothing("It says that an attempt is alive, every few seconds."),
    ("POST", f"{_ATTEMPT}/logs"): TOLD_ALREADY,
    ("POST", f"{_ATTEMPT}/metrics"): TOLD_ALREADY,
    ("POST", f"{_ATTEMPT}/outputs"): TOLD_ALREADY,
    ("POST", f"{_ATTEMPT}/complete"): "attempt.ended",
    ("POST", "/api/v1/tokens"): "token.created",
    ("DELETE", "/api/v1/tokens/{token}"): "token.revoked",
    ("POST", "/account/tokens"): "token.created",
    ("POST", "/account/tokens/{token}/revoke"): "token.revoked",
    ("POST", "/account/sign-out-others"): "session.ended",
    ("POST", "/sign-in"): "session.began",
    ("POST", "/sign-out"): "session.ended",
    ("POST", "/api/models/{rest:path}"): READS,
    ("POST", "/api/datasets/{rest:path}"): READS,
}
"""By method and path, as in `portal.web.permissions`."""
