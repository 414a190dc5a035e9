"""Real processes: two workers train as one does; runs stop where they are asked to; killed ones go on exactly."""

import json
import os
import random
import re
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

import cluster_test_case
import gan_test_case
import inpainting_test_case
from cluster_test_case import TRAIN_GAN, Process, start_workers
from keras_an.backend import IS_KERAS_3

pytestmark = pytest.mark.slow

STEPS = (
    ",trainer.train_steps=5,trainer.max_to_keep=5,trainer.steps_per_loop=3,trainer.summary_interval=5,trainer.checkpoint_interval=1"
    ",task.losses.orthogonal_weight=1.0"
    # With this epsilon Adam moves as SGD does, so that a wrong factor on the gradients shows.
    ",trainer.generator_optimizer.epsilon=1.0,trainer.discriminator_optimizer.epsilon=1.0"
    ",trainer.generator_optimizer.learning_rate=0.05,trainer.discriminator_optimizer.learning_rate=0.05"
)
RUNS = {
    "gan": ("trainers.train_gan", "gan_digits32", gan_test_case.SMALL + STEPS),
    "inpainting": (
        "trainers.train_inpainting",
        "inpainting_photos64",
        inpainting_test_case.SMALL + STEPS + ",trainer.pretrain_steps=0,task.losses.adversarial=1.0",
    ),
}


def runs(folder, strategy):
    """The argument of `cluster_test_case` for both trainers."""
    return json.dumps(
        [
            (
                main,
                {
                    "experiment": experiment,
                    "mode": "train",
                    "model_dir": str(folder / name),
                    "params_override": f"{override},runtime.distribution_strategy={strategy}",
                },
            )
            for name, (main, experiment, override) in RUNS.items()
        ]
    )


def values_of(checkpoint):
    """All tensors of a checkpoint by name."""
    reader = tf.train.load_checkpoint(str(checkpoint))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(("_", "save"))
    }


def test_two_workers_train_as_one_of_twice_the_batch_and_the_chief_alone_writes(tmp_path):
    """Takes two minutes: three processes trace both trainers on two cores."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    workers = start_workers(together, cluster_test_case.__file__, runs(together, "multi_worker_mirrored"))
    assert [worker.wait() for worker in workers] == [0, 0], workers[0].text()[-2000:]
    assert Process(alone / "log", cluster_test_case.__file__, runs(alone, "one_device")).wait() == 0
    for name in RUNS:
        first, one = (values_of(alone / name / f"ckpt-{step}") for step in (1, 5))
        two = values_of(together / name / "ckpt-5")
        assert set(one) == set(two)
        moved = 0.0
        for key, value in one.items():
            np.testing.assert_allclose(two[key], value, rtol=1e-3, atol=1e-4, err_msg=f"{name} {key}")
            if key.startswith("ema_generator/") and value.dtype == np.float32:
                moved = max(moved, np.abs(value - first[key]).max())
        assert moved > 3e-3, name  # or a wrong factor on gradients would not show
        # Both report the images of all replicas, and there is one event file of each run.
        assert len(list((together / name / "train").glob("events*"))) == 1
    shown = [re.findall(r"step 5/5, \d+ images/s", worker.text()) for worker in workers]
    assert [len(lines) for lines in shown] == [2, 0]


def small(**changes):
    settings = {
        "trainer.train_steps": 100_000,
        "trainer.steps_per_loop": 2,
        "trainer.summary_interval": 10,
        "trainer.checkpoint_interval": 1000,
        **changes,
    }
    return gan_test_case.SMALL + "".join(f",{key}={value}" for key, value in settings.items())


EXACT = {
    "trainer.train_steps": 24,
    "trainer.checkpoint_interval": 2,
    "trainer.max_to_keep": 3,
    "runtime.deterministic": "true",
    "runtime.distribution_strategy": "one_device",
}
KILLED = {
    "gan": (*RUNS["gan"][:2], small(**EXACT)),
    # From the first phase into the second.
    "inpainting": (
        *RUNS["inpainting"][:2],
        ",".join([inpainting_test_case.SMALL, *(f"{key}={value}" for key, value in EXACT.items())])
        + ",trainer.steps_per_loop=2,trainer.pretrain_steps=9",
    ),
}


def test_workers_stop_together_on_sigterm_go_on_and_notice_a_lost_one(tmp_path):
    """Takes a minute and a half: two workers start twice, and one waits until the other is lost."""

    def begin(**changes):
        override = small(**{"runtime.distribution_strategy": "multi_worker_mirrored", **changes})
        return start_workers(
            tmp_path, *TRAIN_GAN, f"--model_dir={tmp_path}/run", "--mode=train", f"--params_override={override}"
        )

    chief, other = begin()
    chief.wait_until(lambda: "step 10/" in chief.text())
    other.send(signal.SIGTERM)
    assert [chief.wait(30), other.wait(30)] == [75, 75]
    steps = [re.findall(r"saved at step (\d+)", worker.text()) for worker in (chief, other)]
    assert steps[0] == steps[1] and len(steps[0]) == 1
    assert os.path.basename(tf.train.latest_checkpoint(str(tmp_path / "run"))) == f"ckpt-{steps[0][0]}"

    chief, other = begin(**{"trainer.summary_interval": 1})
    wanted = f"step {int(steps[0][0]) + 5}/"
    chief.wait_until(lambda: wanted in chief.text())
    assert f"Restored {tmp_path}/run/ckpt-{steps[0][0]}" in chief.text()
    other.send(signal.SIGKILL)
    assert chief.wait(60) == 75 and other.wait() == -signal.SIGKILL
    assert "Another worker, or the TPU, does not answer" in chief.text() and "Stop and start all" in chief.text()
    assert os.path.basename(tf.train.latest_checkpoint(str(tmp_path / "run"))) == f"ckpt-{steps[0][0]}"


@pytest.mark.parametrize("name", RUNS)
def test_killed_run_ends_as_one_that_was_never_stopped_bit_for_bit(tmp_path, name):
    """Takes two minutes: a main starts five times."""
    if (name == "gan") != IS_KERAS_3:
        pytest.skip("takes a minute; each trainer is killed on one Keras")
    main, experiment, override = KILLED[name]

    def begin(folder):
        flags = (f"--experiment={experiment}", f"--model_dir={tmp_path / folder}", "--mode=train")
        environment = {"TMPDIR": str(tmp_path / f"{folder}_temporary")}
        os.makedirs(environment["TMPDIR"], exist_ok=True)
        log = tmp_path / f"{folder}.log"
        return Process(log, "-m", main, *flags, f"--params_override={override}", environment=environment)

    whole, draw = begin("whole"), random.Random(time.time_ns())
    run = tmp_path / "killed"

    def step():
        newest = tf.train.latest_checkpoint(str(run))
        return int(newest.split("-")[-1]) if newest else 0

    # In the middle of a checkpoint; at any moment; and asked to.
    process = begin("killed")
    process.wait_until(lambda: step() >= 2 and any(tmp_path.glob("killed_temporary/keras_an-*/*")))
    process.send(signal.SIGKILL)
    process.wait()
    process, first, pause = begin("killed"), step(), draw.uniform(0.0, 0.3)
    process.wait_until(lambda: step() > first)
    time.sleep(pause)
    process.send(signal.SIGKILL)
    process.wait()
    process, second = begin("killed"), step()
    process.wait_until(lambda: step() > second)
    process.send(signal.SIGTERM)
    assert process.wait() == 75
    third = step()
    assert begin("killed").wait() == whole.wait() == 0
    expected, found = values_of(tmp_path / "whole" / "ckpt-24"), values_of(run / "ckpt-24")
    where = f"killed after {first}, {second} and {third}, pause {pause:.4f}"
    assert 0 < first <= second <= third < 24, where
    assert set(found) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=f"{key}, {where}")
    assert not list(run.glob("*part")) and not list(tmp_path.glob("*_temporary/keras_an-*"))
