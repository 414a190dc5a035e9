"""The training of the classifier: what is seen of it, and where it goes on after it was stopped."""

import datetime
import os
import shutil
import time

import tensorflow as tf
from absl import logging

from keras_an.backend import keras

PART_FOLDER = "classifier_part"
_SAVE_SECONDS, _TELL_SECONDS = 30.0, 10.0


class ClassifierTraining(keras.callbacks.Callback):
    """Fits a compiled model from where an earlier start was stopped, with checkpoints and lines in the log on the way.

    A checkpoint is written every 30 seconds to `classifier_part` in the run's folder.

    Args:
        model: compiled `keras.Model`.
        model_dir: the run's folder.
        steps_per_epoch: integer.
        epochs: integer.
    """

    def __init__(self, model, model_dir, steps_per_epoch, epochs):
        super().__init__()
        self._fitted = model
        self._folder = os.path.join(model_dir, PART_FOLDER)
        self._steps_per_epoch, self._epochs = steps_per_epoch, epochs
        model.optimizer.build(model.trainable_variables)
        # Keras 3 does not track the states of random layers.
        variables = list(model.variables)
        self._checkpoint = tf.train.Checkpoint(model=model, variables=variables, optimizer=model.optimizer)
        self._manager = None

    @property
    def _step(self):
        return int(tf.convert_to_tensor(self._fitted.optimizer.iterations))

    def run(self, make_batches):
        """Fits the model.

        Args:
            make_batches: function from a number of batches to leave out to the training data, without end.
        """
        self._restore()
        steps, first = self._steps_per_epoch, self._step
        self._first, self._begin = first, time.monotonic()
        self._saved = self._told = self._begin
        epoch, within = divmod(first, steps)
        parts = [(first, steps - within, epoch, epoch + 1)] if within else []
        epoch += bool(within)
        if epoch < self._epochs:
            parts.append((epoch * steps, steps, epoch, self._epochs))
        for start, steps, epoch, end in parts:
            self._fitted.fit(
                make_batches(start),
                steps_per_epoch=steps,
                epochs=end,
                initial_epoch=epoch,
                verbose=0,
                shuffle=False,
                callbacks=[self],
            )

    def remove(self):
        """Removes the checkpoints, once the weights are where they belong."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def on_train_batch_end(self, batch, logs=None):
        """Saves and tells where it is time."""
        del batch
        now = time.monotonic()
        if now - self._saved >= _SAVE_SECONDS:
            self._saved = now
            self._save()
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            step, last = self._step, self._steps_per_epoch * self._epochs
            left = (last - step) * (now - self._begin) / max(step - self._first, 1)
            logging.info(
                "Classifier: step %d of %d, loss %.3f, ETA %s",
                step,
                last,
                (logs or {}).get("loss", float("nan")),
                datetime.timedelta(seconds=round(left)),
            )

    def _save(self):
        try:
            self._manager = self._manager or tf.train.CheckpointManager(self._checkpoint, self._folder, max_to_keep=1)
            self._manager.save(self._step)
        except (OSError, tf.errors.OpError) as error:  # an evaluation beside this one is done, or the disk is full
            logging.warning("The classifier is not saved at step %d: %s", self._step, str(error).splitlines()[0])

    def _restore(self):
        path = tf.train.latest_checkpoint(self._folder)
        if not path:
            return
        try:
            self._checkpoint.restore(path).assert_existing_objects_matched()
        except (ValueError, AssertionError, IndexError, RuntimeError, tf.errors.OpError) as error:
            raise ValueError(
                f"{path} is no checkpoint of this classifier: {error}. Remove {self._folder}, to begin anew."
            ) from error
        logging.info("The classifier goes on from step %d.", self._step)
