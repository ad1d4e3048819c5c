"""One method per question of the JSON API; errors arrive as the errors the portal raised."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from portal import errors
from portal.client.addresses import joined, path_part, run_path, shown
from portal.client.answers import Answer, read_answer, unexpected
from portal.client.bulk import BROKEN, BulkConnections, Told
from portal.client.refusals import read_refusal, told
from portal.errors import PortalError, Unavailable, UsageError

TRIES = 4
FIRST_WAIT = 0.2
"""Seconds before the first repetition; each further one waits twice as long."""
WORTH_REPEATING = {429, 502, 504}
HOPS = 5
"""Redirects that are followed for one file."""

UNREACHABLE = (httpx.HTTPError, httpx.InvalidURL)

Json = dict[str, Any]


class Portal:
    """A portal at ``url``.

    Answers are the JSON of the API as dictionaries. What the portal refuses is raised as the
    PortalError of the same code, with its remedy; a portal that does not answer is Unavailable.
    GETs are repeated a few times where that can help.
    """

    def __init__(
        self, url: str, token: str | None = None, transport: httpx.BaseTransport | None = None, timeout: float = 60.0
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is no address of a portal.", "It begins with http:// or https://.")
        headers = {"Accept-Encoding": "gzip, identity", "User-Agent": "llm360-portal"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._http = httpx.Client(headers=headers, transport=transport, timeout=timeout, follow_redirects=False)
        self._other: httpx.Client | None = None
        self._bulk = BulkConnections(timeout)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()
        self._bulk.close()
        if self._other is not None:
            self._other.close()

    def runs(self) -> Iterator[Json]:
        """Every run."""
        return self._items("/runs")

    def run(self, run: str) -> Json:
        """One run's head: summary, stages, model, licences."""
        return self._get(run_path(run))

    def timeline(self, run: str) -> Json:
        """All lanes of a run by step."""
        return self._get(f"{run_path(run)}/timeline")

    def checkpoints(self, run: str) -> Iterator[Json]:
        """Every checkpoint of a run, by step."""
        return self._items(f"{run_path(run)}/checkpoints")

    def checkpoint(self, run: str, step: int | str) -> Json:
        """One checkpoint by step or label, with its files."""
        return self._get(f"{run_path(run)}/checkpoints/{path_part(step)}")

    def chunks(self, run: str) -> Iterator[Json]:
        """Every chunk of a run."""
        return self._items(f"{run_path(run)}/chunks")

    def chunk(self, run: str, chunk: str) -> Json:
        """One chunk with its files and the steps that read it."""
        return self._get(f"{run_path(run)}/chunks/{path_part(chunk)}")

    def step(self, run: str, step: int | str) -> Json:
        """Everything that lies at a step."""
        return self._get(f"{run_path(run)}/steps/{path_part(step)}")

    def pair(self, run: str, step: int | str, data: str = "next", steps: int | None = None) -> Json:
        """The pair at a step; ``data`` is next, previous or batch."""
        return self._get(f"{run_path(run)}/steps/{path_part(step)}/pair", data=data, steps=steps)

    def pair_signature(
        self, run: str, step: int | str, data: str = "next", steps: int | None = None, parts: Sequence[str] = ()
    ) -> bytes:
        """The portal's signature over a pair's folder; NotFound where the portal signs nothing."""
        asked = {"data": data, "steps": steps, "parts": ",".join(parts) or None}
        return self._text(f"{run_path(run)}/steps/{path_part(step)}/pair/pair.sig", **asked)

    def history_head(self) -> Json:
        """The newest entry of the portal's history, signed where the portal signs: ``seq``, ``hash``, ``envelope``."""
        return self._get("/audit/head")

    def checkpoint_signature(self, run: str, step: int | str, name: str) -> bytes:
        """``model.sig`` or ``provenance`` of a checkpoint; NotFound where the portal signs nothing."""
        return self._text(f"{run_path(run)}/checkpoints/{path_part(step)}/{path_part(name)}")

    def release_signature(self, run: str) -> bytes:
        """The first publisher's signature over a run's current version; NotFound where nobody signed it."""
        path = f"{run_path(run)}/signatures"
        try:
            keys = [str(signature["key_id"]) for signature in json.loads(self._text(path))]
        except (ValueError, TypeError, KeyError) as error:
            raise unexpected(f"{self.url}/api/v1{path}", error) from None
        if not keys:
            raise errors.NotFound(f"Nobody signed {run}.", "Its publisher can, with `portal publish --sign`.")
        return self._text(f"{path}/{path_part(keys[0])}")

    def tokens(self, run: str, step: int | str, first: int = 0, count: int = 20, text: bool = True) -> Json:
        """Rows ``first`` to ``first + count`` of the batch of a step."""
        asked = {"first": first, "count": count, "text": "true" if text else "false"}
        return self._get(f"{run_path(run)}/steps/{path_part(step)}/tokens", **asked)

    def files(self, run: str) -> Iterator[Json]:
        """Every file of a run's current version, with its sha256 where that is known."""
        return self._items(f"{run_path(run)}/files")

    def blocks(self, sha256: str) -> Json:
        """Digests of the blocks of a file by its sha256; raises FileNotCatalogued where the portal has none."""
        return self._get(f"/blocks/{path_part(sha256)}")

    def series(self, run: str) -> Iterator[Json]:
        """Definitions of all metric series."""
        return self._items(f"{run_path(run)}/metrics")

    def metrics(self, run: str, series: list[str], **asked: Any) -> Json:
        """Numbers of series; ``asked`` are x, first, last, buckets."""
        return self._get(f"{run_path(run)}/metrics/data", series=",".join(series), **asked)

    def configs(self, run: str) -> Iterator[Json]:
        """Configs by first step."""
        return self._items(f"{run_path(run)}/configs")

    def events(self, run: str) -> Iterator[Json]:
        """Events by step."""
        return self._items(f"{run_path(run)}/events")

    def findings(self, run: str) -> Iterator[Json]:
        """What the portal found out itself."""
        return self._items(f"{run_path(run)}/findings")

    def evaluations(self, run: str) -> Iterator[Json]:
        """Evaluation results by step."""
        return self._items(f"{run_path(run)}/evaluations")

    def lineage(self, run: str) -> Json:
        """Parents and children of a run."""
        return self._get(f"{run_path(run)}/lineage")

    @contextmanager
    def open_batch(self, run: str, step: int | str, format: str) -> Iterator[httpx.Response]:
        """The whole batch of a step as a streamed file: npy, parquet or jsonl."""
        with self.open_url(self.batch_url(run, step, format)) as answer:
            yield answer

    def batch_url(self, run: str, step: int | str, format: str) -> str:
        """Where the whole batch of a step is served as a file."""
        return f"{self.url}/api/v1{run_path(run)}/steps/{path_part(step)}/tokens?format={path_part(format)}"

    @contextmanager
    def open_url(
        self, url: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> Iterator[httpx.Response]:
        """A streamed answer from this portal or from where it points; refused ones are raised.

        Redirects to other hosts are followed without this portal's token.
        """
        address = joined(f"{self.url}/", url)
        asked = {"Accept-Encoding": "identity", **(headers or {})}
        try:
            for _hop in range(HOPS):
                with self._client(address).stream(method, address, headers=asked) as answer:
                    if answer.has_redirect_location:
                        address = joined(address, answer.headers["location"])
                        continue
                    if answer.status_code >= 300:
                        answer.read()
                        raise self._refusal(answer, address)
                    yield answer
                    return
        except UNREACHABLE as error:
            raise Unavailable(
                f"{shown(address)} does not answer: {told(error)}.", "Check the network; try again."
            ) from None
        raise Unavailable(f"{url} redirects more than {HOPS} times.", "Report it to the portal's operator.")

    def receive(
        self,
        address: str,
        headers: Mapping[str, str],
        accept: Callable[[Told], bool],
        buffer: memoryview,
        advance: Callable[[int], None],
    ) -> tuple[int, bool]:
        """A range from another host into ``buffer``, as of `BulkConnections.receive`; refused ones are raised, and so is
        a redirect: where it leads is asked for at the portal anew."""

        def good(told: Told) -> bool:
            if told.status_code >= 300:
                raise self._refused(address, told.status_code)
            return accept(told)

        try:
            return self._bulk.receive(
                address,
                {"Accept-Encoding": "identity", "User-Agent": "llm360-portal", **headers},
                good,
                buffer,
                advance,
            )
        except BROKEN as error:
            raise Unavailable(
                f"{shown(address)} does not answer: {told(error)}.", "Check the network; try again."
            ) from None

    def receives(self, address: str) -> bool:
        """Whether `receive` can be asked for ``address``."""
        return not self._is_here(address) and self._bulk.reaches(address)

    def points_elsewhere(self, url: str, address: str) -> bool:
        """Whether ``url`` is this portal's own and led to ``address`` on another host."""
        return self._is_here(joined(f"{self.url}/", url)) and not self._is_here(address)

    def _client(self, address: str) -> httpx.Client:
        """Other hosts (the Hub, a bucket) never see this portal's token."""
        if self._is_here(address):
            return self._http
        with self._lock:
            if self._other is None:
                self._other = httpx.Client(headers={"User-Agent": "llm360-portal"}, timeout=self._timeout)
            return self._other

    def _is_here(self, address: str) -> bool:
        return address == self.url or address.startswith(f"{self.url}/")

    def _refusal(self, answer: httpx.Response, address: str) -> PortalError:
        if self._is_here(address):
            return read_refusal(answer)
        return self._refused(address, answer.status_code)

    def _refused(self, address: str, status: int) -> PortalError:
        remedy = {401: "It is not public.", 403: "It is not public.", 404: "It is not there any more."}
        return Unavailable(
            f"{shown(address)} answered {status}.", remedy.get(status, "Try again later."), answered=status
        )

    def _items(self, path: str) -> Iterator[Json]:
        cursor: str | None = None
        while True:
            page = self._get(path, cursor=cursor, limit=500)
            if not isinstance(page["items"], list) or not all(isinstance(item, dict) for item in page["items"]):
                raise unexpected(f"{self.url}/api/v1{path}", TypeError("`items` is no list of objects"))
            yield from page["items"]
            following = page.get("next")
            if following is None:
                return
            if following == cursor:
                raise unexpected(f"{self.url}/api/v1{path}", ValueError("its next page is the same page"))
            cursor = following

    def request(
        self,
        method: str,
        path: str,
        content: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """One request below ``/api/v1``, sent once; ``timeout`` is how long its answer may take.

        What the portal refuses is raised, and Unavailable where it does not answer or leads elsewhere.
        """
        address = f"{self.url}/api/v1{path}"
        patience = httpx.Timeout(self._timeout, read=timeout or self._timeout)
        try:
            answer = self._http.request(method, address, content=content, headers=headers, timeout=patience)
        except UNREACHABLE as error:
            raise Unavailable(f"{self.url} does not answer: {told(error)}.", "Is the portal running there?") from None
        if answer.has_redirect_location:
            raise Unavailable(
                f"{self.url} leads to {answer.headers['location'][:200]}.", "Give the address it leads to.", moved=True
            )
        if answer.status_code >= 400:
            raise read_refusal(answer)
        return answer

    def _get(self, path: str, **asked: Any) -> Answer:
        return read_answer(self._ask(f"{self.url}/api/v1{path}", {k: v for k, v in asked.items() if v is not None}))

    def _text(self, path: str, **asked: Any) -> bytes:
        return self._ask(f"{self.url}/api/v1{path}", {k: v for k, v in asked.items() if v is not None}).content

    def _ask(self, address: str, asked: dict[str, Any]) -> httpx.Response:
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            try:
                answer = self._http.get(address, params=asked)
            except UNREACHABLE as error:
                if last:
                    raise Unavailable(
                        f"{self.url} does not answer: {told(error)}.", "Is the portal running there?"
                    ) from None
            else:
                if answer.status_code < 400:
                    return answer
                if last or answer.status_code not in WORTH_REPEATING:
                    raise read_refusal(answer)
            time.sleep(FIRST_WAIT * 2**attempt)
        raise AssertionError("the last attempt returns or raises")
