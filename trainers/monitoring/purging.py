"""What TensorBoard forgets when a run goes back: `purge_step` of TensorFlow 1, which TensorFlow 2 does not offer."""

import os

import tensorflow as tf


def purge(writer, step):
    """Has TensorBoard drop what was written before now for a step or later ones.

    Args:
        writer: of `tf.summary.create_file_writer`, in eager execution.
        step: integer.
    """
    log = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    event = tf.compat.v1.Event(step=step, session_log=log)
    # TensorBoard takes the first that it meets in a folder for the beginning of all.
    for _ in range(2):
        tf.raw_ops.ImportEvent(writer=writer._resource, event=event.SerializeToString())


def has_events(folder):
    """Whether there are events in a folder."""
    return os.path.isdir(folder) and any(".tfevents." in name for name in os.listdir(folder))
