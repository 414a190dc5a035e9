"""The evaluations of a run: what they leave, and what becomes of those that fail."""

import os
import time

from absl import logging

from keras_an_tensorboard import summaries
from trainers.monitoring import tags
from trainers.monitoring.pictures import write_png
from trainers.monitoring.run_summaries import has_pictures, hyperparameters

_POLL_SECONDS = 1.0


class Validation:
    """Evaluates, and writes scores and pictures to `<model_dir>/validation`, the pictures also to PNG files.

    Args:
        evaluator: as `loop.TrainingLoop` takes it.
        params: `schema.ExperimentConfig`.
        model_dir: the run's folder.
        writers: `EventWriters`.
        best: `BestCheckpoint`.
        fatal: kinds of errors that end the training: of other workers.

    Attributes:
        failures: what went wrong, by step.
        seconds: that evaluations took.
    """

    def __init__(self, evaluator, params, model_dir, writers, best, fatal=()):
        self._evaluator = evaluator
        self._params = params
        self._model_dir = model_dir
        self._writers = writers
        self._best = best
        self._fatal = fatal
        self._scores = None
        self.failures = {}
        self.seconds = 0.0

    def scores_at(self, step):
        """The scores of a step, floats by name with the step itself as `step`, or None where there are none yet."""
        return self._scores if self._scores and self._scores["step"] == step else None

    def evaluate(self, step):
        """Evaluates what the networks are now, at a step."""
        begin = time.perf_counter()
        try:
            scores, pictures = self._evaluator.evaluate(), self._evaluator.pictures()
            found = list(hyperparameters(self._params, self._model_dir))
            for name, value in scores.items():
                found += summaries.scalar(f"{tags.SCORES}/{name}", value, tags.SCORE_DESCRIPTION)
            config = self._params.trainer
            is_shown = step == config.train_steps or has_pictures(step // config.validation_interval)
            for name, picture in pictures.items():
                found += summaries.picture(name, picture) if is_shown else []
                write_png(os.path.join(self._model_dir, f"{name}.png"), picture)
            self._writers.write("validation", found, step)
            values = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
            logging.info("Step %d, %s: %s", step, self._evaluator.made_of, values)
            self._best.keep(step, scores)
        finally:
            self.seconds += time.perf_counter() - begin
        self.failures.pop(step, None)
        self._scores = {"step": step, **scores}

    def try_to_evaluate(self, step):
        """As `evaluate`, but counts and logs what goes wrong instead of raising it."""
        try:
            self.evaluate(step)
        except self._fatal:
            raise
        except Exception as error:  # whatever it is, training is worth more
            self.failures[step] = f"{type(error).__name__}: {error}"
            logging.exception("The evaluation of step %d failed, and is left out.", step)

    def follow(self, checkpoints, restore, config):
        """Evaluates the newest checkpoint whenever another process has written one, up to that of the last step.

        Args:
            checkpoints: `Checkpoints`.
            restore: function that restores the newest checkpoint and returns its step, or None where there is none.
            config: `schema.TrainerConfig`.

        Raises:
            ValueError: as `Checkpoints.restore`.
        """
        evaluated, begin = None, time.monotonic()
        while evaluated is None or evaluated < config.train_steps:
            newest = checkpoints.paths[-1:]
            try:
                step = restore() if newest and not newest[0].endswith(f"ckpt-{evaluated}") else None
            except ValueError:
                if checkpoints.paths[-1:] == newest:
                    raise
                continue  # it was removed, since there is a newer one
            if step not in (None, evaluated):
                self.try_to_evaluate(step)
                evaluated, begin = step, time.monotonic()
            elif time.monotonic() - begin > config.continuous_eval_timeout:
                logging.info("No new checkpoint for `trainer.continuous_eval_timeout` seconds.")
                return
            else:
                time.sleep(_POLL_SECONDS)
