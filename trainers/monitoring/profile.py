"""TensorBoard's profile of some steps of a run."""

import os

import tensorflow as tf


class Profile:
    """Writes the profile of some steps to `<model_dir>/train`; a context, at whose end it is written at the latest.

    Args:
        model_dir: the run's folder.
        steps: the first and the last, or None for no profile.
    """

    def __init__(self, model_dir, steps):
        self._folder = os.path.join(model_dir, "train")
        self._steps = steps
        self._is_on = False

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._stop()

    def at(self, step):
        """Begins or ends the profile where a step asks for it."""
        if not self._steps:
            return
        first, last = self._steps
        if self._is_on and step >= last:
            self._stop()
        elif not self._is_on and step == first:
            tf.profiler.experimental.start(self._folder)
            self._is_on = True

    def _stop(self):
        if self._is_on:
            tf.profiler.experimental.stop()
            self._is_on = False
