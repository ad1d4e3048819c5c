"""Croissant 1.1: the data of a run in the JSON-LD that dataset searches and loaders read.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col

from portal.catalog.answers import FileView
from portal.catalog.facts import ChunkFact, ReleaseFacts
from portal.catalog.files import Links, load_files
from portal.catalog.release import load_facts
from portal.errors import DataFault
from portal.models import File
from portal.settings import Settings

MEDIA_TYPE = "application/ld+json"
_READABLE = {"jsonl": "application/jsonlines", "parquet": "application/x-parquet"}
"""Formats that Croissant's own tools read rows of."""
_PACKED = (".gz", ".zst")
_WORDS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject fileSet format "
    "includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
} | {word: f"cr:{word}" for word in _WORDS.split()}


def croissant_of(session: Session, settings: Settings, run: str, address: str, cite_as: str) -> dict[str, Any]:
    """The run's data under the portal at ``address``; files without a published sha256 are counted, not listed.

    Raises DataFault where that leaves no file: Croissant asks for a digest of each.
    """
    facts = load_facts(session, run)
    head, links = facts.head, Links.of(settings)
    held = _files(session, facts, links)
    listed = [(k, chunk, f) for k, (chunk, f) in enumerate(held) if f.sha256 and f.url]
    if not listed:
        raise DataFault(
            f"{run} has no data file whose sha256 and address are known, which Croissant asks for.",
            "See its list of chunks for what is known.",
        )
    about: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": f"Training data of {run}",
        "description": _description(facts, len(held), len(listed)),
        "url": f"{address}/runs/{run}",
        "version": f"{head.version}.0.0",
        "datePublished": head.published_at.date().isoformat(),
        "creator": {"@type": "sc:Organization", "name": run.partition("/")[0]},
        "citeAs": cite_as,
        "isLiveDataset": False,
        "distribution": [_object(k, chunk, f, address) for k, chunk, f in listed],
        "recordSet": [_rows(k, chunk, f) for k, chunk, f in listed if _is_readable(chunk, f)],
    }
    licence = head.license.get("data")
    return about | ({"license": str(licence)} if licence else {})


def _files(session: Session, facts: ReleaseFacts, links: Links) -> list[tuple[ChunkFact, FileView]]:
    """Files of chunks in the order of the manifest, each address and digest once."""
    by_id = {c.id: c for c in facts.chunks.values()}
    rows = load_files(session, facts.head.id, col(File.chunk_id).is_not(None))
    places = {c.id: k for k, c in enumerate(facts.chunks.values())}
    rows.sort(key=lambda row: places[row.chunk_id or 0])
    found = ((by_id[row.chunk_id or 0], links.file_view(row)) for row in rows)
    return list({(f.url, f.sha256, f.path): (chunk, f) for chunk, f in found}.values())


def _description(facts: ReleaseFacts, held: int, listed: int) -> str:
    orders = sorted({order.view.confidence for order in facts.orders.all})
    told = [facts.head.description or f"What {facts.run} read while it was trained."]
    told += ["Synthetic: made up in the shape of a real run."] if facts.head.synthetic else []
    told.append(f"Which rows each step read is known with confidence: {', '.join(orders) or 'unknown'}.")
    if listed < held:
        told.append(
            f"{held - listed} of {held} files are not listed here, because no sha256 or address of them is known."
        )
    return " ".join(told)


def _object(k: int, chunk: ChunkFact, file: FileView, address: str) -> dict[str, Any]:
    url = file.url or ""
    size = {"contentSize": f"{file.size} B"} if file.size is not None else {}
    return {
        "@type": "cr:FileObject",
        "@id": f"file-{k}",
        "name": file.path,
        "description": f"Chunk {chunk.row.name}, format {chunk.row.format}.",
        "contentUrl": url if "://" in url else f"{address}{url}",
        "encodingFormat": _READABLE[chunk.row.format] if _is_readable(chunk, file) else "application/octet-stream",
        "sha256": file.sha256,
        **size,
    }


def _is_readable(chunk: ChunkFact, file: FileView) -> bool:
    return chunk.row.format in _READABLE and not file.path.endswith(_PACKED)


def _rows(k: int, chunk: ChunkFact, file: FileView) -> dict[str, Any]:
    """The rows of one file: their token ids."""
    column = chunk.column or "token_ids"
    source = {"fileObject": {"@id": f"file-{k}"}, "extract": {"column": column}}
    field = {
        "@type": "cr:Field",
        "@id": f"rows-{k}/token_ids",
        "name": "token_ids",
        "description": "Token ids of one row, as the model read them.",
        "dataType": "sc:Integer",
        "isArray": True,
        "arrayShape": "-1",
        "source": source,
    }
    return {
        "@type": "cr:RecordSet",
        "@id": f"rows-{k}",
        "name": f"rows of {file.path}",
        "description": f"Rows of chunk {chunk.row.name} as they lie in the file, not in the order they were read.",
        "field": [field],
    }
