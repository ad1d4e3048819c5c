"""Chunks and their order: every name known, every kind with the fields it needs, every step read by one rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from portal.manifest.check_checkpoints import MAX_FILES, check_files, file_count
from portal.manifest.check_paths import check_path, check_template, placeholders
from portal.manifest.expand import ChunkEntry, expand_chunk, expand_names, stages_of
from portal.manifest.faults import Contradiction, Place, nearest, shown
from portal.manifest.schema import Chunk, DataOrder, Manifest, NamePattern

MAX_CHUNKS = 1_000_000
MAX_DRAW = 10_000
"""Permutations drawn before the one that counts; each is a shuffle of all rows."""
MAX_COMPLAINTS = 20
"""Unknown chunks named one by one; the message states how many more there are."""


def check_data(manifest: Manifest, known_chunks: frozenset[str] = frozenset()) -> Iterator[Contradiction]:
    """Contradictions of chunks and orders; ``known_chunks`` exist although they are not listed soundly."""
    sound = []
    for number, chunk in enumerate(manifest.data.chunks):
        faults = [*_chunk(chunk, ("data", "chunks", number))]
        yield from faults
        if not faults:
            sound.append(number)
    too_many = [*_too_many(manifest)]
    yield from too_many
    if too_many:
        return
    yield from _expanded(manifest, sound)
    names = {n for c in manifest.data.chunks for n in _names_of(c)} | known_chunks
    for number, order in enumerate(manifest.data.order):
        yield from _order(order, manifest, names, ("data", "order", number))
    yield from _overlaps(manifest.data.order)


def _chunk(chunk: Chunk, place: Place) -> Iterator[Contradiction]:
    if (chunk.name is None) == (chunk.names is None):
        have = "neither name nor names" if chunk.name is None else "name and names"
        yield Contradiction(place, f"has {have}", "Give `name` for one chunk or `names` for a pattern of them.")
    if chunk.names is not None:
        yield from _name_pattern(chunk.names, (*place, "names"))
    yield from check_files(chunk.files, ("index", "name"), (*place, "files"))
    if chunk.format == "flat" and chunk.dtype is None and chunk.header != "npy":
        yield Contradiction(
            (*place, "dtype"),
            "is missing: bytes of a flat file do not tell their type",
            "Write u16 or u32, or `header: npy`.",
        )
    for name, share in chunk.sources.items():
        if not math.isfinite(share) or share < 0:
            yield Contradiction((*place, "sources", name), f"{share} is no share", "Write a number from 0 to 1.")


def _name_pattern(pattern: NamePattern, place: Place) -> Iterator[Contradiction]:
    faults = [*check_template(pattern.pattern, ("index",), (*place, "pattern"))]
    yield from faults
    if not faults and pattern.count > 1 and "index" not in placeholders(pattern.pattern):
        yield Contradiction(
            (*place, "pattern"), "has no {index}, so all names are the same", "Write e.g. train_{index:03d}."
        )


def _too_many(manifest: Manifest) -> Iterator[Contradiction]:
    counts = [c.names.count if c.names else 1 for c in manifest.data.chunks]
    files = sum(n * file_count(c.files) for n, c in zip(counts, manifest.data.chunks, strict=True))
    if sum(counts) > MAX_CHUNKS or files > MAX_FILES:
        yield Contradiction(
            ("data", "chunks"),
            f"stands for {sum(counts):,} chunks with {files:,} files",
            f"At most {MAX_CHUNKS:,} chunks and {MAX_FILES:,} files can be published.",
        )
    listed = [o.chunks.count for o in manifest.data.order if isinstance(o.chunks, NamePattern)]
    if sum(listed) > MAX_CHUNKS:
        yield Contradiction(
            ("data", "order"), f"lists {sum(listed):,} chunks by pattern", f"At most {MAX_CHUNKS:,} can be listed."
        )


def _expanded(manifest: Manifest, sound: list[int]) -> Iterator[Contradiction]:
    """What only shows once patterns are written out: repeated names, and paths that a name leads astray."""
    seen: dict[str, int] = {}
    for number in sound:
        # One line may stand for thousands of chunks with one and the same fault: the first is named.
        faults: dict[Place, Contradiction] = {}
        for entry in expand_chunk(manifest.data.chunks[number], number, manifest):
            for fault in _entry(entry, seen, ("data", "chunks", number)):
                faults.setdefault(fault.place, fault)
            seen.setdefault(entry.name, number)
        yield from faults.values()


def _entry(entry: ChunkEntry, seen: Mapping[str, int], place: Place) -> Iterator[Contradiction]:
    if entry.name in seen:
        yield Contradiction(
            (*place, "name"),
            f"{shown(entry.name)!r} is already a chunk of data.chunks[{seen[entry.name]}]",
            "Give each chunk its own name; one that is read twice stands in two orders.",
        )
    if any(ord(c) < 32 for c in entry.name):
        yield Contradiction(
            (*place, "name"), f"{shown(entry.name)!r} holds a control character", "Choose another name."
        )
    for file in entry.files:
        yield from check_path(file.path, (*place, "files"))


def _names_of(chunk: Chunk) -> Iterator[str]:
    if chunk.names is None:
        yield chunk.name or ""
    elif not [*_name_pattern(chunk.names, ())]:
        yield from (name for _, name in expand_names(None, chunk.names))


def _order(order: DataOrder, manifest: Manifest, names: set[str], place: Place) -> Iterator[Contradiction]:
    last = manifest.training.last_step
    if order.first_step > order.last_step:
        yield Contradiction(
            (*place, "first_step"),
            f"{order.first_step:,} lies after last_step {order.last_step:,}",
            "Correct one of them.",
        )
    if last and order.last_step > last:
        yield Contradiction(
            (*place, "last_step"), f"{order.last_step:,} lies beyond the run's last step {last:,}", "Correct it."
        )
    yield from _listed_chunks(order, names, place)
    yield from _needs(order, place)
    yield from _own_fields(order, place)
    yield from _batches(order, manifest, place)
    if order.file is not None:
        yield from check_template(order.file.path, (), (*place, "file", "path"))
        if order.file.shards is not None:
            yield Contradiction((*place, "file", "shards"), "is not for order files", "An order is one file.")
        yield from check_path(order.file.path, (*place, "file", "path"))


def _listed_chunks(order: DataOrder, names: set[str], place: Place) -> Iterator[Contradiction]:
    where = (*place, "chunks")
    if isinstance(order.chunks, NamePattern):
        faults = [*_name_pattern(order.chunks, where)]
        yield from faults
        listed = [] if faults else [name for _, name in expand_names(None, order.chunks)]
    else:
        listed = list(order.chunks)
        if not listed and order.kind != "unknown":
            yield Contradiction(where, "is empty", "List the chunks whose rows were read, in order.")
    unknown = {name: number for number, name in reversed(list(enumerate(listed))) if name not in names}
    for name, number in sorted(unknown.items(), key=lambda item: item[1])[:MAX_COMPLAINTS]:
        at = where if isinstance(order.chunks, NamePattern) else (*where, number)
        yield Contradiction(
            at, f"{shown(name)!r} is no chunk of this run", nearest(name, names) or "Add it to data.chunks."
        )
    if len(unknown) > MAX_COMPLAINTS:
        yield Contradiction(
            where, f"{len(unknown) - MAX_COMPLAINTS:,} more names are no chunks of this run", "Correct them."
        )


_NEEDS: Mapping[str, Mapping[str, str]] = {
    "index": {"file": "Name the published order file.", "dtype": "Write the type of its entries, e.g. u32."},
    "permutation": {"rng": "Name the generator, e.g. numpy-RandomState.", "seed": "Write its seed."},
}
_OWN = {"file": "index", "dtype": "index", "rng": "permutation", "seed": "permutation"}


def _needs(order: DataOrder, place: Place) -> Iterator[Contradiction]:
    for name, remedy in _NEEDS.get(order.kind, {}).items():
        if getattr(order, name) is None and not (name == "dtype" and order.file and order.file.path.endswith(".npy")):
            yield Contradiction((*place, name), f"is missing: kind {order.kind} needs it", remedy)
    if order.per_chunk and order.steps_per_chunk is None:
        yield Contradiction(
            (*place, "steps_per_chunk"),
            "is missing: per_chunk needs it",
            "Write for how many steps each chunk is read.",
        )


def _own_fields(order: DataOrder, place: Place) -> Iterator[Contradiction]:
    for name, kind in _OWN.items():
        if getattr(order, name) is not None and order.kind not in (kind, "unknown"):
            yield Contradiction(
                (*place, name), f"means nothing for kind {order.kind}", f"Leave it out, or write `kind: {kind}`."
            )
    highest = (order.seed or 0) + (len(order.chunks) if order.per_chunk and isinstance(order.chunks, list) else 0)
    if order.rng == "numpy-RandomState" and highest >= 2**32:
        yield Contradiction(
            (*place, "seed"), f"{order.seed:,} is too large for numpy's RandomState", "Seeds end at 2^32 - 1."
        )
    if order.draw > MAX_DRAW:
        yield Contradiction(
            (*place, "draw"), f"{order.draw:,} is more permutations than can be drawn", f"At most {MAX_DRAW:,}."
        )


def _batches(order: DataOrder, manifest: Manifest, place: Place) -> Iterator[Contradiction]:
    if order.kind == "unknown" or order.confidence in ("chunk", "unknown"):
        return
    batches = {
        s.rows_per_step
        for s in stages_of(manifest)
        if s.first_step <= order.last_step and s.last_step >= order.first_step
    }
    if len(batches) > 1:
        yield Contradiction(
            place,
            f"runs through stages with different rows_per_step ({', '.join(str(b) for b in sorted(batches, key=str))})",
            "Split it where the batch changes; give the second part its `start`.",
        )


def _overlaps(orders: list[DataOrder]) -> Iterator[Contradiction]:
    by_step = sorted(enumerate(orders), key=lambda item: item[1].first_step)
    reach, owner = 0, 0
    for number, order in by_step:
        if order.first_step <= reach:
            yield Contradiction(
                ("data", "order", number, "first_step"),
                f"{order.first_step:,} overlaps data.order[{owner}], which ends at step {reach:,}",
                "A step is read by one rule: correct the borders.",
            )
        if order.last_step > reach:
            reach, owner = order.last_step, number
