"""The checkpoints of a run: what is saved is finite, and what is restored is whole."""

import os
import shutil
import tempfile

import tensorflow as tf
from absl import logging


class NotFiniteError(ArithmeticError):
    """A weight or a loss is not finite, or a loss is out of bounds."""


class WriteError(OSError):
    """A checkpoint cannot be written; the message says why, and which one is the last."""


class Checkpoints:
    """Saves and restores by step.

    Args:
        items: what is saved, by name, for `tf.train.Checkpoint`.
        model_dir: the run's folder.
        max_to_keep: integer, the newest checkpoints that are kept.
        is_chief: whether this process writes.
    """

    def __init__(self, items, model_dir, max_to_keep, is_chief=True):
        self._checkpoint = tf.train.Checkpoint(**items)
        self._model_dir = model_dir
        self._max_to_keep = max_to_keep
        self._is_chief = is_chief
        self._manager = None
        self._are_finite = tf.function(_are_finite, autograph=False)

    @property
    def paths(self):
        """Of the checkpoints that there are, the newest last."""
        state = tf.train.get_checkpoint_state(self._model_dir)
        paths = list(state.all_model_checkpoint_paths) if state else []
        return [path for path in paths if os.path.exists(path + ".index")]

    def save(self, step):
        """Saves everything as the checkpoint of a step, in the chief's folder; all workers call this.

        Raises:
            NotFiniteError: where a weight is not finite; nothing is written then.
            WriteError: where the file system does not take it; the checkpoints from before are whole.
        """
        variables = _floating_variables(self._checkpoint)
        if not bool(self._are_finite(variables)):
            names = [variable.name for variable in variables if not bool(_are_finite([variable]))]
            raise NotFiniteError(f"{len(names)} weights are not finite, {', '.join(names[:4])} among them")
        if not self._is_chief:
            # What replicas hold apart, as Keras 2's batch norm does, is brought together when it is saved.
            with tempfile.TemporaryDirectory() as folder:
                self._checkpoint.write(os.path.join(folder, "checkpoint"))
            return
        if self._manager is None:
            # It makes the folder; and an earlier start may have been stopped in the middle of a checkpoint.
            self._manager = tf.train.CheckpointManager(self._checkpoint, self._model_dir, self._max_to_keep)
            self._remove_parts()
        try:
            self._manager.save(checkpoint_number=step)
        except (OSError, tf.errors.OpError) as error:
            self._remove_parts()
            paths = self.paths
            raise WriteError(
                f"The checkpoint of step {step} cannot be written: {error}. "
                f"{f'{paths[-1]} is whole' if paths else 'There is none from before'}."
            ) from error

    def restore(self, back=0):
        """Restores the newest checkpoint that is whole.

        Args:
            back: integer, whole checkpoints to pass over.

        Returns:
            Its path, or None where there is none.

        Raises:
            ValueError: where there are checkpoints and none can be read.
        """
        paths, problem = self.paths, None
        for path in reversed(paths[: len(paths) - back] or paths[:1]):
            try:
                self._checkpoint.restore(path).assert_consumed()
            except (tf.errors.OpError, IndexError, RuntimeError) as error:  # the latter two where its graph is cut off
                problem = f"{path} cannot be read: {error}"
                logging.warning("%s. The one before is taken.", problem)
            else:
                logging.info("Restored %s", path)
                return path
        if problem:
            raise ValueError(f"No checkpoint in {self._model_dir} is whole. {problem}")
        return None

    def _remove_parts(self):
        """Removes what was left of checkpoints that were never finished."""
        known = {os.path.basename(path) for path in self.paths}
        for path in tf.io.gfile.glob(os.path.join(self._model_dir, "ckpt-*")):
            if os.path.basename(path).split(".")[0] not in known:
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def _are_finite(variables):
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(variable))) for variable in variables])


def _floating_variables(checkpoint):
    found = {}
    for item in vars(checkpoint).values():
        variables = [item] if isinstance(item, tf.Variable) else getattr(item, "variables", ())
        for variable in variables() if callable(variables) else variables:
            if tf.as_dtype(variable.dtype).is_floating:
                found[id(variable)] = variable
    return list(found.values())
