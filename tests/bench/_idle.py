"""``PORTAL_TOKEN=… python -m tests.bench._idle PORT COUNT``: workers that register and wait for work until they are ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import httpx

from tests.bench._load import HOST


async def wait_for_work(port: int, count: int, secret: str) -> None:
    """Ask for leases as agents do, one question after the other each."""
    transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=count + 10), retries=10)
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(
        transport=transport, base_url=f"http://{HOST}:{port}", headers=headers, timeout=90
    ) as http:

        async def wait(k: int) -> None:
            worker = (await http.post("/api/v1/workers", json={"name": f"w{k}"})).raise_for_status().json()["worker"]
            while True:
                asked = {"free_gpus": 0, "free_slots": 1, "wait": 30}
                (await http.post(f"/api/v1/workers/{worker}/lease", json=asked)).raise_for_status()

        await asyncio.gather(*(wait(k) for k in range(count)))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(wait_for_work(int(sys.argv[1]), int(sys.argv[2]), os.environ["PORTAL_TOKEN"]))
