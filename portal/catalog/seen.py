"""What a checkpoint has read: chunks, and tokens by source, from the first step to its own."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator

from portal.catalog.answers import DataSeen, SourceTokens
from portal.catalog.facts import OrderFact, ReleaseFacts, SpanFact

MAX_READING = 10


def data_seen(facts: ReleaseFacts, step: int) -> DataSeen:
    """Chunks and tokens read in steps ``1..step``.

    Where an order mixes the rows of its chunks, each counts by its share of their rows; where that is not
    known, its tokens stay unattributed.
    """
    tokens = facts.tokens_after(step)
    spans = facts.spans.over(1, step) if step else []
    ended = Counter(s.chunk for s in spans if s.last_step <= step)
    reading = list(dict.fromkeys(s.chunk for s in spans if s.last_step > step))
    sources: dict[str, float] = defaultdict(float)
    attributed = 0.0
    for chunk, read in _tokens_by_chunk(facts, step):
        mix = facts.chunks[chunk].row.sources
        total = sum(mix.values())
        if total > 0:
            attributed += read
            for source, share in mix.items():
                sources[source] += read * share / total
    return DataSeen(
        tokens=tokens,
        chunks=len(ended),
        reading=reading[:MAX_READING],
        reading_total=len(reading),
        again=sum(count > 1 for count in Counter(s.chunk for s in spans).values()),
        sources=[SourceTokens(name, round(read)) for name, read in sorted(sources.items(), key=lambda s: -s[1])],
        unattributed=None if tokens is None else max(tokens - round(attributed), 0),
    )


def _tokens_by_chunk(facts: ReleaseFacts, step: int) -> Iterator[tuple[str, float]]:
    """Tokens read of each chunk, once for each time it is read."""
    spans: dict[int, list[SpanFact]] = {}
    for span in facts.spans.over(1, step) if step else []:
        spans.setdefault(span.order.id, []).append(span)
    for order in facts.orders.over(1, step) if step else []:
        yield from _tokens_of_order(facts, order, spans.get(order.id, []), step)


def _tokens_of_order(
    facts: ReleaseFacts, order: OrderFact, spans: list[SpanFact], step: int
) -> Iterator[tuple[str, float]]:
    read = _tokens(facts, order.first_step, min(order.last_step, step))
    weights: list[int | None]
    if _overlap(spans):
        weights = [facts.chunk_rows.get(span.chunk) for span in spans]
    else:
        weights = [_tokens(facts, span.first_step, min(span.last_step, step)) for span in spans]
    known = [weight for weight in weights if weight is not None]
    whole = sum(known)
    if len(known) < len(spans) or not whole:
        return
    # The step in which one chunk ends and the next begins counts for both, so their sum may exceed what was read.
    scale = read / whole if _overlap(spans) else min(read / whole, 1.0)
    for span, weight in zip(spans, known, strict=True):
        yield span.chunk, weight * scale


def _overlap(spans: list[SpanFact]) -> bool:
    """Whether steps read from several chunks for longer than the one step in which one ends and the next begins."""
    ordered = sorted(spans, key=lambda s: s.first_step)
    return any(later.first_step < earlier.last_step for earlier, later in itertools.pairwise(ordered))


def _tokens(facts: ReleaseFacts, first: int, last: int) -> int:
    before, after = facts.tokens_after(first - 1), facts.tokens_after(last)
    return 0 if before is None or after is None else max(after - before, 0)
