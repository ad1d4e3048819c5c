"""Who may call what: every route, with the role it needs and whose runs it speaks of. A route that is not here is refused
by a test."""

from __future__ import annotations

import re

ANYONE = "anyone"
"""No token needed for what is public, unless PORTAL_ANONYMOUS_READING is off; private runs are there for their own
organisation alone."""
HOLDER = "holder"
"""Any token that is good."""
READER, PUBLISHER, REVIEWER, WORKER, ADMIN = "reader", "publisher", "reviewer", "worker", "admin"
UPLOADER = "uploader"
"""What a token must reach: `portal.catalog.accounts.ROLES` says which roles reach which."""

PERMISSIONS: dict[tuple[str, str], str] = {
    ("GET", path): ANYONE
    for path in (
        "/api/v1/runs",
        "/api/v1/runs/{org}/{name}",
        "/api/v1/runs/{org}/{name}/timeline",
        "/api/v1/runs/{org}/{name}/lineage",
        "/api/v1/runs/{org}/{name}/versions",
        "/api/v1/runs/{org}/{name}/configs",
        "/api/v1/runs/{org}/{name}/events",
        "/api/v1/runs/{org}/{name}/findings",
        "/api/v1/runs/{org}/{name}/findings/{finding}",
        "/api/v1/runs/{org}/{name}/evaluations",
        "/api/v1/runs/{org}/{name}/files",
        "/api/v1/runs/{org}/{name}/checkpoints",
        "/api/v1/runs/{org}/{name}/checkpoints/{step:path}",
        "/api/v1/runs/{org}/{name}/checkpoints/{step:path}/tensors",
        "/api/v1/runs/{org}/{name}/checkpoints/{step:path}/SHA256SUMS",
        "/api/v1/runs/{org}/{name}/checkpoints/{step:path}/checkpoint.{kind}",
        "/api/v1/runs/{org}/{name}/checkpoints/{step:path}/model.sig",
        "/api/v1/runs/{org}/{name}/checkpoints/{step:path}/provenance",
        "/api/v1/runs/{org}/{name}/croissant",
        "/api/v1/runs/{org}/{name}/signatures",
        "/api/v1/runs/{org}/{name}/signatures/{key_id}",
        "/api/v1/runs/{org}/{name}/chunks",
        "/api/v1/runs/{org}/{name}/chunks/{chunk:path}",
        "/api/v1/runs/{org}/{name}/chunks/{chunk:path}/rows",
        "/api/v1/runs/{org}/{name}/steps/{step}",
        "/api/v1/runs/{org}/{name}/steps/{step}/pair",
        "/api/v1/runs/{org}/{name}/steps/{step}/pair/SHA256SUMS",
        "/api/v1/runs/{org}/{name}/steps/{step}/pair/pair.{kind}",
        "/api/v1/runs/{org}/{name}/steps/{step}/pair/pair.zip",
        "/api/v1/runs/{org}/{name}/steps/{step}/pair/pair.sig",
        "/api/v1/runs/{org}/{name}/steps/{step}/tokens",
        "/api/v1/runs/{org}/{name}/metrics",
        "/api/v1/runs/{org}/{name}/metrics/data",
        "/api/v1/runs/{org}/{name}/metrics/{series:path}.parquet",
        "/api/v1/runs/{org}/{name}/metrics/{series:path}.csv",
        "/api/v1/blocks/{sha256}",
        "/api/v1/jobs",
        "/api/v1/jobs/{job}",
        "/api/v1/jobs/{job}/events",
        "/api/v1/jobs/{job}/log",
        "/api/v1/jobs/{job}/metrics",
        "/api/v1/jobs/{job}/plan",
        "/api/v1/jobs/{job}/files/{sha256}/{name}",
        "/api/v1/workers",
        "/api/v1/audit",
        "/api/v1/promises",
        "/api/v1/audit/head",
        "/api/v1/search",
        "/api/v1/compare",
        "/api/v1/r/{org}/{name}",
        "/api/v1/r/{org}/{name}/s/{step}",
        "/api/v1/r/{org}/{name}/s/{step}/row/{row}",
        "/api/v1/r/{org}/{name}/s/{step}/row/{row}/t/{span}",
        "/api/v1/openapi.json",
        "/api/docs",
        "/files/{sha256}/{name}",
        "/.well-known/portal-keys",
        "/.well-known/portal-keys/{key_id}",
        "/healthz",
        "/readyz",
        "/static/{path:path}",
        "/api/models",
        "/api/models/{rest:path}",
        "/api/datasets",
        "/api/datasets/{org}/{name}/croissant",
        "/api/datasets/{rest:path}",
        "/api/whoami-v2",
        "/datasets/{org}/{name}/resolve/{rest:path}",
        "/{org}/{name}/resolve/{rest:path}",
        "/{name}/resolve/{rest:path}",
        "/datasets/{org}/{name}",
        "/{org}/{name}/tree/{revision:path}",
        "/{org}/{name}",
        "/",
        "/search",
        "/compare",
        "/compare/figure",
        "/r/{org}/{name}",
        "/r/{org}/{name}/s/{step}",
        "/r/{org}/{name}/s/{step}/row/{row}",
        "/r/{org}/{name}/s/{step}/row/{row}/t/{span}",
        "/runs/{org}/{name}",
        "/runs/{org}/{name}/lanes",
        "/runs/{org}/{name}/figure",
        "/runs/{org}/{name}/figure.csv",
        "/runs/{org}/{name}/findings",
        "/runs/{org}/{name}/findings/{finding}",
        "/runs/{org}/{name}/events",
        "/runs/{org}/{name}/configs",
        "/runs/{org}/{name}/lineage",
        "/runs/{org}/{name}/versions",
        "/runs/{org}/{name}/signatures",
        "/runs/{org}/{name}/evaluations",
        "/runs/{org}/{name}/checkpoints",
        "/runs/{org}/{name}/checkpoints/{step:path}",
        "/runs/{org}/{name}/checkpoints/{step:path}/tensors",
        "/runs/{org}/{name}/chunks",
        "/runs/{org}/{name}/chunks/{chunk:path}",
        "/runs/{org}/{name}/chunks/{chunk:path}/rows",
        "/runs/{org}/{name}/metrics",
        "/runs/{org}/{name}/steps/{step}",
        "/runs/{org}/{name}/steps/{step}/pair",
        "/runs/{org}/{name}/steps/{step}/tokens",
        "/runs/{org}/{name}/steps/{step}/submit",
        "/runs/{org}/{name}/jobs",
        "/jobs",
        "/jobs/{job}",
        "/jobs/{job}/figure",
        "/jobs/{job}/log",
        "/workers",
        "/history",
        "/promises",
        "/account",
        "/sign-in",
        "/sign-in/oidc",
        "/sign-in/oidc/callback",
    )
}
PERMISSIONS |= {
    ("HEAD", path): ANYONE
    for path in (
        "/files/{sha256}/{name}",
        "/static/{path:path}",
        "/api/v1/openapi.json",
        "/datasets/{org}/{name}/resolve/{rest:path}",
        "/{org}/{name}/resolve/{rest:path}",
        "/{name}/resolve/{rest:path}",
    )
}
PERMISSIONS |= {("POST", path): ANYONE for path in ("/api/models/{rest:path}", "/api/datasets/{rest:path}")}
"""A list of paths is too long for an address: these only read."""
PERMISSIONS |= {("GET", "/api/v1/whoami"): HOLDER}
PERMISSIONS |= {(method, "/api/v1/tokens"): HOLDER for method in ("GET", "POST")}
PERMISSIONS |= {("DELETE", "/api/v1/tokens/{token}"): HOLDER}
PERMISSIONS |= {
    ("POST", f"{api}/runs/{{org}}/{{name}}/findings/{{finding}}/review"): REVIEWER for api in ("", "/api/v1")
}
PERMISSIONS |= {("GET", "/metrics"): ADMIN}
"""Addresses of PORTAL_METRICS_FROM need no token there."""
PERMISSIONS |= {(method, "/api/v1/blobs/{sha256}"): UPLOADER for method in ("HEAD", "PUT")}
PERMISSIONS |= {("PUT", "/api/v1/runs/{org}/{name}/visibility"): PUBLISHER}
PERMISSIONS |= {("POST", "/api/v1/runs/{org}/{name}/withdraw"): PUBLISHER}
PERMISSIONS |= {("POST", f"/api/v1/releases{rest}"): PUBLISHER for rest in ("", "/check")}
PERMISSIONS |= {
    ("POST", f"/api/v1/jobs{rest}"): PUBLISHER for rest in ("", "/preview", "/{job}/cancel", "/{job}/retry")
}
PERMISSIONS |= {
    ("POST", path): PUBLISHER
    for path in ("/jobs/{job}/cancel", "/jobs/{job}/retry", "/runs/{org}/{name}/steps/{step}/submit")
}
"""With PORTAL_ANONYMOUS_JOBS these are open to everybody."""
PERMISSIONS |= {("POST", "/workers/{worker}/drain"): ADMIN}
PERMISSIONS |= {("POST", f"/account/{what}"): HOLDER for what in ("tokens", "tokens/{token}/revoke", "sign-out-others")}
PERMISSIONS |= {("POST", f"/sign-{way}"): ANYONE for way in ("in", "out")}
"""Forms of the portal's own pages; cookies count for these alone."""
PERMISSIONS |= {("POST", f"/api/v1/workers{rest}"): WORKER for rest in ("", "/{worker}/lease")}
PERMISSIONS |= {("POST", "/api/v1/workers/{worker}/drain"): ADMIN}
PERMISSIONS |= {
    ("POST", f"/api/v1/jobs/{{job}}/attempts/{{attempt}}/{what}"): WORKER
    for what in ("heartbeat", "logs", "metrics", "outputs", "complete")
}
"""An attempt's own secret opens these for that attempt, too."""

OF_A_RUN, OF_A_FILE, OF_A_JOB = "run", "file", "job"
"""A route about one thing: where it is private, strangers are answered as if it did not exist."""
OF_MANY = "many"
"""A route that lists or counts: what is private is not among it for strangers."""
OF_NONE = "none"
"""A route that speaks of no run at all."""

_ALWAYS_OPEN = re.compile(
    r"^/((sign-in|static|\.well-known/portal-keys)(/.*)?|sign-out|healthz|readyz|metrics)$", re.DOTALL
)
"""Addresses that are open to everybody even where PORTAL_ANONYMOUS_READING is off; the counters guard themselves."""

_LISTS = {
    "/",
    "/search",
    "/compare",
    "/compare/figure",
    "/jobs",
    "/workers",
    "/history",
    "/promises",
    "/api/v1/promises",
    "/api/v1/audit",
    "/api/v1/runs",
    "/api/v1/jobs",
    "/api/v1/workers",
    "/api/v1/search",
    "/api/v1/compare",
    "/api/models",
    "/api/datasets",
}
_SILENT = {
    "/api/v1/audit/head",
    "/account",
    "/api/v1/tokens",
    "/api/docs",
    "/api/v1/openapi.json",
    "/api/v1/whoami",
    "/api/whoami-v2",
    "/{name}/resolve/{rest:path}",
}
_REPOSITORIES = {"/api/models/{rest:path}", "/api/datasets/{rest:path}"}
_BY_THEIR_TOKEN = (
    "/account/",
    "/api/v1/tokens",
    "/api/v1/blobs/",
    "/api/v1/releases",
    "/api/v1/workers",
    "/workers/",
    "/api/v1/jobs/preview",
)
"""What is sent by publishers and workers: their token, their organisation and their leases decide."""


def is_always_open(path: str) -> bool:
    """Whether an address is open to everybody, whatever is set."""
    return _ALWAYS_OPEN.match(path) is not None


def subject_of(method: str, path: str) -> str | None:
    """Whose runs a route speaks of: one of the `OF_` constants; None for a route nobody has thought about."""
    if is_always_open(path) or path in _SILENT:
        return OF_NONE
    if "{org}/{name}" in path or path in _REPOSITORIES:
        return OF_A_RUN
    if "{job}" in path:
        return OF_A_JOB
    if path in _LISTS:
        return OF_MANY
    if method != "GET" and path.startswith(_BY_THEIR_TOKEN):
        return OF_NONE
    return OF_A_FILE if "{sha256}" in path else None
