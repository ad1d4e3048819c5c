"""Who may call what: every route, with the role it needs. A route that is not here is refused by a test."""

from __future__ import annotations

ANYONE = "anyone"
"""No token needed: published runs are public."""
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
PERMISSIONS |= {("GET", "/metrics"): ADMIN}
"""Addresses of PORTAL_METRICS_FROM need no token there."""
PERMISSIONS |= {(method, "/api/v1/tokens"): HOLDER for method in ("GET", "POST")}
PERMISSIONS |= {("DELETE", "/api/v1/tokens/{token}"): HOLDER}
PERMISSIONS |= {
    ("POST", f"{api}/runs/{{org}}/{{name}}/findings/{{finding}}/review"): REVIEWER for api in ("", "/api/v1")
}
PERMISSIONS |= {(method, "/api/v1/blobs/{sha256}"): UPLOADER for method in ("HEAD", "PUT")}
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
