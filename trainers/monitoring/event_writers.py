"""What writes the events of a run, and has TensorBoard forget those of a way that the run went back from."""

import os
import re
import time

import tensorflow as tf
from tensorboard.compat.proto import summary_pb2

_NAMES = ("train", "validation")


class EventWriters:
    """A writer for `train` and one for `validation`, each of one file, so that TensorBoard reads events in order.

    Args:
        model_dir: the run's folder.
        is_chief: whether anything is written.
    """

    def __init__(self, model_dir, is_chief=True):
        self._model_dir = model_dir
        self._is_chief = is_chief
        self._writers = {}

    def get(self, name):
        """The writer of a name, whose file is made now where it is new."""
        if not self._is_chief:
            return tf.summary.create_noop_writer()
        if name not in self._writers:
            folder = os.path.join(self._model_dir, name)
            _date_back(folder, int(time.time()))
            self._writers[name] = tf.summary.create_file_writer(folder)
        return self._writers[name]

    def write(self, name, values, step):
        """Writes summaries, a sequence of `Summary.Value` of tensorboard, by the writer of a name."""
        if self._is_chief:
            summary = summary_pb2.Summary(value=values)
            with self.get(name).as_default():
                tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)

    def go_on_from(self, step):
        """Has TensorBoard drop what a run that was killed, or went back, had written beyond a step, or at step 0."""
        for name in _NAMES:
            folder = os.path.join(self._model_dir, name)
            has_events = os.path.isdir(folder) and any(".tfevents." in file for file in os.listdir(folder))
            if self._is_chief and has_events:
                purge(self.get(name), step + 1 if step else 0)

    def close(self):
        """Writes what is left."""
        for writer in self._writers.values():
            writer.close()


def purge(writer, step):
    """Has TensorBoard drop what was written before now for a step or later ones.

    It is `purge_step` of TensorFlow 1, which TensorFlow 2 does not offer.

    Args:
        writer: of `tf.summary.create_file_writer`, in eager execution.
        step: integer.
    """
    log = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    event = tf.compat.v1.Event(step=step, session_log=log)
    # TensorBoard takes the first that it meets in a folder for the beginning of all.
    for _ in range(2):
        tf.raw_ops.ImportEvent(writer=writer._resource, event=event.SerializeToString())


def _date_back(folder, now):
    """Renames what a clock that was ahead has written: TensorBoard reads files in the order of times in their names.

    Args:
        folder: which need not be there.
        now: seconds since 1970.
    """
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found = [re.fullmatch(r"(events\.out\.tfevents\.)(\d+)\.(.*)", name) for name in names]
    for index, match in enumerate(match for match in found if match and int(match[2]) >= now):
        os.replace(os.path.join(folder, match[0]), os.path.join(folder, f"{match[1]}{now - 1}.{index:04}-{match[3]}"))
