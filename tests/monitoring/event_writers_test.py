"""The files of events: read in their order also where the clock went back between two starts."""

import os
import time

import tensorflow as tf
from tensorboard.backend.event_processing import plugin_event_accumulator

from trainers.monitoring.event_writers import EventWriters


def write(folder, *steps):
    """A start that goes on before the first of the steps."""
    writers = EventWriters(str(folder))
    writers.go_on_from(steps[0] - 1)
    with writers.get("train").as_default():
        for step in steps:
            tf.summary.scalar("loss", float(step), step=step)
    writers.close()


def shown(folder):
    """The steps that TensorBoard shows."""
    events = plugin_event_accumulator.EventAccumulator(str(folder / "train"))
    events.Reload()
    return [event.step for event in events.Tensors("loss")]


def let_clock_be_ahead(folder, hours):
    """As if the files had been written by a clock that was ahead."""
    for path in sorted((folder / "train").iterdir()):
        first, seconds, rest = path.name.rsplit("tfevents.", 1)[0], *path.name.rsplit("tfevents.", 1)[1].split(".", 1)
        if int(seconds) > time.time() - 60:
            path.rename(path.with_name(f"{first}tfevents.{int(seconds) + 3600 * hours}.{rest}"))


def test_clock_that_went_back_leaves_the_steps_in_order(tmp_path):
    write(tmp_path, 1, 2, 3, 4)  # and was killed after a checkpoint of step 2
    let_clock_be_ahead(tmp_path, 5)
    write(tmp_path, 3, 4, 5, 6)
    assert shown(tmp_path) == [1, 2, 3, 4, 5, 6]
    let_clock_be_ahead(tmp_path, 3)
    write(tmp_path, 5, 6)
    assert shown(tmp_path) == [1, 2, 3, 4, 5, 6] and len(os.listdir(tmp_path / "train")) == 3


def test_other_files_and_older_ones_keep_their_names(tmp_path):
    (tmp_path / "train").mkdir()
    names = ["events.out.tfevents.1700000000.host.1.0.v2", "notes.9999999999.txt"]
    for name in names:
        (tmp_path / "train" / name).write_bytes(b"")
    write(tmp_path, 1)
    assert set(names) < set(os.listdir(tmp_path / "train"))
