"""Releases whose every text is hostile, written to disk as a publisher would, and published."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from tokenizers import pre_tokenizers

from portal.exchange.publish import publish
from portal.manifest.check_paths import check_link
from portal.settings import Settings
from tests.browser.payloads import PAYLOADS, joined
from tests.builders import byte_tokenizer

RUN = "hostile/run"
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
FILES = ("weights.html", "weights.svg", "weights.xhtml", "weights.js", "=cmd.csv")
"""Files that a browser would render or obey if it were let."""
EVIL = b"<html xmlns='http://www.w3.org/1999/xhtml'><script>window.hit=1</script></html>"


@dataclass(frozen=True)
class Hostile:
    """What was published: for each kind of place the payloads that stand there."""

    places: dict[str, list[str]]
    titled: list[str]
    """Further runs, whose titles and licences hold the payloads between them."""

    @property
    def placed(self) -> int:
        """Payloads times places."""
        return sum(map(len, self.places.values()))


def publish_hostile(engine: Engine, settings: Settings, folder: Path) -> Hostile:
    """Publish ``hostile/run`` and the runs with hostile titles."""
    places: dict[str, list[str]] = {}
    document = _document(folder, places)
    _write(folder, document)
    publish(folder, settings, engine)
    titled = [_publish_titled(engine, settings, folder.parent, *at) for at in enumerate(joined(300))]
    # One title holds several payloads; together the runs hold them all.
    places |= {f"{place} of a run": PAYLOADS for place in ("title", "licence", "architecture")}
    return Hostile(places, titled)


def _document(folder: Path, places: dict[str, list[str]]) -> dict[str, Any]:
    folder.mkdir(parents=True)
    everything = joined(20_000)[0]
    count = len(PAYLOADS)

    def at(place: str, texts: list[str] = PAYLOADS) -> list[str]:
        places[place] = texts
        return texts

    stages = [
        {"name": text, "first_step": k, "last_step": k, "note": text, "rows_per_step": 1 if k > 1 else count + 1}
        for k, text in enumerate(at("stage name, stage note"), start=1)
    ]
    return {
        "format": "llm360-portal/release/1",
        "run": RUN,
        "description": everything,
        "license": {"code": everything, "weights": everything, "data": everything},
        "links": {text: f"https://example.org/{text}" for text in at("link, address of a link", _linkable())},
        "model": {"architecture": everything, "parameters": 1000},
        "tokenizer": "tokenizer.json",
        "training": {"last_step": count},
        "stages": stages,
        "checkpoints": _checkpoints(folder, places),
        "data": _data(folder, places, everything),
        "metrics": [_metrics(folder, places)],
        "configs": _configs(at("config key, config value, config note, code repository, commit and path")),
        "events": [
            {"step": k, "kind": "note", "note": text, "evidence": text}
            for k, text in enumerate(at("event note, event evidence"), start=1)
        ],
        "evaluations": _evaluations(folder, places),
        "findings": [
            {"code": text, "message": text, "step": k, "evidence": {text: [text]}}
            for k, text in enumerate(at("finding code, message and evidence"), start=1)
        ],
    }


def _linkable() -> list[str]:
    return [text for text in PAYLOADS if not any(check_link(f"https://example.org/{text}", ()))]


def _nameable() -> list[str]:
    """Chunks and series refuse control characters in their names."""
    return [text for text in PAYLOADS if not any(ord(c) < 32 for c in text)]


def _checkpoints(folder: Path, places: dict[str, list[str]]) -> list[dict[str, Any]]:
    (folder / "ck").mkdir()
    entries: list[dict[str, Any]] = []
    names: list[str] = []
    for step, text in enumerate(PAYLOADS, start=1):
        entry: dict[str, Any] = {"step": step, "labels": [_literal(text)], "dtype": text, "note": text}
        if any(ord(c) < 32 or ord(c) == 127 for c in text) or "\\" in text or len(text.encode()) > 200:
            entries.append(entry | {"location": f"hf://lab/model@r{step}", "contains": ["weights"]})
            continue
        name = text.replace("/", "∕")
        names.append(text)
        (folder / "ck" / name).write_bytes(EVIL + str(step).encode())
        entries.append(entry | {"files": [{"path": f"ck/{_literal(name)}", "role": "weights"}]})
    for name in FILES:
        (folder / "ck" / name).write_bytes(EVIL + name.encode())
    entries[0]["files"] += [{"path": f"ck/{name}", "role": "other"} for name in FILES]
    places["checkpoint label, precision and note"] = PAYLOADS
    places["file name"] = names
    return entries


def _data(folder: Path, places: dict[str, list[str]], everything: str) -> dict[str, Any]:
    tokenizer = byte_tokenizer()
    # Once as tokens of their own, which are drawn whole, once byte by byte.
    tokenizer.add_special_tokens(PAYLOADS)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    texts = [everything, *PAYLOADS]
    rows = [[tokenizer.token_to_id(text) for text in PAYLOADS]]
    rows += [[tokenizer.token_to_id(char) for char in _BYTES.pre_tokenize_str(text)[0][0]] for text in PAYLOADS]
    lines = [json.dumps({"token_ids": ids, "source": text[:200]}) for ids, text in zip(rows, texts, strict=True)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "one.jsonl").write_text(json.dumps({"token_ids": [1]}) + "\n")
    names = _nameable()
    chunks = [{"name": "rows", "files": [{"path": "rows.jsonl"}], "format": "jsonl", "rows": len(texts)}]
    chunks[0] |= {"sources": {text: 1 / len(PAYLOADS) for text in PAYLOADS}, "note": everything}
    for text in names:
        files = [{"path": "one.jsonl"}]
        chunks.append({"name": text, "files": files, "format": "jsonl", "rows": 1, "note": text})
    places["token text, source of a row, source of a chunk"] = PAYLOADS
    places["chunk name, chunk note"] = names
    batch = {"first_step": 1, "last_step": 1, "chunks": ["rows"], "kind": "sequential"}
    rest = {"first_step": 2, "last_step": 1 + len(names), "chunks": names, "kind": "sequential"}
    told = {"assumption": everything, "repeats": everything}
    return {"chunks": chunks, "order": [batch | told, rest | told]}


def _metrics(folder: Path, places: dict[str, list[str]]) -> dict[str, Any]:
    names = _nameable()
    columns = [f"c{k}" for k in range(len(names))]
    with (folder / "log.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["step", *columns])
        rows.writerows([step, *(step + k for k in range(len(columns)))] for step in (1, 2, 3))
    series = {
        text: {"column": column, "group": text, "unit": text, "reduction": text, "description": text}
        for column, text in zip(columns, names, strict=True)
    }
    places["series name, group, unit, reduction and description"] = names
    return {"file": "log.csv", "format": "csv", "series": series}


def _configs(texts: list[str]) -> list[dict[str, Any]]:
    code = [{"commit": text, "path": text} | ({} if any(check_link(text, ())) else {"repo": text}) for text in texts]
    values = [{text: text for text in texts}, {text: {text: [text]} for text in texts}]
    first = [{"values": v, "first_step": k} for k, v in enumerate(values, start=1)]
    rest = [{"values": {"k": k}, "first_step": k} for k in range(3, len(texts) + 1)]
    return [entry | {"note": text, "code": c} for entry, text, c in zip([*first, *rest], texts, code, strict=True)]


def _evaluations(folder: Path, places: dict[str, list[str]]) -> list[dict[str, Any]]:
    results = {text: {f"{text},none": 0.5 + k / 1000, "acc,none": 0.5} for k, text in enumerate(PAYLOADS)}
    for step in (1, 2):
        (folder / f"results_step{step}.json").write_text(json.dumps({"results": results, "configs": {}}))
    entry = {"format": "lm-eval", "suite": PAYLOADS[0], "by": PAYLOADS[0]}
    places["evaluation task and metric"] = PAYLOADS
    return [{"file": f"results_step{step}.json"} | entry for step in (1, 2)]


def _publish_titled(engine: Engine, settings: Settings, above: Path, number: int, title: str) -> str:
    run = f"hostile/title-{number:02d}"
    folder = above / f"title-{number:02d}"
    folder.mkdir()
    document = {
        "format": "llm360-portal/release/1",
        "run": run,
        "title": title,
        "license": {"weights": title},
        "model": {"architecture": title},
        "training": {"last_step": 1},
        "parent": {"run": RUN, "step": 1},
        "checkpoints": [{"step": 1, "files": [], "location": f"hf://lab/model@t{number}"}],
    }
    _write(folder, document)
    publish(folder, settings, engine)
    return run


def _write(folder: Path, document: dict[str, Any]) -> None:
    (folder / "release.json").write_text(json.dumps(document))


def _literal(text: str) -> str:
    """A text in which braces stand for themselves, as labels and paths write it."""
    return text.replace("{", "{{").replace("}", "}}")
