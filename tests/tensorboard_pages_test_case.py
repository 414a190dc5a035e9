"""Layouts that are planted, whose colours and places are known, for the tests of TensorBoard's pages."""

import time

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from keras_an_tensorboard import health, summaries


def planted_view(step):
    """Two black images of 16 x 16 with layouts of 4 x 4 and 3 entities.

    In the first one entity 2 has three quarters of row `step % 4`; else entity 0 has the left, entity 1 the right. In
    the second one entity 1 has all.
    """
    layout = np.zeros((2, 4, 4, 3), np.float32)
    layout[0, :, :2, 0] = layout[0, :, 2:, 1] = layout[1, :, :, 1] = 1.0
    layout[0, step % 4] = (0.15, 0.1, 0.75)
    return health.LayerView(
        name="net/layer",
        features=np.random.default_rng(0).normal(size=(2, 4, 4, 5)).astype(np.float32),
        layout=layout,
        rho=0.5,
        entities=np.eye(3, 5, dtype=np.float32),
        images=np.zeros((2, 16, 16, 3), np.uint8),
        labels=["cat", "dog"],
    )


def write_planted(folder, steps):
    """Writes the events of a run with one layer."""
    writer, report = EventFileWriter(str(folder)), health.HealthReport()
    for step in steps:
        summary, _ = summaries.of_layers([planted_view(step)], "attention/", report)
        if step == steps[0]:
            charts = summaries.charts({"Layers": {"Entropy": ["^attention/.*/layout_entropy$"]}})
            summary = summary_pb2.Summary(value=[*summary.value, *charts])
        writer.add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))
    writer.close()
