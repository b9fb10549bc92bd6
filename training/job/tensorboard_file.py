"""The curve of a training as TensorBoard reads it: one event file, made when training is over."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def event_file(curve: Sequence[Mapping[str, Any]], *, began: float) -> bytes:
    """The numbers of each step as scalars; `began` is in seconds since 1970.

    tensorboardX is asked for the file's form alone: its writer would have a thread, and put the
    machine's name into the file's. Raises ModuleNotFoundError where it is not installed.
    """
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter

    with tempfile.TemporaryDirectory(prefix="tensorboard-") as folder:
        path = Path(folder) / "events"
        records = RecordWriter(str(path))
        try:
            version = Event(wall_time=began, file_version="brain.Event:2")
            records.write(version.SerializeToString())
            for point in curve:
                scalars = [
                    Summary.Value(tag=name, simple_value=float(value))
                    for name, value in point.items()
                    if name != "step"
                ]
                event = Event(
                    wall_time=began + float(point.get("seconds", 0.0)),
                    step=int(point["step"]),
                    summary=Summary(value=scalars),
                )
                records.write(event.SerializeToString())
        finally:
            records.close()
        return path.read_bytes()
