"""The outer loop, with a trainer that only counts."""

import logging
import math
import sys

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import contents, small_params, summaries_of
from trainers import loop


class CountingTrainer:
    """Adds up the numbers of the batches it sees. Its loss at step s is s, but not a number at `nan_step`."""

    images_per_step = 4
    phase_ends = ()

    def __init__(self, nan_step=None):
        self.step = tf.Variable(0, dtype=tf.int64)
        self.total = tf.Variable(0, dtype=tf.int64)
        self.nan_step = nan_step
        self.calls = []

    def describe(self):
        return "two networks"

    def checkpoint_items(self):
        return {"step": self.step, "total": self.total}

    def train(self, iterator, num_steps):
        losses = []
        for _ in range(int(num_steps)):
            self.step.assign_add(1)
            self.total.assign_add(next(iterator))
            losses.append(math.nan if int(self.step) == self.nan_step else float(self.step))
        self.calls.append(int(num_steps))
        return {"generator_loss": tf.constant(np.mean(losses)), "discriminator_real": tf.constant(2.0)}


class FixedEvaluator:
    """Gives the same scores and pictures at every step."""

    made_of = "two images"

    def __init__(self):
        self.evaluations = 0

    def scalars(self):
        return {"generator/layer/rho": 0.25}

    def evaluate(self):
        self.evaluations += 1
        return {"label_accuracy": 0.5}

    def pictures(self):
        return {"samples": np.full((4, 6, 3), 7, np.uint8)}


def make_loop(model_dir, trainer, evaluator=None, **overrides):
    settings = {
        "train_steps": 10,
        "steps_per_loop": 3,
        "summary_interval": 5,
        "checkpoint_interval": 4,
        "validation_interval": 100,
        "max_to_keep": 9,
        **overrides,
    }
    params = small_params(**{f"trainer__{name}": value for name, value in settings.items()})
    return loop.TrainingLoop(
        trainer, evaluator or FixedEvaluator(), lambda start: tf.data.Dataset.range(start, 1000), params, str(model_dir)
    )


def checkpoints(model_dir):
    return sorted(int(path.stem.split("-")[1]) for path in model_dir.glob("ckpt-*.index"))


def test_trains_to_the_last_step_and_no_further(tmp_path):
    trainer = CountingTrainer()
    training_loop = make_loop(tmp_path, trainer)
    training_loop.train(validate=False)
    assert training_loop.step == sum(trainer.calls) == 10
    assert int(trainer.total) == sum(range(10))


@pytest.mark.parametrize("steps_per_loop", [1, 3, 7, 100])
def test_calls_end_at_events_and_never_exceed_steps_per_loop(tmp_path, steps_per_loop):
    trainer = CountingTrainer()
    make_loop(tmp_path, trainer, steps_per_loop=steps_per_loop).train(validate=False)
    assert max(trainer.calls) <= steps_per_loop
    assert {4, 5, 8, 10} <= set(np.cumsum(trainer.calls))


def test_checkpoints_are_at_multiples_of_the_interval_and_at_the_end(tmp_path):
    make_loop(tmp_path, CountingTrainer()).train(validate=False)
    assert checkpoints(tmp_path) == [4, 8, 10]


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    make_loop(tmp_path, CountingTrainer(), max_to_keep=2, checkpoint_interval=2).train(validate=False)
    assert checkpoints(tmp_path) == [8, 10]


def test_summaries_hold_the_mean_losses_since_the_last_report(tmp_path):
    make_loop(tmp_path, CountingTrainer()).train(validate=False)
    found = summaries_of(tmp_path / "train")
    # Steps 1 to 5, reached in calls of 3, 1 and 1; then 6 to 10.
    assert {step: float(value) for step, value in found["losses/generator_loss"].items()} == {5: 3.0, 10: 8.0}
    assert {step: float(value) for step, value in found["losses/discriminator_real"].items()} == {5: 2.0, 10: 2.0}
    assert {step: float(value) for step, value in found["generator/layer/rho"].items()} == {5: 0.25, 10: 0.25}
    assert set(found["images_per_second"]) == {5, 10}
    assert all(value > 0 for value in found["images_per_second"].values())


def test_configuration_is_written_once_at_the_start(tmp_path):
    make_loop(tmp_path, CountingTrainer()).train(validate=False)
    resumed = make_loop(tmp_path, CountingTrainer(), train_steps=12)
    resumed.restore()
    resumed.train(validate=False)
    configuration = summaries_of(tmp_path / "train")["configuration"]
    assert list(configuration) == [0]
    assert b"    latent_dim: 8" in configuration[0].item()


def test_restore_goes_on_from_the_step_and_the_data(tmp_path):
    make_loop(tmp_path, CountingTrainer(), train_steps=8).train(validate=False)
    trainer = CountingTrainer()
    resumed = make_loop(tmp_path, trainer)
    assert resumed.restore() == str(tmp_path / "ckpt-8")
    assert resumed.step == 8
    resumed.train(validate=False)
    assert trainer.calls == [2]
    assert int(trainer.total) == sum(range(10))


def test_restore_of_a_new_run_finds_nothing(tmp_path):
    training_loop = make_loop(tmp_path, CountingTrainer())
    assert training_loop.restore() is None and training_loop.step == 0


def test_loss_that_is_not_finite_stops_and_leaves_the_last_checkpoint(tmp_path):
    make_loop(tmp_path, CountingTrainer(), train_steps=4).train(validate=False)
    before = {path: content for path, content in contents(tmp_path).items() if "ckpt" in path or "checkpoint" in path}
    training_loop = make_loop(tmp_path, CountingTrainer(nan_step=7))
    training_loop.restore()
    with pytest.raises(FloatingPointError, match=r"nan.*ckpt-4"):
        training_loop.train(validate=False)
    after = {path: content for path, content in contents(tmp_path).items() if "ckpt" in path or "checkpoint" in path}
    assert after == before and checkpoints(tmp_path) == [4]


def test_validation_runs_at_its_interval_and_at_the_end_where_wanted(tmp_path):
    evaluator = FixedEvaluator()
    make_loop(tmp_path, CountingTrainer(), evaluator, validation_interval=6).train(validate=True)
    found = summaries_of(tmp_path / "validation")
    assert evaluator.evaluations == 2
    assert {step: float(value) for step, value in found["label_accuracy"].items()} == {6: 0.5, 10: 0.5}
    assert set(found["samples"]) == {6, 10}
    picture = tf.io.decode_png((tmp_path / "samples.png").read_bytes())
    np.testing.assert_array_equal(picture, np.full((4, 6, 3), 7))


def test_no_validation_where_not_wanted(tmp_path):
    evaluator = FixedEvaluator()
    make_loop(tmp_path, CountingTrainer(), evaluator, validation_interval=2).train(validate=False)
    assert evaluator.evaluations == 0 and not (tmp_path / "validation").exists()


def test_last_scores_evaluates_once_a_step(tmp_path):
    evaluator = FixedEvaluator()
    training_loop = make_loop(tmp_path, CountingTrainer(), evaluator)
    training_loop.train(validate=True)
    assert training_loop.last_scores() == training_loop.last_scores() == {"step": 10, "label_accuracy": 0.5}
    assert evaluator.evaluations == 1
    fresh = make_loop(tmp_path, CountingTrainer(), evaluator)
    fresh.restore()
    assert fresh.last_scores()["step"] == 10 and evaluator.evaluations == 2


def test_each_report_is_one_log_line_off_a_terminal(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO, logger="absl"):
        make_loop(tmp_path, CountingTrainer()).train(validate=False)
    lines = [record.getMessage() for record in caplog.records if "images/s" in record.getMessage()]
    assert [line.split(",")[0] for line in lines] == ["step 5/10", "step 10/10"]
    assert all("images/s" in line and "ETA 0:00:00" in line for line in lines)
    assert "G 3.000, D_real 2.000" in lines[0] and "G 8.000" in lines[1]


def test_bar_takes_the_place_of_log_lines_on_a_terminal(caplog, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with caplog.at_level(logging.INFO, logger="absl"), loop.Progress(0, 10) as progress:
        progress.advance(5, 1.0, {"generator_loss": 3.0}, 20)
        progress.report()
    assert not caplog.records
    assert "5/10" in capsys.readouterr().err


def test_progress_counts_images_time_left_and_means():
    progress = loop.Progress(100, 200)
    progress.advance(10, 2.0, {"generator_loss": 1.0}, 80)
    progress.advance(30, 2.0, {"generator_loss": 5.0}, 240)
    assert progress.report() == {"losses/generator_loss": 4.0, "images_per_second": 80.0}
    progress.advance(10, 0.5, {"generator_loss": 7.0}, 80)
    assert progress.report() == {"losses/generator_loss": 7.0, "images_per_second": 160.0}


def test_log_line_estimates_the_time_left(caplog, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    progress = loop.Progress(100, 4100)
    progress.advance(10, 20.0, {"generator_loss": 1.0}, 80)
    with caplog.at_level(logging.INFO, logger="absl"):
        progress.report()
    assert "step 110/4100, 4 images/s, ETA 2:13:00, G 1.000" in caplog.text


def test_a_loss_that_begins_within_a_period_is_the_mean_over_its_own_steps():
    progress = loop.Progress(0, 100)
    progress.advance(10, 1.0, {"generator_loss": 1.0}, 10)
    progress.advance(30, 1.0, {"generator_loss": 5.0, "critic_loss": 2.0}, 90)
    expected = {"losses/generator_loss": 4.0, "losses/critic_loss": 2.0, "images_per_second": 50.0}
    assert progress.report() == expected


def test_no_call_takes_steps_of_two_phases(tmp_path):
    trainer = CountingTrainer()
    trainer.phase_ends = (3,)
    make_loop(tmp_path, trainer, steps_per_loop=4).train(validate=False)
    assert trainer.calls[:2] == [3, 1] and sum(trainer.calls) == 10
