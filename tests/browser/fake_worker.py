"""A worker that does as a test says: plain HTTP calls, no training."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx

from portal.catalog.accounts import create_token
from portal.database import Engine
from tests.jobs.tiny_run import write_checkpoint


class FakeWorker:
    """Attached to a portal at ``address``."""

    def __init__(self, address: str, engine: Engine, name: str = "bench-1", **about: Any) -> None:
        secret, _ = create_token(engine, "worker", f"token-{name}")
        self.http = httpx.Client(
            base_url=f"{address}/api/v1", headers={"Authorization": f"Bearer {secret}"}, timeout=30
        )
        said = {
            "trainer": {"torch": "2.9.0", "transformers": "5.0"},
            "name": name,
            "executor": "process",
            "gpus": 0,
            "host": "node7",
            **about,
        }
        self.id = self._post("/workers", said)["worker"]

    def close(self) -> None:
        self.http.close()

    def lease(self) -> FakeAttempt:
        """The next job, which must be there."""
        answer = self.http.post(f"/workers/{self.id}/lease", json={"free_gpus": 0, "free_slots": 1, "wait": 5})
        assert answer.status_code == 200, answer.text
        return FakeAttempt(self.http, answer.json())

    def _post(self, path: str, body: Any) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()


class FakeAttempt:
    """One leased attempt."""

    def __init__(self, http: httpx.Client, lease: dict[str, Any]) -> None:
        self.http, self.told = http, lease
        self.job, self.spec, self.offset = lease["job"], lease["spec"], 0
        self.headers = {"Authorization": f"Bearer {lease['attempt_token']}"}

    def say(self, what: str, **body: Any) -> Any:
        path = f"/jobs/{self.job}/attempts/{self.told['attempt']}/{what}"
        answer = self.http.post(path, json={"fence": self.told["fence"], **body}, headers=self.headers)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def beat(self, phase: str, step: int | None = None) -> Any:
        return self.say("heartbeat", phase=phase, step=step)

    def log(self, data: str | bytes) -> None:
        raw = data.encode() if isinstance(data, str) else data
        for first in range(0, len(raw), 4 << 20):
            piece = raw[first : first + (4 << 20)]
            path = f"/jobs/{self.job}/attempts/{self.told['attempt']}/logs"
            asked = {"fence": self.told["fence"], "offset": self.offset}
            answer = self.http.post(path, params=asked, content=piece, headers=self.headers)
            assert answer.status_code == 200, answer.text
            self.offset = answer.json()["offset"]

    def measure(self, step: int, **numbers: Any) -> None:
        self.say("metrics", points=[{"step": step, "name": k, "value": v} for k, v in numbers.items()])

    def hand_in(self, folder: Path, step: int, kind: str) -> None:
        """A checkpoint of the made run, uploaded and announced."""
        write_checkpoint(folder, step)
        files = []
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            answer = self.http.put(f"/blobs/{sha256}", content=data, headers=self.headers)
            assert answer.status_code < 300, answer.text
            files.append({"path": path.name, "size": len(data), "sha256": sha256})
        self.say("outputs", step=step, kind=kind, files=files)

    def end(self, outcome: str, exit_code: int = 0, message: str = "", **more: Any) -> str:
        said = {"outcome": outcome, "exit_code": exit_code, "message": message, **more}
        return str(self.say("complete", **said)["state"])
