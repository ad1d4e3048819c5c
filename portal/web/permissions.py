"""Who may call what: every route, with the role it needs. A route that is not here is refused by a test."""

from __future__ import annotations

ANYONE = "anyone"
"""No token needed: published runs are public."""

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
        "/api/v1/runs/{org}/{name}/evaluations",
        "/api/v1/runs/{org}/{name}/files",
        "/api/v1/runs/{org}/{name}/checkpoints",
        "/api/v1/runs/{org}/{name}/checkpoints/{step}",
        "/api/v1/runs/{org}/{name}/checkpoints/{step}/tensors",
        "/api/v1/runs/{org}/{name}/chunks",
        "/api/v1/runs/{org}/{name}/chunks/{chunk}",
        "/api/v1/runs/{org}/{name}/steps/{step}",
        "/api/v1/runs/{org}/{name}/steps/{step}/pair",
        "/api/v1/runs/{org}/{name}/steps/{step}/pair/SHA256SUMS",
        "/api/v1/runs/{org}/{name}/steps/{step}/tokens",
        "/api/v1/runs/{org}/{name}/metrics",
        "/api/v1/runs/{org}/{name}/metrics/data",
        "/api/v1/runs/{org}/{name}/metrics/{series:path}.parquet",
        "/api/v1/runs/{org}/{name}/metrics/{series:path}.csv",
        "/api/v1/blocks/{sha256}",
        "/api/v1/search",
        "/api/v1/openapi.json",
        "/api/docs",
        "/files/{sha256}/{name}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/static/{path:path}",
        "/",
        "/search",
        "/runs/{org}/{name}",
        "/runs/{org}/{name}/lanes",
        "/runs/{org}/{name}/figure",
        "/runs/{org}/{name}/findings",
        "/runs/{org}/{name}/events",
        "/runs/{org}/{name}/configs",
        "/runs/{org}/{name}/lineage",
        "/runs/{org}/{name}/evaluations",
        "/runs/{org}/{name}/checkpoints",
        "/runs/{org}/{name}/checkpoints/{step}",
        "/runs/{org}/{name}/chunks",
        "/runs/{org}/{name}/chunks/{chunk}",
        "/runs/{org}/{name}/metrics",
        "/runs/{org}/{name}/steps/{step}",
        "/runs/{org}/{name}/steps/{step}/pair",
        "/runs/{org}/{name}/steps/{step}/tokens",
    )
} | {("HEAD", path): ANYONE for path in ("/files/{sha256}/{name}", "/static/{path:path}", "/api/v1/openapi.json")}
        "/runs/{org}/{name}/checkpoints/{step}/tensors",
