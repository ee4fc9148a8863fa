#!/usr/bin/env python3
"""Writes events.tfevents: what PyPI tensorboard makes of the events in tests/lab/train/tensorboard_test.cpp.

    pip install tensorboard && python tests/golden/lab/make_events.py
"""
import pathlib

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1700000000.25


def scalars(step, *values):
    summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in values])
    return event_pb2.Event(wall_time=TIME, step=step, summary=summary)


events = [
    event_pb2.Event(wall_time=TIME, file_version="brain.Event:2"),
    event_pb2.Event(wall_time=TIME, step=301, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)),
    scalars(1, ("train/loss_nats_per_token", 5.5)),
    scalars(300, ("train/loss_nats_per_token", 2.25), ("train/learning_rate", 1e-3), ("held_out/bits_per_byte", 1.7)),
    scalars(1_000_000_007, ("train/gradient_norm", float("inf"))),
]
with open(pathlib.Path(__file__).parent / "events.tfevents", "wb") as out:
    writer = RecordWriter(out)
    for event in events:
        writer.write(event.SerializeToString())
