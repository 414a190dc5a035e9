"""Learning rates and Keras's optimizers by name, and a run that goes on with another schedule."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

import gan_test_case
from keras_an.backend import keras
from trainer_test_case import ONE, batches_from, state, train
from trainers import configs
from trainers.configs import schema
from trainers.training import checkpoints, distribution, gan_trainer, optimizers


def expected_rate(step, rate, schedule, decay, warmup, alpha=0.0, end=0.0, power=1.0, first=0.0):
    """The rate of an update by Model Garden's definitions, in plain Python."""
    if step < warmup:
        after = expected_rate(warmup, rate, schedule, decay, 0, alpha, end, power)
        return first + step / warmup * (after - first)
    share = min(step, decay) / decay if decay else 0.0
    if schedule == "cosine":
        return rate * ((1 - alpha) * 0.5 * (1 + math.cos(math.pi * share)) + alpha)
    if schedule == "polynomial" and decay:
        return (rate - end) * (1 - share) ** power + end
    return rate


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("decay", [0, 8])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "polynomial"])
def test_rate_of_every_update_is_that_of_the_schedule(schedule, decay, warmup):
    """SGD on a gradient of 1 moves by the rate."""
    settings = {"alpha": 0.25, "end_learning_rate": 0.125, "power": 2.0, "warmup_learning_rate": 0.0625}
    config = schema.OptimizerConfig("sgd", 0.5, schedule=schedule, decay_steps=decay, warmup_steps=warmup, **settings)
    variable = tf.Variable([0.0])
    optimizer = optimizers.make(config, [variable], 0.0)
    for step in range(11):
        before = variable.numpy()[0]
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        expected = expected_rate(step, 0.5, schedule, decay, warmup, 0.25, 0.125, 2.0, 0.0625)
        np.testing.assert_allclose(before - variable.numpy()[0], expected, rtol=1e-5, err_msg=str(step))


def test_schedule_tells_what_it_is_made_of():
    schedule = optimizers.LinearWarmup(0.5, 3, 0.25)
    assert optimizers.LinearWarmup(**schedule.get_config())(1) == schedule(1)


KERAS = {
    "adam": lambda rate: keras.optimizers.Adam(rate, beta_1=0.5, beta_2=0.75, epsilon=1e-3),
    "adamw": lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.5, beta_1=0.5, beta_2=0.75, epsilon=1e-3),
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.5, nesterov=True),
    "rmsprop": lambda rate: keras.optimizers.RMSprop(rate, rho=0.75, momentum=0.5, epsilon=1e-3),
}


def updated(optimizer, variables):
    for step in range(5):
        random = np.random.default_rng(step)
        gradients = [tf.constant(random.normal(size=variable.shape), tf.float32) for variable in variables]
        optimizer.apply_gradients(zip(gradients, variables))
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("kind", KERAS)
def test_updates_are_those_of_keras(kind):
    config = schema.OptimizerConfig(
        kind, 0.05, 0.5, 0.75, 1e-3, weight_decay=0.5, momentum=0.5, nesterov=kind == "sgd", rho=0.75
    )
    found = {}
    for name, make in KERAS.items():
        variables = [tf.Variable([[1.0, -2.0], [3.0, 0.5]]), tf.Variable([4.0])]
        optimizer = make(0.05)
        optimizer.build(variables)
        found[name] = updated(optimizer, variables)
    variables = [tf.Variable([[1.0, -2.0], [3.0, 0.5]]), tf.Variable([4.0])]
    own = updated(optimizers.make(config, variables, 0.0), variables)
    for name, expected in found.items():
        same = all(np.array_equal(one, other) for one, other in zip(own, expected))
        assert same == (name == kind), name


@pytest.mark.parametrize(
    "pair, words",
    [
        ("type=adamm", "Did you mean `adam`?"),
        ("schedule=cosin", "Did you mean `cosine`?"),
        ("warmup_steps=-1", "warmup_steps` must not be negative. Received: -1"),
        ("momentum=1", r"momentum` must be in [0, 1). Received: 1.0"),
        ("power=0", "power` must be positive. Received: 0.0"),
        ("weight_decay=-1", "weight_decay` must not be negative. Received: -1.0"),
    ],
)
@pytest.mark.parametrize("name", configs.OPTIMIZERS)
def test_settings_out_of_range_are_refused(name, pair, words):
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve("gan_digits32", params_override=f"trainer.{name}.{pair}")
    assert f"`trainer.{name}." in str(caught.value) and words in str(caught.value)


def test_experiments_keep_their_rates():
    """A cosine to a hundredth was all that there was."""
    config = configs.resolve("inpainting_photos64").trainer.generator_optimizer
    schedule = optimizers.learning_rate(config)
    expected = keras.optimizers.schedules.CosineDecay(1e-3, 6100, 0.01)
    assert [float(schedule(step)) for step in (0, 3000, 9000)] == [float(expected(step)) for step in (0, 3000, 9000)]
    assert optimizers.learning_rate(configs.resolve("gan_digits32").trainer.generator_optimizer) == 5e-4


CONSTANT, COSINE = {"decay_steps": 0}, {"decay_steps": 10}
WARM = {"schedule": "constant", "warmup_steps": 4}


def trainer_of(optimizer, dtype="float32"):
    params = gan_test_case.small_params(
        task__model__resolution=8,
        task__model__attention="none",
        runtime__mixed_precision_dtype=dtype,
        **{f"trainer__{name}__{key}": value for name in configs.OPTIMIZERS for key, value in optimizer.items()},
    )
    distribution.set_up_runtime(params.runtime)
    return gan_trainer.GanTrainer(params, ONE)


@pytest.mark.parametrize(
    "old, new, dtype",
    [
        (CONSTANT, COSINE, "float32"),
        (COSINE, CONSTANT, "float32"),
        (COSINE, WARM, "float32"),
        (CONSTANT, WARM, "float16"),
        (WARM, CONSTANT, "float16"),
    ],
)
def test_run_goes_on_with_another_schedule(tmp_path, old, new, dtype):
    trainer = trainer_of(old, dtype)
    train(trainer, batches_from(trainer.params), 2)
    path = tf.train.Checkpoint(**trainer.checkpoint_items()).save(str(tmp_path / "ckpt"))
    resumed = trainer_of(new, dtype)
    assert checkpoints.Checkpoints(resumed.checkpoint_items(), str(tmp_path), 3).restore() == path
    resumed.set_learning_rates()
    expected, found = state(trainer), state(resumed)
    for name, value in expected.items():
        if "optimizer" not in name:
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    for name in ("generator_optimizer", "discriminator_optimizer"):
        sizes = [
            sorted(value.shape for key, value in part.items() if key.startswith(name)) for part in (expected, found)
        ]
        assert [shape for shape in sizes[0] if shape] == [shape for shape in sizes[1] if shape]
        one, two = (getattr(part, name) for part in (trainer, resumed))
        assert int(tf.convert_to_tensor(one.iterations)) == int(tf.convert_to_tensor(two.iterations))
        moments = [
            [value for key, value in part.items() if key.startswith(name) and value.ndim] for part in (expected, found)
        ]
        for left, right in zip(*moments):
            np.testing.assert_array_equal(left, right)
        if new is CONSTANT:
            rate = getattr(resumed.params.trainer, name).learning_rate
            assert float(tf.convert_to_tensor(two.learning_rate)) == np.float32(rate)
    losses = train(resumed, batches_from(resumed.params, 2), 1)
    assert all(np.isfinite(value) for key, value in losses.items() if key.endswith("_loss"))


def test_schedule_of_addons_is_held():
    old = configs.resolve("gan_digits32")
    old.trainer.generator_optimizer.type = "lamb"
    optimizer = dataclasses.replace(old.trainer.generator_optimizer, decay_steps=5)
    new = dataclasses.replace(old, trainer=dataclasses.replace(old.trainer, generator_optimizer=optimizer))
    found = configs.changes(old, new)
    assert found["held"] == ["trainer.generator_optimizer.decay_steps: 0 -> 5"] and not found["inexact"]
