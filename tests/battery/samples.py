"""One sound file for every reader and importer, and how it is read: what the battery damages."""

from __future__ import annotations

import io
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from portal.exchange.importers import import_layout
from portal.manifest import checkpoints_of, chunks_of, orders_of, read_manifest, stages_of
from portal.manifest.schema import EvaluationFile, MetricFile
from portal.metrics.ingest import read_evaluation_file, read_metric_file
from portal.storage import LocalStore
from portal.tensors import read_header, read_index
from portal.tokens.decode import open_decoder
from portal.tokens.readers import ReadableFile, open_order_file
from portal.tokens.readers.rows import RowFault
from tests.builders import SMALL, byte_tokenizer
from tests.exchange.test_import_llm360 import k2_order
from tests.exchange.test_import_pythia import CONFIG as PYTHIA_CONFIG
from tests.metrics.test_ingest_tensorboard import event
from tests.metrics.test_ingest_tensorboard import write as write_events
from tests.tokens.chunks_on_disk import VARIANTS
from tests.tokens.chunks_on_disk import write as write_chunk

JSON_WORDS = (b"null", b"NaN", b"1e999", b"-1", b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\ud800", b"18446744073709551616",
              b"true", b"\x00", b'{"a":' * 50, b"[" * 300, b"\xff\xfe", b"\n", b"1" * 500)  # fmt: skip
YAML_WORDS = (*JSON_WORDS, b"&a ", b"*a", b"<<: *a", b"!!python/object/apply:os.system", b"!!binary ", b"? ", b"- ", b"|", b">",
              b"%YAML 9.9", b"---", b"2024-13-45", b".nan", b"0o9", b"\t", b"!!set {a, b}", b"!!timestamp x")  # fmt: skip
CSV_WORDS = (
    b",",
    b'"',
    b'""',
    b"\n",
    b"\r",
    b"NaN",
    b"inf",
    b"-1",
    b"1e999",
    b"\x00",
    b";",
    b"\t",
    b"Step",
    b"step",
    b"\xff",
    b"=1+1",
)
BYTES = (
    b"\xff" * 8,
    b"\x00" * 8,
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"PAR1",
    b"MMIDIDX\x00\x00",
    b"\x93NUMPY",
    b"\x89HDF\r\n",
)

Read = Callable[[Path, bytes], Any]


@dataclass(frozen=True)
class Sample:
    """A file of one kind."""

    name: str
    make: Callable[[Path], bytes]
    """Writes what lies around it into the folder, and gives its bytes."""
    read: Read
    """Reads the bytes in that folder to the end."""
    words: tuple[bytes, ...] = BYTES
    """What may be written into it besides noise."""


def _manifest(_folder: Path, text: bytes) -> None:
    manifest = read_manifest(text, "release.yaml")
    for expanded in (checkpoints_of, chunks_of, orders_of, stages_of):
        expanded(manifest)


def _json_manifest(_folder: Path, text: bytes) -> None:
    read_manifest(text, "release.json")


def _chunk(variant: str, which: int) -> Sample:
    rows = [[(7 * k + j) % 250 for j in range(4)] for k in range(9)]

    def make(folder: Path) -> bytes:
        return write_chunk(variant, folder, rows).paths[which].read_bytes()

    def read(folder: Path, damaged: bytes) -> None:
        written = write_chunk(variant, folder, rows)
        written.paths[which].write_bytes(damaged)
        shutil.rmtree(written.indexes, ignore_errors=True)
        reader = written.open(vocabulary=250)
        try:
            reader.check()
            found = reader.read([0, reader.rows - 1, reader.rows // 2, *range(min(reader.rows, 20))])
            assert all(isinstance(row, RowFault) or max(row.token_ids, default=0) < 250 for row in found)
        finally:
            reader.close()

    words = JSON_WORDS if variant == "jsonl" else BYTES
    return Sample(f"{variant} {which}", make, read, words)


def _metrics(kind: str, sound: Callable[[Path], bytes], words: tuple[bytes, ...], **spec: Any) -> Sample:
    ending = {"tensorboard": "tfevents.1", "wandb-csv": "csv"}.get(kind, kind)

    def read(folder: Path, damaged: bytes) -> None:
        path = folder / f"log.{ending}"
        path.write_bytes(damaged)
        read_metric_file(path, MetricFile.model_validate({"file": path.name, "format": kind, **spec}))

    return Sample(f"metrics {kind}", sound, read, words)


def _jsonl_log(_folder: Path) -> bytes:
    return b"".join(json.dumps({"step": s, "loss": 4 / s, "lr": 0.1}).encode() + b"\n" for s in range(1, 30))


def _csv_log(_folder: Path) -> bytes:
    return b"step,loss,lr\n" + b"".join(f"{s},{4 / s},0.1\n".encode() for s in range(1, 30))


def _wandb_log(_folder: Path) -> bytes:
    group = "Group: tiny - train/lm_loss"
    lines = [["Step", group, f"{group}__MIN", f"{group}__MAX"], *([str(s), "2.5", "2.5", "2.5"] for s in range(1, 30))]
    return "\n".join(",".join(f'"{cell}"' for cell in line) for line in lines).encode() + b"\n"


def _parquet_log(_folder: Path) -> bytes:
    held = io.BytesIO()
    pq.write_table(pa.table({"step": list(range(30)), "loss": [1.5] * 30}), held)
    return held.getvalue()


def _tensorboard_log(folder: Path) -> bytes:
    return write_events(folder / "made.tfevents", [event(s, loss=4 / s) for s in range(1, 30)]).read_bytes()


def _evaluation(_folder: Path) -> bytes:
    result = {"acc,none": 0.25, "acc_stderr,none": 0.01, "alias": "arc"}
    return json.dumps(
        {"results": {"arc": result}, "versions": {"arc": 1}, "config": {"model_args": "revision=step5"}}
    ).encode()


def _read_evaluation(folder: Path, damaged: bytes) -> None:
    (folder / "step5.json").write_bytes(damaged)
    read_evaluation_file(folder / "step5.json", EvaluationFile(file="step5.json"), "step5.json")


def _safetensors(_folder: Path) -> bytes:
    tensors = {
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(24)


def _read_safetensors(_folder: Path, damaged: bytes) -> None:
    read_header(lambda offset, length: damaged[offset : offset + length], len(damaged), "model.safetensors")


def _shard_index(_folder: Path) -> bytes:
    return json.dumps(
        {"metadata": {"total_size": 1}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    ).encode()


def _read_shard_index(_folder: Path, damaged: bytes) -> None:
    index = read_index(
        lambda offset, length: damaged[offset : offset + length], len(damaged), "model.safetensors.index.json"
    )
    index.compare({"a": "m-1.safetensors"})


def _order_file(folder: Path) -> bytes:
    np.save(folder / "made.npy", np.arange(100, dtype="<u4"))
    return (folder / "made.npy").read_bytes()


def _read_order_file(folder: Path, damaged: bytes) -> None:
    path = folder / "order.npy"
    path.write_bytes(damaged)
    document = {
        "format": "llm360-portal/release/1", "run": "a/b", "training": {"last_step": 9},
        "data": {"chunks": [{"name": "c", "files": [{"path": "c.bin"}], "format": "flat", "dtype": "u16"}],
                 "order": [{"first_step": 1, "last_step": 9, "chunks": ["c"], "kind": "index", "file": {"path": "order.npy"}}]},
    }  # fmt: skip
    entry = orders_of(read_manifest(json.dumps(document).encode(), "x.json"))[0]
    opened = open_order_file(entry, ReadableFile("order.npy", path.as_uri(), None, None, LocalStore()))
    try:
        opened(0, 50)
        opened(opened.entries - 5, 10)
    finally:
        opened.close()


def _tokenizer(_folder: Path) -> bytes:
    return byte_tokenizer().to_str().encode()


def _read_tokenizer(_folder: Path, damaged: bytes) -> None:
    decoder = open_decoder(damaged)
    decoder.read(np.array([0, 5, 257, 300]))


def _importer(layout: str, name: str, make: Callable[[Path], bytes], run: str | None = None) -> Sample:
    def read(folder: Path, damaged: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(damaged)
        import_layout(layout, folder, run)

    return Sample(
        f"import {layout} {name.rpartition('/')[2]}", make, read, CSV_WORDS if name.endswith("csv") else YAML_WORDS
    )


def _olmo_list(_folder: Path) -> bytes:
    base = "https://olmo-checkpoints.org/ai2-llm/peteish7"
    return "\n".join(
        ["Step,Checkpoint Directory", *(f"{s},{base}/step{s}-unsharded/" for s in (0, 150, 1000, 2000, 3000))]
    ).encode()


def _olmo_config(folder: Path) -> bytes:
    (folder / "OLMo-2-1124-7B.csv").write_bytes(_olmo_list(folder))
    paths = [f"http://olmo-data.org/preprocessed/pes2o/allenai/dolma2-tokenizer/part-0{k}-00000.npy" for k in range(3)]
    document = {"seed": 6198, "model": {"max_sequence_length": 4096, "vocab_size": 100_278}, "global_train_batch_size": 1024,
                "data": {"memmap_dtype": "uint32", "paths": paths}}  # fmt: skip
    return yaml.safe_dump(document).encode()


def _pythia_result(folder: Path) -> bytes:
    path = folder / "models/70M/pythia-70m.yml"
    path.parent.mkdir(parents=True)
    path.write_text(PYTHIA_CONFIG)
    arguments = "pretrained=EleutherAI/pythia-v1.1-70m,revision=step1000"
    return json.dumps(
        {
            "results": {"piqa": {"acc": 0.5, "acc_stderr": 0.1}},
            "versions": {"piqa": 0},
            "config": {"model_args": arguments},
        }
    ).encode()


SAMPLES = (
    Sample("manifest yaml", lambda _: yaml.safe_dump(SMALL | {"run": "lab/small"}).encode(), _manifest, YAML_WORDS),
    Sample("manifest json", lambda _: json.dumps(SMALL | {"run": "lab/small"}).encode(), _json_manifest, JSON_WORDS),
    *(_chunk(variant, 0) for variant in VARIANTS),
    _chunk("megatron", 1),
    _metrics("jsonl", _jsonl_log, JSON_WORDS),
    _metrics("csv", _csv_log, CSV_WORDS),
    _metrics("wandb-csv", _wandb_log, CSV_WORDS, x="Step"),
    _metrics("parquet", _parquet_log, BYTES),
    _metrics("tensorboard", _tensorboard_log, BYTES),
    Sample("lm-eval", _evaluation, _read_evaluation, JSON_WORDS),
    Sample("safetensors", _safetensors, _read_safetensors, (*JSON_WORDS, *BYTES)),
    Sample("shard index", _shard_index, _read_shard_index, JSON_WORDS),
    Sample("order file", _order_file, _read_order_file, BYTES),
    Sample("tokenizer", _tokenizer, _read_tokenizer, JSON_WORDS),
    _importer("llm360", "derived/chunk_order.json", lambda _: json.dumps({"chunk_at_position": k2_order()}).encode(), "llm360/k2-65b"),
    _importer("olmo", "OLMo-2-1124-7B.csv", _olmo_list, "allenai/olmo-2-1124-7b"),
    _importer("olmo", "OLMo2-7B-stage1.yaml", _olmo_config, "allenai/olmo-2-1124-7b"),
    _importer("pythia", "models/70M/pythia-70m.yml", lambda _: PYTHIA_CONFIG.encode(), "eleutherai/pythia-70m"),
    _importer("pythia", "evals/pythia-v1/pythia-70m/zero-shot/70m_step1000.json", _pythia_result, "eleutherai/pythia-70m"),
)  # fmt: skip
"""Every reader, and every importer that reads files."""
