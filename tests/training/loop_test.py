"""The outer loop, with a trainer that only counts.

The file is long because all tests share one stand-in for a trainer.
"""

import json
import logging
import math
import os
import re
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import plugin_event_accumulator

from gan_test_case import small_params, summaries_of
from keras_an_tensorboard.health import LayerView
from trainers.training import loop, validation
from trainers.training.checkpoints import NotFiniteError


class CountingTrainer:
    """Adds up the numbers of the batches it sees. Its loss at step s is s, or what `losses` say for the batch."""

    images_per_step = 4
    phase_ends = ()

    def __init__(self, losses=None, at_step=None):
        self.strategy = tf.distribute.get_strategy()
        self.step, self.total, self.skipped_batches = (tf.Variable(0, dtype=tf.int64) for _ in range(3))
        self.weight = tf.Variable(0.0)
        self.losses = losses or {}
        self.at_step = at_step or {}
        self.calls = []

    def describe(self):
        return "two networks"

    def batches_before(self, step):
        return step

    def set_learning_rates(self):
        self.rates_set = True

    def learning_rates(self):
        return {"generator": 0.5}

    def checkpoint_items(self):
        return {name: getattr(self, name) for name in ("step", "total", "skipped_batches", "weight")}

    def train(self, iterator, num_steps):
        losses = []
        for _ in range(int(num_steps)):
            batch = next(iterator)
            self.step.assign_add(1)
            self.total.assign_add(batch)
            self.at_step.pop(int(self.step), lambda: None)()
            losses.append(self.losses.get(int(batch), float(self.step)))
        self.calls.append(int(num_steps))
        norm = 0.5 if np.isfinite(losses).all() else math.nan
        return {
            "generator_loss": tf.constant(np.mean(losses)),
            "discriminator_real": tf.constant(2.0),
            "generator_gradient_norm": tf.constant(norm),
        }


class ConstantProbe:
    """A layer of two entities, each of which has more of its half of the map, or as much as the other."""

    def __init__(self, share=0.75):
        self.share = share

    def views(self, network):
        layout = np.full((2, 4, 4, 2), self.share, np.float32)
        layout[:, :2, :, 0] = layout[:, 2:, :, 1] = 1.0 - self.share
        return [LayerView(f"{network}/layer", np.ones((2, 4, 4, 3), np.float32), layout, 0.25, np.eye(2, 3))]


class FixedEvaluator:
    """Gives the same scores and pictures at every step."""

    made_of = "two images"
    probes = {"generator": ConstantProbe()}

    def __init__(self):
        self.evaluations = 0

    def evaluate(self):
        self.evaluations += 1
        return {"label_accuracy": 0.5}

    def pictures(self):
        return {"samples": np.full((4, 6, 3), 7, np.uint8)}


def make_loop(
    model_dir, trainer, evaluator=None, profile_steps=None, grace_seconds=1000.0, strategy="off", **overrides
):
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
    params.runtime.grace_seconds = grace_seconds
    params.runtime.distribution_strategy = strategy
    return loop.TrainingLoop(
        trainer,
        lambda: evaluator or FixedEvaluator(),
        lambda start: tf.data.Dataset.range(start, 1000),
        params,
        str(model_dir),
        profile_steps,
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
    expected = {
        "1_losses/generator_loss": (3.0, 8.0),
        "1_losses/discriminator_real": (2.0, 2.0),
        "3_attention/generator/layer/rho": (0.25, 0.25),
        "4_gradients/generator": (0.5, 0.5),
        "6_learning_rate/generator": (0.5, 0.5),
    }
    for tag, values in expected.items():
        assert {step: float(value) for step, value in found[tag].items()} == dict(zip((5, 10), values)), tag
    for name in ("images_per_second", "memory_gib"):
        assert all(found[f"5_speed/{name}"][step] > 0 for step in (5, 10))
    assert all(0 <= found["5_speed/share_outside_steps"][step] < 1 for step in (5, 10))


def test_a_dead_layer_is_a_warning_and_a_text(tmp_path, caplog):
    evaluator = FixedEvaluator()
    evaluator.probes = {"generator": ConstantProbe(0.5)}
    make_loop(tmp_path, CountingTrainer(), evaluator).train(validate=False)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("Step 5: generator/layer may be dead: its layout tells nothing: the entropy is 1.000")
    (health,) = summaries_of(tmp_path / "train")["health"].items()  # it is the same at step 10
    assert health[0] == 5 and b"**generator/layer** may be dead: its layout" in health[1].item()


def test_configuration_is_written_at_each_start(tmp_path):
    make_loop(tmp_path, CountingTrainer()).train(validate=False)
    resumed = make_loop(tmp_path, CountingTrainer(), train_steps=12)
    resumed.restore()
    resumed.train(validate=False)
    configuration = summaries_of(tmp_path / "train")["run/2_configuration"]
    assert list(configuration) == [0, 10]
    assert b"    train_steps: 10" in configuration[0].item() and b"    train_steps: 12" in configuration[10].item()


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


@pytest.mark.parametrize("loss", [math.nan, math.inf, -2e6, 2e6])
def test_bad_loss_goes_back_to_the_last_checkpoint_and_past_the_data(tmp_path, caplog, loss):
    trainer = CountingTrainer({6: loss})
    with caplog.at_level(logging.WARNING, logger="absl"):
        make_loop(tmp_path, trainer, loss_upper_bound=5e5).train(validate=False)
    # The batches 5 to 7 were one call, after which step 4 was restored.
    assert int(trainer.step) == 10 and int(trainer.total) == sum(range(4)) + sum(range(8, 14))
    assert "Recovery 1 of 3" in caplog.text and "ckpt-4" in caplog.text and "generator_gradient_norm" in caplog.text
    resumed = CountingTrainer()
    training_loop = make_loop(tmp_path, resumed, train_steps=12)
    training_loop.restore()
    training_loop.train(validate=False)
    assert int(resumed.total) == int(trainer.total) + 14 + 15


def test_recoveries_go_further_back_and_end_at_their_limit(tmp_path, caplog):
    trainer = CountingTrainer({batch: math.nan for batch in range(9, 1000)})
    training_loop = make_loop(tmp_path, trainer, max_recoveries=2, checkpoint_interval=3)
    with caplog.at_level(logging.WARNING, logger="absl"), pytest.raises(NotFiniteError) as stopped:
        training_loop.train(validate=False)
    went_back = [record.getMessage() for record in caplog.records if record.name == "absl"]  # not TensorFlow
    assert [message.split("ckpt-")[1][0] for message in went_back] == ["9", "6"]
    message = str(stopped.value)
    assert "Step 9:" in message and "generator_loss nan" in message and "generator_gradient_norm nan" in message
    assert "2 recoveries in a row did not help" in message
    assert checkpoints(tmp_path) == [3, 6, 9]


def test_a_run_that_went_back_leaves_what_came_after(tmp_path, caplog):
    """The checkpoints of before are gone once a newer one on the other way is whole."""
    trainer = CountingTrainer({batch: math.nan for batch in range(9, 12)})
    training_loop = make_loop(tmp_path, trainer, checkpoint_interval=3, train_steps=12)
    with caplog.at_level(logging.WARNING, logger="absl"):
        training_loop.train(validate=False)
    assert int(trainer.step) == 12 and checkpoints(tmp_path) == [3, 6, 9, 12]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-12")


def test_no_worker_looks_for_checkpoints_before_the_last_one_is_there(tmp_path, monkeypatch):
    def mean(*values):
        if values == (0.0,):
            seen.append(checkpoints(tmp_path))
        return list(values)

    seen, move = [], shutil.move
    monkeypatch.setattr(shutil, "move", lambda *paths, **options: time.sleep(0.1) or move(*paths, **options))
    training_loop = make_loop(tmp_path, CountingTrainer({6: math.nan}))
    monkeypatch.setattr(training_loop.workers, "mean", mean)
    training_loop.train(validate=False)
    assert seen == [[4]]


def test_bad_weights_at_a_signal_leave_the_last_checkpoint(tmp_path):
    def spoil():
        trainer.weight.assign(math.nan)
        os.kill(os.getpid(), signal.SIGTERM)

    trainer = CountingTrainer(at_step={6: spoil})
    with pytest.raises(loop.PreemptedError, match="not saved: 1 weights are not finite.* The checkpoint of step 5"):
        make_loop(tmp_path, trainer, checkpoint_interval=5).train(validate=False)
    assert checkpoints(tmp_path) == [5]


def test_no_evaluation_begins_after_a_signal(tmp_path):
    evaluator = FixedEvaluator()
    trainer = CountingTrainer(at_step={6: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    with pytest.raises(loop.PreemptedError):
        make_loop(tmp_path, trainer, evaluator, validation_interval=6, steps_per_loop=1).train(validate=True)
    assert evaluator.evaluations == 0 and checkpoints(tmp_path)[-1] == 6


def test_a_stop_right_after_a_recovery_keeps_what_is_skipped(tmp_path):
    trainer = CountingTrainer({6: math.nan}, at_step={8: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    with pytest.raises(loop.PreemptedError, match="saved at step 4"):
        make_loop(tmp_path, trainer).train(validate=False)
    resumed = CountingTrainer({6: math.nan})
    training_loop = make_loop(tmp_path, resumed)
    training_loop.restore()
    training_loop.train(validate=False)
    assert int(resumed.total) == sum(range(4)) + sum(range(8, 14)) and resumed.rates_set


def test_bad_loss_before_the_first_checkpoint_stops(tmp_path):
    with pytest.raises(NotFiniteError, match=r"Step 3: .*nan.* Nothing was saved yet"):
        make_loop(tmp_path, CountingTrainer({2: math.nan})).train(validate=False)
    assert not checkpoints(tmp_path)


def test_weights_that_are_not_finite_are_never_saved(tmp_path, caplog):
    trainer = CountingTrainer(at_step={8: lambda: trainer.weight.assign(math.inf)})
    with caplog.at_level(logging.WARNING, logger="absl"):
        make_loop(tmp_path, trainer).train(validate=False)
    assert "1 weights are not finite" in caplog.text and "ckpt-4" in caplog.text
    assert float(trainer.weight) == 0.0 and int(trainer.total) == sum(range(4)) + sum(range(8, 14))
    assert checkpoints(tmp_path) == [4, 8, 10]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_the_call_saves_and_stops(tmp_path, request, number):
    before = signal.signal(number, signal.SIG_DFL)  # in a shell's background SIGINT is ignored
    request.addfinalizer(lambda: signal.signal(number, before))
    trainer = CountingTrainer(at_step={6: lambda: os.kill(os.getpid(), number)})
    with pytest.raises(loop.PreemptedError, match="saved at step 8"):
        make_loop(tmp_path, trainer, checkpoint_interval=5).train(validate=False)
    assert checkpoints(tmp_path) == [5, 8] and signal.getsignal(number) == signal.SIG_DFL
    resumed = CountingTrainer()
    training_loop = make_loop(tmp_path, resumed, checkpoint_interval=5)
    training_loop.restore()
    training_loop.train(validate=False)
    assert int(resumed.total) == sum(range(10))


def test_closed_terminal_is_told_twice_and_under_nohup_plays_no_part(tmp_path, request):
    """The system sends SIGHUP, and so does the shell."""

    def hang_up():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # of whatever runs the tests
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    with pytest.raises(loop.PreemptedError, match="saved at step 8"):
        make_loop(tmp_path / "open", CountingTrainer(at_step={6: hang_up}), checkpoint_interval=5).train(validate=False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    make_loop(tmp_path / "nohup", CountingTrainer(at_step={6: hang_up})).train(validate=False)
    assert checkpoints(tmp_path / "nohup")[-1] == 10 and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_second_signal_ends_at_once(tmp_path, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # of whatever runs the tests
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

    trainer = CountingTrainer(at_step={6: interrupt, 7: interrupt})
    with pytest.raises(KeyboardInterrupt):
        make_loop(tmp_path, trainer).train(validate=False)
    assert checkpoints(tmp_path) == [4]


def test_no_call_takes_more_than_half_of_the_grace_time(tmp_path):
    trainer = CountingTrainer(at_step={step: lambda: time.sleep(0.02) for step in range(1, 21)})
    make_loop(tmp_path, trainer, train_steps=20, steps_per_loop=5, grace_seconds=0.1).train(validate=False)
    assert trainer.calls[0] > 2 and set(trainer.calls[1:]) <= {1, 2}


def test_what_is_validated_is_saved_before(tmp_path):
    class Evaluator(FixedEvaluator):
        def evaluate(self):
            saved.append(checkpoints(tmp_path)[-1])
            return super().evaluate()

    saved = []
    make_loop(tmp_path, CountingTrainer(), Evaluator(), validation_interval=3).train(validate=True)
    assert saved == [3, 6, 9, 10]


def test_profile_covers_the_steps_that_are_named(tmp_path):
    trainer = CountingTrainer()
    make_loop(tmp_path, trainer, profile_steps=(2, 7)).train(validate=False)
    assert {2, 7} <= set(np.cumsum(trainer.calls))
    assert list((tmp_path / "train" / "plugins" / "profile").rglob("*.xplane.pb"))


def test_profile_is_written_where_the_run_ends_before(tmp_path):
    trainer = CountingTrainer({6: math.nan})  # goes back to the first step of the profile
    make_loop(tmp_path, trainer, profile_steps=(4, 70)).train(validate=False)
    assert list((tmp_path / "train" / "plugins" / "profile").rglob("*.xplane.pb"))


def test_validation_runs_at_its_interval_and_at_the_end_where_wanted(tmp_path):
    evaluator = FixedEvaluator()
    make_loop(tmp_path, CountingTrainer(), evaluator, validation_interval=6).train(validate=True)
    found = summaries_of(tmp_path / "validation")
    assert evaluator.evaluations == 2
    assert {step: float(value) for step, value in found["2_scores/label_accuracy"].items()} == {6: 0.5, 10: 0.5}
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


def test_time_outside_of_steps_is_told(tmp_path, caplog, monkeypatch):
    now = [0.0]  # a clock that goes only where this test lets time pass
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def takes(seconds):
        now[0] += seconds

    class Probe(ConstantProbe):
        def views(self, network):
            takes(0.25)
            return super().views(network)

    class Evaluator(FixedEvaluator):
        probes = {"generator": Probe()}

        def evaluate(self):
            takes(0.3)
            return super().evaluate()

    trainer = CountingTrainer(at_step={step: lambda: takes(0.1) for step in range(1, 11)})
    with caplog.at_level(logging.INFO, logger="absl"):
        make_loop(tmp_path, trainer, Evaluator()).train(validate=True)
    told = re.search(r"Time: steps (\S+) s, evaluations (\S+) s, .* all else (\S+) s, (\S+) % of", caplog.text)
    ten_steps, one_evaluation, two_summaries = 1.0, 0.3, 0.5
    assert [float(value) for value in told.groups()] == [ten_steps, one_evaluation, two_summaries, 50.0]


def test_no_call_takes_steps_of_two_phases(tmp_path):
    trainer = CountingTrainer()
    trainer.phase_ends = (3,)
    make_loop(tmp_path, trainer, steps_per_loop=4).train(validate=False)
    assert trainer.calls[:2] == [3, 1] and sum(trainer.calls) == 10


def shown_by_tensorboard(folder, tag):
    """The steps that TensorBoard shows."""
    events = plugin_event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return [event.step for event in events.Tensors(tag)]


class KilledError(Exception):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("killed_at, begins", [(9, 5), (3, 0)])
def test_restart_has_tensorboard_forget_what_came_after_the_checkpoint(tmp_path, killed_at, begins):
    def kill():
        raise KilledError

    options = {"summary_interval": 1, "steps_per_loop": 1, "checkpoint_interval": 4, "validation_interval": 7}
    killed = make_loop(tmp_path, CountingTrainer(at_step={killed_at: kill}), **options)
    with pytest.raises(KilledError):
        killed.train(validate=True)
    killed.close()
    for path in [*tmp_path.glob("ckpt-8*"), *tmp_path.glob("ckpt-7*")]:
        path.unlink()  # the newest may be damaged
    assert shown_by_tensorboard(tmp_path / "train", "1_losses/generator_loss") == list(range(1, killed_at))
    time.sleep(1.0)  # names of event files are of the second
    resumed = make_loop(tmp_path, CountingTrainer(), **{**options, "validation_interval": 1000})
    resumed.restore()
    assert resumed.step == max(begins - 1, 0)
    resumed.train(validate=False)
    resumed.close()
    assert shown_by_tensorboard(tmp_path / "train", "1_losses/generator_loss") == list(range(1, 11))
    assert shown_by_tensorboard(tmp_path / "train", "run/2_configuration") == ([0, begins - 1] if begins else [0])
    if killed_at > 7:  # its evaluation is of another way
        assert shown_by_tensorboard(tmp_path / "validation", "2_scores/label_accuracy") == []


def test_recovery_has_tensorboard_forget_what_is_done_again(tmp_path):
    trainer = CountingTrainer({6: math.nan})
    training_loop = make_loop(tmp_path, trainer, summary_interval=1, steps_per_loop=1)
    training_loop.train(validate=False)
    training_loop.close()
    assert shown_by_tensorboard(tmp_path / "train", "1_losses/generator_loss") == list(range(1, 11))


def test_events_hold_fewer_pictures_of_long_runs_and_those_of_the_last_step(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "has_pictures", lambda index: index == 2)
    make_loop(tmp_path, CountingTrainer(), validation_interval=2).train(validate=True)
    found = summaries_of(tmp_path / "validation")
    assert set(found["samples"]) == {4, 10} and set(found["2_scores/label_accuracy"]) == {2, 4, 6, 8, 10}


class FailingEvaluator(FixedEvaluator):
    """Fails at some evaluations, by number from 1."""

    def __init__(self, errors):
        super().__init__()
        self._errors = errors

    def evaluate(self):
        scores = super().evaluate()
        if self.evaluations in self._errors:
            raise self._errors[self.evaluations]
        return scores


def test_evaluation_that_fails_is_logged_and_counted_and_training_goes_on(tmp_path, caplog):
    evaluator = FailingEvaluator({1: ZeroDivisionError("float division by zero"), 3: ValueError("no images")})
    training_loop = make_loop(tmp_path, CountingTrainer(), evaluator, validation_interval=4)
    training_loop.train(validate=True)
    assert training_loop.step == 10 and evaluator.evaluations == 3
    assert training_loop.failed_evaluations == {
        4: "ZeroDivisionError: float division by zero",
        10: "ValueError: no images",
    }
    assert "The evaluation of step 4 failed" in caplog.text and "Traceback" in caplog.text
    assert training_loop.last_scores() is None and evaluator.evaluations == 3  # not again
    assert set(summaries_of(tmp_path / "validation")["2_scores/label_accuracy"]) == {8}


def test_worker_that_is_lost_in_an_evaluation_ends_the_run(tmp_path):
    """Of several: all must start again."""
    evaluator = FailingEvaluator({1: tf.errors.UnavailableError(None, None, "reset by peer")})
    training_loop = make_loop(tmp_path, CountingTrainer(), evaluator, strategy="tpu", validation_interval=4)
    with pytest.raises(tf.errors.UnavailableError):
        training_loop.train(validate=True)


def test_evaluation_of_a_run_that_is_done_fails_as_ever(tmp_path):
    make_loop(tmp_path, CountingTrainer()).train(validate=False)
    done = make_loop(tmp_path, CountingTrainer(), FailingEvaluator({1: ValueError("no images")}))
    done.restore()
    with pytest.raises(ValueError, match="no images"):
        done.last_scores()


class SlowEvaluator(FixedEvaluator):
    """Gets a signal, and takes longer than anybody waits."""

    def evaluate(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(6000):
            time.sleep(0.01)
        return super().evaluate()


@pytest.mark.parametrize("step", [6, 10])
def test_signal_cuts_off_an_evaluation(tmp_path, step):
    before, begin = signal.getsignal(signal.SIGTERM), time.monotonic()
    evaluator = SlowEvaluator()
    training_loop = make_loop(tmp_path, CountingTrainer(), evaluator, validation_interval=step)
    with pytest.raises(loop.PreemptedError, match=f"saved at step {step}"):
        training_loop.train(validate=True)
    assert time.monotonic() - begin < 30 and evaluator.evaluations == 0 and not training_loop.failed_evaluations
    assert checkpoints(tmp_path)[-1] == step and signal.getsignal(signal.SIGTERM) == before


def test_signal_cuts_off_the_evaluation_of_a_run_that_is_done(tmp_path):
    make_loop(tmp_path, CountingTrainer()).train(validate=False)
    done = make_loop(tmp_path, CountingTrainer(), SlowEvaluator())
    done.restore()
    with pytest.raises(loop.PreemptedError, match="Stopped by a signal during the evaluation of step 10"):
        done.last_scores()


BEST = {"best_checkpoint_export_subdir": "best", "best_checkpoint_eval_metric": "distance"}


class RankedEvaluator(FixedEvaluator):
    """Gives one `distance` after the other."""

    def __init__(self, *distances):
        super().__init__()
        self._distances = distances

    def evaluate(self):
        self.evaluations += 1
        distance = self._distances[self.evaluations - 1]
        return {"label_accuracy": 0.5} if distance is None else {"distance": distance, "label_accuracy": 0.5}


@pytest.mark.parametrize(
    "comparison, distances, best",
    [
        ("lower", (3.0, 1.0, 1.0, 2.0, None), 4),
        ("higher", (3.0, 1.0, 3.0, 4.0, 2.0), 8),
        ("higher", (None, 1.0, None, 0.5, None), 4),
    ],
)
def test_best_checkpoint_is_kept(tmp_path, comparison, distances, best, caplog):
    options = {**BEST, "best_checkpoint_metric_comp": comparison, "validation_interval": 2, "max_to_keep": 1}
    training_loop = make_loop(tmp_path, CountingTrainer(), RankedEvaluator(*distances), **options)
    training_loop.train(validate=True)
    assert checkpoints(tmp_path) == [10] and checkpoints(tmp_path / "best") == [best]
    assert {path.name for path in (tmp_path / "best").iterdir()} == {
        "best_ckpt_info.txt",
        "checkpoint",
        f"ckpt-{best}.index",
        f"ckpt-{best}.data-00000-of-00001",
    }
    info = json.loads((tmp_path / "best" / "best_ckpt_info.txt").read_text())
    assert info["best_ckpt_global_step"] == best and info["distance"] == distances[best // 2 - 1]
    path = tf.train.latest_checkpoint(str(tmp_path / "best"))
    assert path == str(tmp_path / "best" / f"ckpt-{best}")
    reader = tf.train.load_checkpoint(path)
    assert reader.get_tensor("total/.ATTRIBUTES/VARIABLE_VALUE") == sum(range(best))
    if None in distances:
        assert "has no `trainer.best_checkpoint_eval_metric` 'distance' among its scores: label_accuracy" in caplog.text


def test_best_checkpoint_outlives_a_restart_and_a_better_one_takes_its_place(tmp_path):
    options = {**BEST, "best_checkpoint_metric_comp": "lower", "validation_interval": 4}
    make_loop(tmp_path, CountingTrainer(), RankedEvaluator(2.0, 1.0), train_steps=8, **options).train(validate=True)
    for train_steps, distance, best in ((12, 1.5, 8), (16, 0.5, 16)):
        resumed = make_loop(tmp_path, CountingTrainer(), RankedEvaluator(distance), train_steps=train_steps, **options)
        resumed.restore()
        resumed.train(validate=True)
        assert checkpoints(tmp_path / "best") == [best]


def test_best_checkpoint_that_is_not_there_is_none(tmp_path):
    options = {**BEST, "validation_interval": 100}
    make_loop(tmp_path, CountingTrainer(), RankedEvaluator(2.0), train_steps=8, **options).train(validate=True)
    (tmp_path / "best" / "ckpt-8.index").unlink()
    resumed = make_loop(tmp_path, CountingTrainer(), RankedEvaluator(1.0), **options)
    resumed.restore()
    resumed.train(validate=True)
    assert checkpoints(tmp_path / "best") == [10]


def test_no_best_checkpoint_where_none_is_asked_for(tmp_path):
    make_loop(tmp_path, CountingTrainer()).train(validate=True)
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name not in ("train", "validation")]


@pytest.fixture
def quick_polls(monkeypatch):
    monkeypatch.setattr(validation, "_POLL_SECONDS", 0.01)


def test_continuous_evaluation_scores_checkpoints_as_they_come_and_ends_with_the_last(tmp_path, quick_polls):
    class Evaluator(FixedEvaluator):
        def evaluate(self):
            seen.append(int(trainer.step))
            assert int(trainer.total) == sum(range(seen[-1]))
            if seen[-1] < 10:  # the other process goes on meanwhile
                train_to({4: 6, 6: 10}[seen[-1]])
            return super().evaluate()

    def train_to(step):
        trains = make_loop(tmp_path, CountingTrainer(), train_steps=step, checkpoint_interval=4, max_to_keep=1)
        trains.restore()
        trains.train(validate=False)

    seen, trainer = [], CountingTrainer()
    train_to(4)
    scores = make_loop(tmp_path, trainer, Evaluator(), **BEST).evaluate_continuously()
    assert seen == [4, 6, 10] and scores == {"step": 10, "label_accuracy": 0.5}
    assert set(summaries_of(tmp_path / "validation")["2_scores/label_accuracy"]) == {4, 6, 10}
    assert checkpoints(tmp_path) == [10] and not (tmp_path / "run.lock").exists()


def test_continuous_evaluation_keeps_the_best_also_where_training_has_removed_it(tmp_path, quick_polls):
    class Evaluator(RankedEvaluator):
        def evaluate(self):
            for path in tmp_path.glob("ckpt-*"):
                path.unlink()
            return super().evaluate()

    make_loop(tmp_path, CountingTrainer()).train(validate=False)
    make_loop(tmp_path, CountingTrainer(), Evaluator(1.0), **BEST).evaluate_continuously()
    restored = CountingTrainer()
    tf.train.Checkpoint(**restored.checkpoint_items()).restore(str(tmp_path / "best" / "ckpt-10")).assert_consumed()
    assert int(restored.total) == sum(range(10))


def test_continuous_evaluation_ends_where_nothing_comes(tmp_path, quick_polls, caplog):
    training_loop = make_loop(tmp_path, CountingTrainer(), continuous_eval_timeout=1)
    with caplog.at_level(logging.INFO, logger="absl"):
        assert training_loop.evaluate_continuously() is None
    assert "No new checkpoint for `trainer.continuous_eval_timeout` seconds" in caplog.text


def test_continuous_evaluation_goes_on_after_one_that_fails(tmp_path, quick_polls):
    make_loop(tmp_path, CountingTrainer()).train(validate=False)
    training_loop = make_loop(tmp_path, CountingTrainer(), FailingEvaluator({1: KeyError(1)}))
    assert training_loop.evaluate_continuously() is None
    assert training_loop.failed_evaluations == {10: "KeyError: 1"}


def test_continuous_evaluation_refuses_what_is_not_whole_and_ends_at_a_signal(tmp_path, quick_polls):
    make_loop(tmp_path, CountingTrainer(), train_steps=4).train(validate=False)
    (data,) = tmp_path.glob("ckpt-4.data*")
    whole = data.read_bytes()
    data.write_bytes(whole[:10])
    with pytest.raises(ValueError, match="is whole"):
        make_loop(tmp_path, CountingTrainer()).evaluate_continuously()
    data.write_bytes(whole)
    begin = time.monotonic()
    with pytest.raises(loop.PreemptedError, match="Stopped by a signal after step 4"):
        make_loop(tmp_path, CountingTrainer(), SlowEvaluator()).evaluate_continuously()
    assert time.monotonic() - begin < 30
