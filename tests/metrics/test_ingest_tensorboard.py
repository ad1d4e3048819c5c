"""TensorBoard event files: every scalar dialect, restarts, samples on x, and damage by its byte."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboardX.record_writer import RecordWriter

from portal.errors import DataFault
from portal.manifest.schema import MetricFile
from portal.metrics.ingest import Ingested, read_metric_file

Value = Summary.Value


def write(path: Path, events: list[Event]) -> Path:
    """An event file by TensorBoard's own framing, as an independent writer makes it."""
    writer = RecordWriter(str(path))
    writer.write(Event(file_version="brain.Event:2").SerializeToString())
    for event in events:
        writer.write(event.SerializeToString())
    writer.close()
    return path


def event(step: int, **values: float) -> Event:
    return Event(step=step, summary=Summary(value=[Value(tag=tag, simple_value=v) for tag, v in values.items()]))


def read(path: Path, steps_of: object = None, **spec: object) -> Ingested:
    return read_metric_file(path, MetricFile.model_validate({"file": path.name, **spec}), steps_of)  # type: ignore[arg-type]


def test_scalars_of_both_dialects_are_read_with_nan_and_infinity(tmp_path: Path) -> None:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensors = [
        TensorProto(dtype=1, float_val=[0.5]),
        TensorProto(dtype=2, double_val=[math.nan], tensor_shape=shape),
        TensorProto(dtype=1, tensor_content=struct.pack("<f", 0.25)),
        TensorProto(dtype=9, int64_val=[7]),
        TensorProto(dtype=19, half_val=[int(np.array(1.5, "<f2").view("<u2"))]),
        TensorProto(dtype=1, tensor_content=struct.pack("<ff", 1, 2)),
        TensorProto(dtype=1, float_val=[1, 2], tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=2)])),
        TensorProto(dtype=7, string_val=[b"text"]),
    ]
    events = [Event(step=n, summary=Summary(value=[Value(tag="t", tensor=t)])) for n, t in enumerate(tensors, 1)]
    path = write(tmp_path / "events.out.tfevents.1.host", [event(1, loss=math.nan), event(2, loss=-math.inf), *events])
    result = read(path)
    series = {one.name: one for one in result.series}
    assert repr(series["loss"].values.tolist()) == "[nan, -inf]"
    assert repr(series["t"].values.tolist()) == "[0.5, nan, 0.25, 7.0, 1.5]"
    assert series["t"].steps.tolist() == [1, 2, 3, 4, 5]
    assert [note.code for note in result.notes] == ["summaries-without-scalars"]
    assert result.notes[0].evidence["tags"] == {"t": 3}


def test_a_restart_keeps_the_points_of_both_attempts(tmp_path: Path) -> None:
    events = [event(s, loss=s, lr=s / 10) for s in (1, 2, 3, 2, 3, 4)]
    result = read(write(tmp_path / "a.tfevents.1", events))
    assert result.series[0].steps.tolist() == [1, 2, 2, 3, 3, 4]
    notes = {note.code: note for note in result.notes}
    assert set(notes) == {"unsorted-steps", "duplicate-steps"}
    assert notes["duplicate-steps"].evidence["series"] == {"loss": 2, "lr": 2}


def test_tags_that_count_samples_are_never_put_on_steps(tmp_path: Path) -> None:
    events = [event(s, **{"lm loss": s}) for s in (1, 2)] + [
        event(s * 1024, **{"lm loss vs samples": s}) for s in (1, 2)
    ]
    path = write(tmp_path / "a.tfevents.1", events)
    by_step = read(path)
    assert [one.name for one in by_step.series] == ["lm loss"]
    assert by_step.notes[0].code == "tags-by-other-x"
    assert by_step.notes[0].evidence["tags"] == ["lm loss vs samples"]
    by_samples = read(path, lambda x: x // 1024, x_kind="samples")
    assert [(one.name, one.steps.tolist(), one.x_kind) for one in by_samples.series] == [
        ("lm loss vs samples", [1, 2], "samples")
    ]
    with pytest.raises(DataFault, match="holds no scalar by samples"):
        read(write(tmp_path / "b.tfevents.1", events[:2]), lambda x: x, x_kind="samples")


def test_definitions_name_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfevents.1", [event(1, **{"lm loss": 2.0, "grad-norm": 1.0})])
    result = read(path, series={"loss": {"column": "lm loss", "unit": "nats"}})
    assert [(one.name, one.column, one.unit) for one in result.series] == [("loss", "lm loss", "nats")]
    with pytest.raises(DataFault, match=r"has no tag 'lm los'. Name one of: lm loss, grad-norm"):
        read(path, series={"loss": {"column": "lm los"}})


def test_damage_is_named_with_its_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfevents.1", [event(n, loss=1.0) for n in range(1, 5)])
    whole = path.read_bytes()
    first = struct.unpack_from("<Q", whole)[0] + 16
    cases = [
        (whole[:-3], "the file ends inside a record"),
        (whole[: first + 5], f"byte {first}: the file ends inside a record"),
        (whole[: first + 13] + b"\xff" + whole[first + 14 :], f"byte {first}: the CRC of a record does not match"),
        (whole[:first] + b"\xff" + whole[first + 1 :], f"byte {first}: the CRC of a record's length does not match"),
        (b"", "is empty"),
    ]
    for damaged, says in cases:
        path.write_bytes(damaged)
        with pytest.raises(DataFault, match=says):
            read(path)


def test_records_that_are_no_events_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tfevents.1"
    writer = RecordWriter(str(path))
    writer.write(b"\xff\xff not a message")
    writer.close()
    with pytest.raises(DataFault, match="byte 0: not a TensorBoard event"):
        read(path)
    head = struct.pack("<Q", 1 << 40)
    from portal.metrics.ingest.tensorboard import _masked

    path.write_bytes(head + struct.pack("<I", _masked(head)))
    with pytest.raises(DataFault, match="a record of 1099511627776 bytes"):
        read(path)
