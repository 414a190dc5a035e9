"""The outer loop that the trainers share: steps, checkpoints, summaries, evaluation, progress, and what goes wrong."""

import contextlib
import math
import os
import time

import tensorflow as tf
from absl import logging

from trainers import configs
from trainers.monitoring.pictures import write_png
from trainers.monitoring.purging import has_events, purge
from trainers.training.checkpoints import Checkpoints, NotFiniteError
from trainers.training.progress import Progress
from trainers.training.run_lock import RunLock
from trainers.training.stop_signals import StopSignals
from trainers.training.trainer import integer
from trainers.training.workers import Workers


class PreemptedError(Exception):
    """The run was asked to stop, and is saved."""


class TrainingLoop:
    """Runs a trainer up to `trainer.train_steps`, from its last checkpoint where there is one.

    Args:
        trainer: an object with `strategy`, `step`, `skipped_batches`, `batches_before(step)`, `images_per_step`,
            `phase_ends`, `describe()`, `checkpoint_items()`, `set_learning_rates()` and `train(iterator, num_steps)`.
        make_evaluator: function that makes an object with `scalars()` for every summary, and `evaluate()`,
            `table(scores)`, `pictures()` and `made_of`, what the scores are made of, for a validation. The chief calls
            it, now: what cannot be evaluated is refused before any training.
        make_dataset: function from a number of batches to leave out to the distributed training data.
        params: `schema.ExperimentConfig`.
        model_dir: the run's folder.
        profile_steps: the first and the last of the steps that TensorBoard's profile shows, or None.
        class_names: of the training data, for the run's folder, or None.

    Attributes:
        lock: `RunLock` of the folder; the chief takes it before it restores in order to train.
    """

    def __init__(self, trainer, make_evaluator, make_dataset, params, model_dir, profile_steps=None, class_names=None):
        self._trainer = trainer
        self.workers = Workers(trainer.strategy)
        self._evaluator = make_evaluator() if self.workers.is_chief else None
        self._make_dataset = make_dataset
        self._params = params
        self._model_dir = model_dir
        self._profile_steps = profile_steps
        self.class_names = class_names
        self.lock = RunLock(model_dir)
        self._scores = None
        self._saved_step = self._last_checkpoint = None
        self._seconds_per_step = 0.0
        self._recoveries = 0
        self._is_profiling = False
        self._writers = {}
        self._spent = {"steps": 0.0, "evaluations": 0.0}  # seconds
        self._checkpoints = Checkpoints(
            trainer.checkpoint_items(),
            model_dir,
            params.trainer.max_to_keep,
            self.workers.is_chief,
            is_local=params.runtime.distribution_strategy != "tpu",
            check_lock=self.lock.check,
        )

    def close(self):
        """Waits for the last checkpoint, whatever became of it, and gives the folder back."""
        with contextlib.suppress(OSError, ValueError):
            self._checkpoints.wait()
        for writer in self._writers.values():
            writer.close()
        self.lock.release()

    @property
    def step(self):
        """Steps taken so far, an integer."""
        return integer(self._trainer.step)

    def restore(self, before=math.inf):
        """Restores the newest checkpoint that is whole and returns its path, or None where there is none yet.

        Args:
            before: step; checkpoints of this one and of later ones are passed over.

        Raises:
            ValueError: where no checkpoint can be read, or workers do not see the same ones.
        """
        # No worker looks for checkpoints before the chief's last one is there.
        path = self._checkpoints.restore(before, meet=lambda: self.workers.mean(0.0))
        self._last_checkpoint = self.step if path else None
        if self.workers.mean(self.step)[0] != self.step:
            raise ValueError(
                f"All workers must see one --model_dir, on a file system that they share. {self._model_dir} holds a "
                f"checkpoint of step {self.step} for worker {self.workers.number}, and of other steps for others."
            )
        if path:
            self._trainer.set_learning_rates()
        return path

    def train(self, validate):
        """Trains to the end; with `validate`, evaluates on the way.

        Args:
            validate: whether to evaluate at every `trainer.validation_interval`.

        Raises:
            NotFiniteError: when losses are not finite, or out of bounds, more often than `trainer.max_recoveries`
                allows; the checkpoints from before are left.
            PreemptedError: after SIGTERM or SIGINT, when the run is saved.
            tf.errors.OpError: one of `LOST`, when another worker does not answer.
            WriteError: when a checkpoint cannot be written.
        """
        config, start = self._params.trainer, self.step
        iterator = self._batches()
        progress = Progress(start, config.train_steps, is_shown=self.workers.is_chief)
        self._forget_later_events()
        with self._writer("train").as_default(), progress, StopSignals() as signals:
            networks = self._trainer.describe()
            if not start and self.workers.is_chief:
                tf.summary.text("networks", networks, step=0)
                text = "\n".join("    " + line for line in configs.dump(self._params).splitlines())
                tf.summary.text("configuration", text, step=0)
            logging.info("Networks:\n%s", networks)
            begin = time.perf_counter()
            try:
                while self.step < config.train_steps:
                    self._profile()
                    try:
                        self._take_steps(iterator, progress)
                        self._handle_events(progress, validate and not signals.received)
                    except NotFiniteError as error:
                        self._recover(error)
                        iterator = self._batches()
                        progress.rewind(self.step)
                    self._stop_where_asked(signals)
                self._checkpoints.wait()
            finally:
                self._profile(at_end=True)
            self._report_time(time.perf_counter() - begin)

    def _forget_later_events(self):
        """Has TensorBoard drop what a run that was killed, or went back, had written beyond the present step."""
        # Of a run that begins anew, also what it had written at the start.
        first = self.step + 1 if self.step else 0
        for name in ("train", "validation"):
            if self.workers.is_chief and has_events(os.path.join(self._model_dir, name)):
                purge(self._writer(name), first)

    def _batches(self):
        before = self._trainer.batches_before(self.step) + integer(self._trainer.skipped_batches)
        return iter(self._make_dataset(before))

    def _take_steps(self, iterator, progress):
        begin = time.perf_counter()
        num_steps, images_per_step = self._steps_to_next_event(), self._trainer.images_per_step
        losses = self._trainer.train(iterator, tf.constant(num_steps))
        losses = {name: float(value) for name, value in losses.items()}
        seconds = time.perf_counter() - begin
        self._spent["steps"] += seconds
        self._check(losses)
        self._seconds_per_step = seconds / num_steps
        progress.advance(num_steps, seconds, losses, num_steps * images_per_step)

    def _check(self, losses):
        bound = self._params.trainer.loss_upper_bound
        finite = all(math.isfinite(value) for name, value in losses.items() if not name.endswith("_norm"))
        if not finite or any(abs(value) > bound for name, value in losses.items() if name.endswith("_loss")):
            values = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
            raise NotFiniteError(f"A loss is not finite, or above `trainer.loss_upper_bound` {bound:g}: {values}")

    def _report_time(self, total):
        rest = total - sum(self._spent.values())
        logging.info(
            "Time: steps %.1f s, evaluations %.1f s, checkpoints, summaries and all else %.1f s, %.2f %% of the steps'",
            *self._spent.values(),
            rest,
            100.0 * rest / self._spent["steps"],
        )

    def _recover(self, error):
        """Goes back to the last checkpoint, or after a failure right behind it to the one before, past the data."""
        step, limit, last = self.step, self._params.trainer.max_recoveries, self._last_checkpoint
        if self._recoveries == limit or last is None:
            raise NotFiniteError(
                f"Step {step}: {error}. "
                + (f"{limit} recoveries in a row did not help." if last is not None else "Nothing was saved yet.")
                + f" The checkpoints from before are in {self._model_dir}; a lower learning rate may help."
            ) from error
        end = self._trainer.batches_before(step) + integer(self._trainer.skipped_batches)
        path = (self.restore(before=last) if self._recoveries else None) or self.restore(before=last + 1)
        self._forget_later_events()
        self._recoveries += 1
        self._saved_step = None  # what is skipped from here on is not in the checkpoint
        self._trainer.skipped_batches.assign(end - self._trainer.batches_before(self.step))
        logging.warning(
            "Step %d: %s. Recovery %d of %d: from %s, past the data in between.",
            step,
            error,
            self._recoveries,
            limit,
            path,
        )

    def _stop_where_asked(self, signals):
        """Agrees with all workers whether one was asked to stop, and how long a step takes."""
        stop, self._seconds_per_step = self.workers.mean(float(signals.received), self._seconds_per_step)
        if stop and self.step < self._params.trainer.train_steps:
            try:
                if self._saved_step != self.step:
                    self._save()
                self._checkpoints.wait()
            except NotFiniteError as error:
                raise PreemptedError(
                    f"Stopped by a signal at step {self.step}, and not saved: {error}. "
                    f"The checkpoint of step {self._last_checkpoint} is the last."
                ) from error
            raise PreemptedError(f"Stopped by a signal and saved at step {self.step}.")

    def _save(self):
        self._checkpoints.save(self.step)
        self._saved_step = self._last_checkpoint = self.step
        self._recoveries = 0

    def _profile(self, at_end=False):
        if not self._profile_steps or not self.workers.is_chief:
            return
        first, last = self._profile_steps
        if self._is_profiling and (self.step >= last or at_end):
            tf.profiler.experimental.stop()
            self._is_profiling = False
        elif not self._is_profiling and self.step == first:
            tf.profiler.experimental.start(os.path.join(self._model_dir, "train"))
            self._is_profiling = True

    def _writer(self, name):
        """Of one file in this process, so that TensorBoard reads events in the order in which they were written."""
        if not self.workers.is_chief:
            return tf.summary.create_noop_writer()
        if name not in self._writers:
            self._writers[name] = tf.summary.create_file_writer(os.path.join(self._model_dir, name))
        return self._writers[name]

    def evaluate(self):
        """Evaluates now: scalars and pictures go to `<model_dir>/validation`, the pictures also to PNG files.

        Returns:
            The scores, floats by name, and the step as `step`.
        """
        begin = time.perf_counter()
        scores, pictures = self._evaluator.evaluate(), self._evaluator.pictures()
        with self._writer("validation").as_default(step=self.step):
            for name, value in scores.items():
                tf.summary.scalar(name, value)
            for name, picture in pictures.items():
                tf.summary.image(name, picture[None])
                write_png(os.path.join(self._model_dir, f"{name}.png"), picture)
        values = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        logging.info("Step %d, %s: %s", self.step, self._evaluator.made_of, values)
        self._scores = {"step": self.step, **scores}
        self._spent["evaluations"] += time.perf_counter() - begin
        return self._scores

    def last_scores(self):
        """The scores at the present step, evaluated now unless they were already; with the step itself as `step`."""
        if self._scores is None or self._scores["step"] != self.step:
            self.evaluate()
        return self._scores

    def table(self, scores):
        """Scores as lines of text."""
        return self._evaluator.table(scores)

    def _intervals(self):
        config = self._params.trainer
        return config.summary_interval, config.checkpoint_interval, config.validation_interval

    def _steps_to_next_event(self):
        config, step = self._params.trainer, self.step
        to_events = [interval - step % interval for interval in self._intervals()]
        to_events += [end - step for end in (*self._trainer.phase_ends, *(self._profile_steps or ())) if end > step]
        # A signal is seen between calls alone.
        seconds = self._params.runtime.grace_seconds / 2
        most = max(int(seconds / self._seconds_per_step), 1) if self._seconds_per_step else config.steps_per_loop
        return min(config.steps_per_loop, most, config.train_steps - step, *to_events)

    def _handle_events(self, progress, validate):
        last = self.step == self._params.trainer.train_steps
        summary, checkpoint, validation = (last or self.step % interval == 0 for interval in self._intervals())
        validation = validation and validate
        if checkpoint or validation:  # which takes long
            self._save()
        if summary and self.workers.is_chief:
            scalars = {**progress.report(), **self._evaluator.scalars()}
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step=self.step)
        if validation and self.workers.is_chief:
            self._checkpoints.wait()  # an evaluation may be cut off
            self.evaluate()
