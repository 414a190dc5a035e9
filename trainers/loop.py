"""The outer loop that the trainers share: steps, checkpoints, summaries, evaluation, progress."""

import datetime
import functools
import math
import os
import shutil
import sys
import time

import tensorflow as tf
from absl import logging
from tqdm import tqdm

from trainers import configs
from trainers.pictures import write_png


class TrainingLoop:
    """Runs a trainer up to `trainer.train_steps`, from its last checkpoint where there is one.

    Args:
        trainer: an object with `step`, `images_per_step`, `phase_ends`, `describe()`, `checkpoint_items()` and
            `train(iterator, num_steps)`.
        evaluator: an object with `scalars()` for every summary, and `evaluate()`, `table(scores)`, `pictures()` and
            `made_of`, what the scores are made of, for a validation.
        make_dataset: function from a number of steps to leave out to the distributed training data.
        params: `schema.ExperimentConfig`.
        model_dir: the run's folder.
    """

    def __init__(self, trainer, evaluator, make_dataset, params, model_dir):
        self._trainer = trainer
        self._evaluator = evaluator
        self._make_dataset = make_dataset
        self._params = params
        self._model_dir = model_dir
        self._scores = None
        self._checkpoint = tf.train.Checkpoint(**trainer.checkpoint_items())

    @functools.cached_property
    def _manager(self):
        # Made on first use, since it makes the folder.
        return tf.train.CheckpointManager(self._checkpoint, self._model_dir, self._params.trainer.max_to_keep)

    @property
    def step(self):
        """Steps taken so far, an integer."""
        return int(tf.convert_to_tensor(self._trainer.step))  # a mirrored variable has no int()

    def restore(self):
        """Restores the newest checkpoint and returns its path, or None where there is none yet."""
        path = self._manager.latest_checkpoint
        if path:
            self._manager.checkpoint.restore(path).assert_consumed()
            logging.info("Restored %s", path)
        return path

    def train(self, validate):
        """Trains to the end; with `validate`, evaluates on the way.

        Args:
            validate: whether to evaluate at every `trainer.validation_interval`.

        Raises:
            FloatingPointError: when a loss is no longer finite; no checkpoint is written then.
        """
        config, start = self._params.trainer, self.step
        iterator = iter(self._make_dataset(start))
        writer = tf.summary.create_file_writer(os.path.join(self._model_dir, "train"))
        progress = Progress(start, config.train_steps)
        with writer.as_default(), progress:
            networks = self._trainer.describe()
            logging.info("Networks:\n%s", networks)
            if not start:
                tf.summary.text("networks", networks, step=0)
                text = "\n".join("    " + line for line in configs.dump(self._params).splitlines())
                tf.summary.text("configuration", text, step=0)
            while self.step < config.train_steps:
                begin = time.perf_counter()
                num_steps, images_per_step = self._steps_to_next_event(), self._trainer.images_per_step
                losses = self._trainer.train(iterator, tf.constant(num_steps))
                losses = {name: float(value) for name, value in losses.items()}
                self._check_finite(losses)
                progress.advance(num_steps, time.perf_counter() - begin, losses, num_steps * images_per_step)
                self._handle_events(progress, validate)
        writer.close()

    def evaluate(self):
        """Evaluates now: scalars and pictures go to `<model_dir>/validation`, the pictures also to PNG files.

        Returns:
            The scores, floats by name, and the step as `step`.
        """
        scores, pictures = self._evaluator.evaluate(), self._evaluator.pictures()
        writer = tf.summary.create_file_writer(os.path.join(self._model_dir, "validation"))
        with writer.as_default(step=self.step):
            for name, value in scores.items():
                tf.summary.scalar(name, value)
            for name, picture in pictures.items():
                tf.summary.image(name, picture[None])
                write_png(os.path.join(self._model_dir, f"{name}.png"), picture)
        writer.close()
        values = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        logging.info("Step %d, %s: %s", self.step, self._evaluator.made_of, values)
        self._scores = {"step": self.step, **scores}
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
        to_events += [end - step for end in self._trainer.phase_ends if end > step]
        return min(config.steps_per_loop, config.train_steps - step, *to_events)

    def _handle_events(self, progress, validate):
        last = self.step == self._params.trainer.train_steps
        summary, checkpoint, validation = (last or self.step % interval == 0 for interval in self._intervals())
        if summary:
            scalars = {**progress.report(), **self._evaluator.scalars()}
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step=self.step)
        if checkpoint:
            self._manager.save(checkpoint_number=self.step)
        if validate and validation:
            self.evaluate()

    def _check_finite(self, losses):
        if not all(math.isfinite(value) for value in losses.values()):
            raise FloatingPointError(
                f"A loss is not finite at step {self.step}: {losses}. The last good checkpoint is "
                f"{self._manager.latest_checkpoint}; nothing was written since."
            )


class Progress:
    """Shows steps, images/s, time left and losses: a bar on a terminal, a line for every report otherwise.

    Args:
        start: steps taken before.
        total: steps at the end.
    """

    def __init__(self, start, total):
        self._step, self._total = start, total
        self._seconds = self._images = self._steps = 0
        self._losses, self._counts = {}, {}
        self._terminal = sys.stderr.isatty()
        # tqdm itself shows nothing on a terminal that does not know its size.
        size = shutil.get_terminal_size()
        self._bar = tqdm(
            initial=start,
            total=total,
            unit="step",
            disable=not self._terminal,
            ncols=size.columns,
            nrows=size.lines,
        )

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._bar.close()

    def advance(self, num_steps, seconds, losses, num_images):
        """Counts steps that took `seconds` and `num_images` over all replicas, with their mean losses."""
        self._step += num_steps
        self._steps += num_steps
        self._seconds += seconds
        self._images += num_images
        for name, value in losses.items():
            self._losses[name] = self._losses.get(name, 0.0) + value * num_steps
            self._counts[name] = self._counts.get(name, 0) + num_steps
        shown = {"img/s": f"{num_images / seconds:.0f}"}
        shown.update({_short(name): f"{value:.2f}" for name, value in losses.items() if name.endswith("_loss")})
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(num_steps)

    def report(self):
        """Ends a period: returns its mean losses and images/s as summaries; logs them where there is no terminal."""
        # A phase may end within a period: each loss is the mean over the steps that have it.
        means = {name: value / self._counts[name] for name, value in self._losses.items()}
        scalars = {f"losses/{name}": value for name, value in means.items()}
        scalars["images_per_second"] = self._images / self._seconds
        if not self._terminal:
            left = datetime.timedelta(seconds=round((self._total - self._step) * self._seconds / self._steps))
            losses = ", ".join(f"{_short(name)} {value:.3f}" for name, value in means.items())
            speed = scalars["images_per_second"]
            logging.info("step %d/%d, %.0f images/s, ETA %s, %s", self._step, self._total, speed, left, losses)
        self._seconds = self._images = self._steps = 0
        self._losses, self._counts = {}, {}
        return scalars


def _short(name):
    return name.replace("discriminator", "D").replace("generator", "G").replace("_loss", "")
