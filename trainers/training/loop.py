"""The outer loop that the trainers share: steps, checkpoints, summaries, evaluation, progress, and what goes wrong."""

import contextlib
import math
import time

import tensorflow as tf
from absl import logging

from trainers import configs
from trainers.configs import schema
from trainers.monitoring.event_writers import EventWriters
from trainers.monitoring.profile import Profile
from trainers.monitoring.run_summaries import RunSummaries
from trainers.training.best_checkpoint import BestCheckpoint
from trainers.training.checkpoints import LOST, Checkpoints, NotFiniteError
from trainers.training.progress import Progress
from trainers.training.run_lock import RunLock
from trainers.training.stop_signals import StopSignals
from trainers.training.trainer import integer
from trainers.training.validation import Validation
from trainers.training.workers import Workers


class PreemptedError(Exception):
    """The run was asked to stop, and is saved."""


class TrainingLoop:
    """Runs a trainer up to `trainer.train_steps`, from its last checkpoint where there is one.

    Args:
        trainer: an object with `strategy`, `step`, `skipped_batches`, `batches_before(step)`, `images_per_step`,
            `phase_ends`, `describe()`, `checkpoint_items()`, `set_learning_rates()`, `learning_rates()` and
            `train(iterator, num_steps)`.
        make_evaluator: function that makes an object with `probes` for every summary, `AttentionProbe` by network, and
            `evaluate()`, `table(scores)`, `pictures()` and `made_of`, what the scores are made of, for a validation.
            The chief calls it, now: what cannot be evaluated is refused before any training.
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
        self._saved_step = self._last_checkpoint = None
        self._seconds_per_step = 0.0
        self._recoveries = 0
        self._writers = EventWriters(model_dir, self.workers.is_chief)
        self._seconds_of_steps = 0.0
        self._checkpoints = Checkpoints(
            trainer.checkpoint_items(),
            model_dir,
            params.trainer.max_to_keep,
            self.workers.is_chief,
            is_local=params.runtime.distribution_strategy != "tpu",
            check_lock=self.lock.check,
        )
        self._validation = self._summaries = None
        if self.workers.is_chief:
            self._summaries = RunSummaries(params, model_dir, self._writers, self._evaluator.probes)
            best = BestCheckpoint(model_dir, params.trainer, self._checkpoints.copy)
            fatal = LOST if params.runtime.distribution_strategy in schema.OF_SEVERAL_PROCESSES else ()
            self._validation = Validation(self._evaluator, params, model_dir, self._writers, best, fatal)

    def close(self):
        """Waits for the last checkpoint, whatever became of it, and gives the folder back."""
        with contextlib.suppress(OSError, ValueError):
            self._checkpoints.wait()
        self._writers.close()
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
        self._writers.go_on_from(self.step)
        with progress, StopSignals() as signals:
            networks = self._trainer.describe()
            if self._summaries:
                self._summaries.start(start, configs.dump(self._params), networks, self._trainer.strategy)
            logging.info("Networks:\n%s", networks)
            begin = time.perf_counter()
            with Profile(self._model_dir, self._profile_steps if self.workers.is_chief else None) as profile:
                while self.step < config.train_steps:
                    profile.at(self.step)
                    try:
                        self._take_steps(iterator, progress)
                        self._handle_events(progress, validate, signals)
                    except NotFiniteError as error:
                        self._recover(error)
                        iterator = self._batches()
                        progress.rewind(self.step)
                    self._stop_where_asked(signals)
                self._checkpoints.wait()
            self._report_time(time.perf_counter() - begin)

    def _batches(self):
        before = self._trainer.batches_before(self.step) + integer(self._trainer.skipped_batches)
        return iter(self._make_dataset(before))

    def _take_steps(self, iterator, progress):
        begin = time.perf_counter()
        num_steps, images_per_step = self._steps_to_next_event(), self._trainer.images_per_step
        losses = self._trainer.train(iterator, tf.constant(num_steps))
        losses = {name: float(value) for name, value in losses.items()}
        seconds = time.perf_counter() - begin
        self._seconds_of_steps += seconds
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
        evaluations = self._validation.seconds if self._validation else 0.0
        summaries = self._summaries.seconds if self._summaries else 0.0
        rest, steps = total - self._seconds_of_steps - evaluations, self._seconds_of_steps
        logging.info(
            f"Time: steps {steps:.1f} s, evaluations {evaluations:.1f} s, checkpoints, summaries and all else "
            f"{rest:.1f} s, {100 * rest / steps:.2f} % of the steps'; of this summaries {summaries:.1f} s"
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
        self._writers.go_on_from(self.step)
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
        stop, cut_off, self._seconds_per_step = self.workers.mean(
            float(signals.received), float(signals.has_cut_off), self._seconds_per_step
        )
        if (stop and self.step < self._params.trainer.train_steps) or cut_off:
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

    def last_scores(self):
        """The scores at the present step, evaluated now unless they were already; with the step itself as `step`.

        Returns:
            Floats by name, or None where an evaluation at this step has failed.

        Raises:
            PreemptedError: after SIGTERM or SIGINT.
        """
        if self.step in self._validation.failures:
            return None
        if self._validation.scores_at(self.step) is None:
            with StopSignals() as signals:
                signals.call(self._validation.evaluate, self.step)
            if signals.has_cut_off:
                raise PreemptedError(f"Stopped by a signal during the evaluation of step {self.step}.")
        return self._validation.scores_at(self.step)

    def evaluate_continuously(self):
        """Evaluates the newest checkpoint whenever another process has written one.

        It ends after that of `trainer.train_steps`, or `trainer.continuous_eval_timeout` seconds without a new one.

        Returns:
            The last scores, or None.

        Raises:
            PreemptedError: after SIGTERM or SIGINT.
            ValueError: where a checkpoint is of another configuration.
        """
        with StopSignals() as signals:
            signals.call(self._validation.follow, self._checkpoints, self._restored_step, self._params.trainer)
        if signals.has_cut_off:
            raise PreemptedError(f"Stopped by a signal after step {self.step}.")
        return self._validation.scores_at(self.step)

    def _restored_step(self):
        return self.step if self.restore() else None

    @property
    def failed_evaluations(self):
        """What went wrong in evaluations, by step."""
        return self._validation.failures if self._validation else {}

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

    def _handle_events(self, progress, validate, signals):
        last = self.step == self._params.trainer.train_steps
        summary, checkpoint, validation = (last or self.step % interval == 0 for interval in self._intervals())
        validation = validation and validate and not signals.received
        if checkpoint or validation:  # which takes long
            self._save()
        if summary and self.workers.is_chief:
            rates = self._trainer.learning_rates()
            self._summaries.write(self.step, *progress.report(), self._seconds_of_steps, rates)
        if validation and self.workers.is_chief:
            self._checkpoints.wait()  # an evaluation may be cut off
            signals.call(self._validation.try_to_evaluate, self.step)
