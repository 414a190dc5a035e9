"""Names of scalars, the charts that show them, which summaries have pictures, and what tells one run from another."""

import dataclasses
import re
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.util import tensor_util

from gan_test_case import small_params
from keras_an_tensorboard import summaries
from trainers import configs
from trainers.monitoring import run_summaries, run_texts, tags
from trainers.training import gan_trainer, inpainting_trainer

METRICS = {"gan": gan_trainer.METRICS, "inpainting": inpainting_trainer.ADVERSARIAL_METRICS}
SCORES = {"gan": ("frechet_distance", "recall"), "inpainting": ("center/l1_hole", "strokes/psnr_hole_mean_fill")}


@pytest.mark.parametrize("application", METRICS)
def test_every_loss_has_a_description(application):
    found = tags.of_losses(dict.fromkeys(METRICS[application], 1.0))
    assert [tag for tag, (_, told) in found.items() if not told] == []
    assert {tag.split("/")[0] for tag in found} == {"1_losses", "4_gradients", "7_spread"}


def test_spread_is_a_deviation_around_the_mean():
    logits = np.random.default_rng(0).normal(3.0, 2.0, 1000)
    found = tags.of_losses({"critic_real": logits.mean(), "critic_real_square": np.square(logits).mean()})
    for end, sign in (("low", -1), ("high", 1)):
        assert found[f"7_spread/critic_real_{end}"][0] == pytest.approx(logits.mean() + sign * logits.std())
    assert tags.of_losses({"x": 0.1, "x_square": 0.01 - 1e-9})["7_spread/x_low"][0] == 0.1  # rounding


@pytest.mark.parametrize("application", METRICS)
def test_every_chart_shows_something_that_is_written(application):
    written = {
        *tags.of_losses(dict.fromkeys(METRICS[application], 1.0)),
        *tags.of_learning_rates({"generator": 1.0}),
        *(f"{tags.SCORES}/{name}" for name in SCORES[application]),
        *(f"{tags.ATTENTION}/generator/layer/{name}" for name in summaries.STATISTICS),
        *({f"{tags.SCORES}/label_accuracy"} if application == "gan" else ()),
    }
    (value,) = summaries.charts(tags.charts(application))
    layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(value.tensor).item())
    assert [category.title[0] for category in layout.category] == [*"1234"]
    for chart in [chart for category in layout.category for chart in category.chart]:
        assert all(any(re.search(tag, one) for one in written) for tag in chart.multiline.tag), chart.title
        for series in chart.margin.series:
            assert {series.value, series.lower, series.upper} <= written
        assert chart.multiline.tag or len(chart.margin.series) == 2


def test_pictures_become_fewer_but_never_end():
    pictured = [index for index in range(1, 12_001) if run_summaries.has_pictures(index)]
    assert pictured[:128] == list(range(1, 129)) and pictured[128:130] == [130, 132]
    counts = [sum(start < index <= 2 * start for index in pictured) for start in (128, 256, 512, 1024, 2048, 4096)]
    assert counts == 6 * [64] and np.diff(pictured).max() == 128


def test_texts_say_what_runs_where(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--model_dir=a b"])
    found = run_texts.texts("seed: 1\nx: 2\n", "| table |", tf.distribute.get_strategy())
    assert list(found) == sorted(found) and found["run/2_configuration"] == "    seed: 1\n    x: 2"
    assert found["run/1_command"].endswith("train.py '--model_dir=a b'") and found["run/3_networks"] == "| table |"
    assert f"| tensorflow | {tf.__version__} |" in found["run/5_versions"]
    assert "| replicas | 1 of " in found["run/4_devices"] and "CPU:0 | CPU |" in found["run/4_devices"]


def test_hyperparameters_are_numbers_and_texts_of_what_is_learned():
    for experiment in ("gan_digits32", "inpainting_photos64"):
        found = run_texts.hyperparameters(dataclasses.asdict(configs.resolve(experiment)))
        assert {"experiment", "trainer.generator_optimizer.learning_rate", "runtime.seed"} <= set(found)
        assert not [key for key in found if "interval" in key or "path" in key.split(".")[-1] and "masks" not in key]
        assert all(isinstance(value, (bool, int, float, str)) for value in found.values())
    found = run_texts.hyperparameters(dataclasses.asdict(small_params()))
    assert found["task.model.generator.attention_blocks"] == "1"


class _Writers:
    def __init__(self):
        self.written = {}

    def write(self, name, values, step):
        self.written[step] = {value.tag: float(tensor_util.make_ndarray(value.tensor)) for value in values}


def test_share_outside_of_steps_is_of_the_time_between_summaries(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    writers = _Writers()
    written = run_summaries.RunSummaries(small_params(), str(tmp_path), writers, {})
    for step, seconds, steps_until_now in ((1, 10.0, 6.0), (2, 4.0, 9.0)):
        now[0] += seconds
        written.write(step, {}, 5.0, steps_until_now, {})
    found = {step: values["5_speed/share_outside_steps"] for step, values in writers.written.items()}
    assert found == pytest.approx({1: 0.4, 2: 0.25})
