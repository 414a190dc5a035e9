"""What a run writes for TensorBoard at its start and at every summary."""

import dataclasses
import os
import resource
import sys
import time

import tensorflow as tf
from absl import logging
from tensorboard.plugins.hparams import api as hparams_api

from keras_an_tensorboard import health, summaries
from trainers.monitoring import run_texts, tags

_GIB = 2**30
_FULL = 64  # summaries after which those with pictures become fewer; see `has_pictures`


class RunSummaries:
    """Writes to `<model_dir>/train`, of the chief alone.

    Args:
        params: `schema.ExperimentConfig` or `schema.InpaintingConfig`.
        model_dir: the run's folder.
        writers: `EventWriters`.
        probes: `AttentionProbe` by the name of the network.

    Attributes:
        seconds: that all of it took.
    """

    def __init__(self, params, model_dir, writers, probes):
        self._params = params
        self._model_dir = model_dir
        self._writers = writers
        self._probes = probes
        self._report = health.HealthReport()
        self._seconds_of_steps, self._begin = 0.0, time.perf_counter()
        self.seconds = 0.0

    def start(self, step, configuration, networks, strategy):
        """Writes what the run is: texts, hyperparameters, and the charts of the page Custom Scalars.

        Args:
            step: of this start.
            configuration: YAML.
            networks: Markdown table.
            strategy: `tf.distribute.Strategy`.
        """
        found = list(hyperparameters(self._params, self._model_dir))
        found += summaries.charts(tags.charts(self._params.application))
        for tag, markdown in run_texts.texts(configuration, networks, strategy).items():
            found += summaries.text(tag, markdown)
        self._writers.write("train", found, step)
        self._seconds_of_steps, self._begin = 0.0, time.perf_counter()

    def write(self, step, losses, images_per_second, seconds_of_steps, learning_rates):
        """Writes scalars, and where `has_pictures` tells so pictures and layouts; warns of layers that are dead.

        Args:
            step: of the generator.
            losses: means of the trainer's metrics since the last summary, floats by name.
            images_per_second: float.
            seconds_of_steps: float, of all steps so far.
            learning_rates: floats by network.
        """
        begin = time.perf_counter()
        period = max(begin - self._begin, 1e-9)
        outside = 1.0 - (seconds_of_steps - self._seconds_of_steps) / period
        self._seconds_of_steps, self._begin = seconds_of_steps, begin
        speed = {"images_per_second": images_per_second, "share_outside_steps": max(outside, 0.0), **_memory()}
        told = {**tags.of_losses(losses), **tags.of_speed(speed), **tags.of_learning_rates(learning_rates)}
        found = [value for tag, one in told.items() for value in summaries.scalar(tag, *one)]
        config = self._params.trainer
        is_last = step == config.train_steps
        views = [view for name, probe in self._probes.items() for view in probe.views(name)]
        layers, problems = summaries.of_layers(
            views,
            f"{tags.ATTENTION}/",
            self._report,
            health.progress_of(step, config.train_steps),
            is_last or has_pictures(step // config.summary_interval),
        )
        self._writers.write("train", [*found, *layers.value], step)
        for sentence in problems:
            logging.warning("Step %d: %s", step, sentence)
        self.seconds += time.perf_counter() - begin


def has_pictures(index):
    """Whether the summary of a number, from 1, comes with pictures, so that their bytes grow with its logarithm alone.

    All of the first 128 do, then every second up to 256, every fourth up to 512, and so on: 64 for each doubling.
    TensorBoard keeps 10 pictures of a name, whatever there is.
    """
    stride = 1
    while index > 2 * _FULL * stride:
        stride *= 2
    return index % stride == 0


def hyperparameters(params, model_dir):
    """What the page HParams compares of a run; written where its scalars are, it makes them the run's metrics."""
    values = run_texts.hyperparameters(dataclasses.asdict(params))
    return hparams_api.hparams_pb(values, trial_id=os.path.normpath(model_dir)).value


def _memory():
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    values = {"memory_gib": most / _GIB}
    devices = tf.config.list_logical_devices("GPU")
    if devices:
        peaks = [tf.config.experimental.get_memory_info(device.name[-5:])["peak"] for device in devices]
        values["device_memory_gib"] = max(peaks) / _GIB
    return values
