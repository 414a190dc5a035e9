"""The checkpoints of a run: what is saved is finite, and what is restored is whole."""

import contextlib
import math
import os
import re
import shutil
import tempfile

import tensorflow as tf
from absl import logging

from trainers.configs import other_keras
from trainers.optimizers import variables_of

# What TensorFlow raises where another worker, or a TPU, does not answer.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)


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
        """Of the checkpoints that there are, by step."""
        # What files there are, not the state file beside them: that may be damaged too.
        matches = (re.fullmatch(r"(ckpt-\d+)\.index", name) for name in _names(self._model_dir))
        return sorted((os.path.join(self._model_dir, match[1]) for match in matches if match), key=_step_of)

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
        try:
            self._write(step)
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError):  # of other workers
            raise
        except (OSError, tf.errors.OpError) as error:
            paths = self.paths
            raise WriteError(
                f"The checkpoint of step {step} cannot be written: {error}. "
                f"{f'{paths[-1]} is whole' if paths else 'There is none from before'}."
            ) from error

    def _write(self, step):
        if not self._is_chief:
            # What replicas hold apart, as Keras 2's batch norm does, is brought together when it is saved.
            with tempfile.TemporaryDirectory() as folder:
                self._checkpoint.write(os.path.join(folder, "checkpoint"))
            return
        later = [path for path in self.paths if _step_of(path) > step]  # damaged, or of a run that went back
        if self._manager is None or later:
            self._remove_parts()  # of an earlier start that was stopped in the middle of a checkpoint
            self._tell_state([path for path in self.paths if path not in later])
            self._manager = tf.train.CheckpointManager(self._checkpoint, self._model_dir, self._max_to_keep)
        try:
            self._manager.save(checkpoint_number=step)
        except (OSError, tf.errors.OpError):
            with contextlib.suppress(OSError):
                self._remove_parts()
            raise
        for file in (file for path in later for file in tf.io.gfile.glob(path + ".*")):
            os.remove(file)

    def restore(self, before=math.inf):
        """Restores the newest checkpoint that is whole.

        Args:
            before: step; checkpoints of this one and of later ones are passed over.

        Returns:
            Its path, or None where there is none.

        Raises:
            ValueError: where there are checkpoints and none can be read, or they are of another configuration.
        """
        problem = None
        for path in reversed([path for path in self.paths if _step_of(path) < before]):
            try:
                with other_keras.for_this_keras(path, self._checkpoint) as own:
                    self._checkpoint.restore(own).assert_consumed()
            except (tf.errors.OpError, IndexError, RuntimeError) as error:  # the latter two where its graph is cut off
                problem = f"{path} cannot be read: {error}"
                logging.warning("%s. The one before is taken.", problem)
            except AssertionError as error:
                raise ValueError(
                    f"{path} is not of this configuration: `runtime.mixed_precision_dtype` to or from float16, and "
                    f"`decay_steps` of an optimizer to or from 0, cannot change in a run. {str(error).splitlines()[0]}"
                ) from error
            else:
                logging.info("Restored %s", path)
                return path
        if problem:
            raise ValueError(f"No checkpoint in {self._model_dir} is whole. {problem}")
        return None

    def _tell_state(self, paths):
        """Writes the state file, from which TensorFlow's tools and the manager know what there is."""
        if paths:
            times = [os.path.getmtime(path + ".index") for path in paths]
            tf.compat.v1.train.update_checkpoint_state(
                self._model_dir,
                paths[-1],
                paths,
                all_model_checkpoint_timestamps=times,
                last_preserved_timestamp=times[0] - 1.0,
            )

    def _remove_parts(self):
        """Removes what was left of checkpoints that were never finished."""
        known = {os.path.basename(path) for path in self.paths}
        for name in _names(self._model_dir):
            match = re.fullmatch(r"(ckpt-\d+)(_temp|\.data-.*|\.index\.tempstate\d+|\.data-.*\.tempstate\d+)", name)
            if match and (match[1] not in known or "temp" in match[2]):
                path = os.path.join(self._model_dir, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def _step_of(path):
    return int(path.rsplit("-", 1)[1])


def _names(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []


def _are_finite(variables):
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(variable))) for variable in variables])


def _floating_variables(checkpoint):
    found = {}
    for item in vars(checkpoint).values():
        for variable in [item] if isinstance(item, tf.Variable) else variables_of(item):
            if tf.as_dtype(variable.dtype).is_floating:
                found[id(variable)] = variable
    return list(found.values())
