"""The trainers' optimizers: TensorFlow Addons' own updates, exact resume, replicas; refused where Addons is missing."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

import gan_test_case
import inpainting_test_case
from keras_an.backend import keras, loss_scale
from trainer_test_case import ONE, batches_from, state, train, values
from trainers import configs
from trainers.configs import schema
from trainers.training import checkpoints, distribution, gan_trainer, inpainting_trainer, optimizers, run_directory
from trainers.training.trainer import Trainer

try:
    import tensorflow_addons as tfa
except ImportError:
    tfa = None

needs_addons = pytest.mark.skipif(tfa is None, reason="needs TensorFlow Addons")
without_addons = pytest.mark.skipif(tfa is not None, reason="TensorFlow Addons is here")
TYPES = sorted(schema.ADDONS_OPTIMIZERS)


def tiny_params(kind, **overrides):
    both = {f"trainer__{name}__type": kind for name in configs.OPTIMIZERS}
    rates = {f"trainer__{name}__learning_rate": 0.05 for name in configs.OPTIMIZERS}
    return gan_test_case.small_params(**both, **rates, **overrides)


class TinyTrainer(Trainer):
    """Fits sums: what all trainers share, with little to trace."""

    def __init__(self, params, strategy=ONE):
        distribution.set_up_runtime(params.runtime)
        super().__init__(params, strategy, build_tiny)
        self.discriminator_optimizer = self.generator_optimizer

    @tf.function
    def train(self, iterator, num_steps):
        return self.run_steps(iterator, num_steps, ("loss",), 1, self._replica_step)

    def _replica_step(self, batches):
        variables = self.generator.trainable_variables
        with tf.GradientTape() as tape:
            sums = tf.reduce_sum(batches[0], axis=1, keepdims=True)
            loss = tf.reduce_mean((self.generator(batches[0], training=True) - sums) ** 2)
            scaled = loss * self.factor(self.generator_optimizer)
        self.apply_gradients(self.generator_optimizer, tape.gradient(scaled, variables), variables)
        return loss[None]


def build_tiny():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1, dtype="float32")])


def points(strategy=ONE, start=0):
    """Endless batches of eight points, from one of them on."""
    values = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices(values).repeat().batch(8, drop_remainder=True).skip(start)
    return iter(strategy.experimental_distribute_dataset(data))


@without_addons
@pytest.mark.parametrize("name", configs.OPTIMIZERS)
@pytest.mark.parametrize("kind", TYPES)
def test_types_of_addons_are_refused_without_it(name, kind):
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve("gan_digits32", params_override=f"trainer.{name}.type={kind}")
    message = str(caught.value)
    assert f"`trainer.{name}.type` '{kind}' is of TensorFlow Addons, which runs on TensorFlow 2.15 alone" in message
    assert ".[train,addons]" in message and "No module named 'tensorflow_addons'" in message and "\n" not in message


@without_addons
def test_main_refuses_them_before_anything_is_made(tmp_path):
    override = "trainer.discriminator_optimizer.type=lamb"
    with pytest.raises(SystemExit) as caught:
        gan_test_case.call_main(
            "trainers.train_gan", experiment="gan_digits32", model_dir=tmp_path / "run", params_override=override
        )
    assert caught.value.code == 2 and not list(tmp_path.iterdir())


def test_addons_that_break_on_import_are_refused_with_the_reason(monkeypatch):
    def broken(name):
        raise AttributeError(f"no attribute\nof {name}")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(configs.ConfigError, match="AttributeError: no attribute of tensorflow_addons"):
        configs.resolve("gan_digits32", params_override="trainer.generator_optimizer.type=lookahead")


def test_a_run_is_read_without_addons(tmp_path):
    """Its generator can be scored and exported where its optimizers are not."""
    params = configs.resolve("gan_digits32")
    params.trainer.generator_optimizer.type = "lamb"
    (tmp_path / "params.yaml").write_text(configs.dump(params), encoding="utf-8")
    assert configs.load_params(tmp_path / "params.yaml") == params


@pytest.mark.parametrize("name", configs.OPTIMIZERS)
def test_unknown_type_names_the_nearest(name):
    with pytest.raises(configs.ConfigError, match=f"`trainer.{name}.type` must be .*Did you mean `lazy_adam`.*'lazy'"):
        configs.resolve("gan_digits32", params_override=f"trainer.{name}.type=lazy")


@pytest.mark.parametrize("name", configs.OPTIMIZERS)
def test_another_type_is_another_run(tmp_path, name):
    params = configs.resolve("gan_digits32")
    run_directory.prepare(str(tmp_path), params)
    (tmp_path / "ckpt-1.index").write_text("", encoding="utf-8")
    getattr(params.trainer, name).type = "lamb"
    with pytest.raises(run_directory.RunDirectoryError, match=rf"trainer\.{name}\.type: 'adam' -> 'lamb'"):
        run_directory.check(str(tmp_path), params)


def addons_own(kind, rate):
    """The optimizer of Addons that a type means, as a user of Addons writes it."""
    adam = {"learning_rate": rate, "beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-3}
    inner = keras.optimizers.legacy.Adam(**adam)
    return {
        "lamb": lambda: tfa.optimizers.LAMB(**adam),
        "lazy_adam": lambda: tfa.optimizers.LazyAdam(**adam),
        "rectified_adam": lambda: tfa.optimizers.RectifiedAdam(**adam),
        "lookahead": lambda: tfa.optimizers.Lookahead(inner, sync_period=6, slow_step_size=0.5),
        "moving_average": lambda: tfa.optimizers.MovingAverage(inner, average_decay=0.75, dynamic_decay=True),
    }[kind]()


def updated(optimizer, variables, num_updates=13):
    """The variables, and then the optimizer's, after updates by the same gradients each time."""
    for step in range(num_updates):
        random = np.random.default_rng(step)
        gradients = [tf.constant(random.normal(size=variable.shape), tf.float32) for variable in variables]
        optimizer.apply_gradients(zip(gradients, variables))
    return values([*variables, *optimizers.variables_of(optimizer)])


@needs_addons
@pytest.mark.parametrize("decay_steps", [0, 20])
@pytest.mark.parametrize("kind", TYPES)
def test_updates_are_those_of_addons(kind, decay_steps):
    config = schema.OptimizerConfig(kind, 0.05, 0.5, 0.8, 1e-3, decay_steps)
    rate = keras.optimizers.schedules.CosineDecay(0.05, 20, 0.01) if decay_steps else 0.05
    found, expected = [tf.Variable([[1.0, -2.0], [3.0, 0.5]]), tf.Variable(0.0)], []
    expected = [tf.Variable(variable) for variable in found]
    optimizer = optimizers.make(config, found, average_decay=0.75)
    built = len(optimizers.variables_of(optimizer))
    found, expected = updated(optimizer, found), updated(addons_own(kind, rate), expected)
    assert len(found) == len(expected) == 2 + built, "all variables are there before the first update"
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one, other)
    adam = keras.optimizers.Adam(rate, 0.5, 0.8, 1e-3)
    variables = [tf.Variable([[1.0, -2.0], [3.0, 0.5]]), tf.Variable(0.0)]
    differs = np.abs(updated(adam, variables)[0] - found[0]).max() > 1e-3
    assert differs == (kind not in ("lazy_adam", "moving_average")), "which are Adam where all gradients are dense"


@needs_addons
@pytest.mark.parametrize("kind", TYPES)
def test_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path, kind):
    """Seven updates, so that "lookahead" steps back after the break."""
    resume(TinyTrainer, tiny_params(kind), points, tmp_path, num_steps=(4, 3))


@needs_addons
def test_resumed_gan_equals_the_unbroken_one_on_two_replicas(mirrored, eager, tmp_path):
    params = gan_test_case.small_params(
        task__model__resolution=8,
        trainer__generator_optimizer__type="lookahead",
        trainer__discriminator_optimizer__type="lamb",
    )

    def make(params):
        distribution.set_up_runtime(params.runtime)
        return gan_trainer.GanTrainer(params, mirrored)

    trainer = resume(make, params, lambda start=0: batches_from(params, start, mirrored), tmp_path, num_steps=(1, 2))
    assert isinstance(trainer.generator_optimizer, tfa.optimizers.Lookahead)
    assert isinstance(trainer.discriminator_optimizer, tfa.optimizers.LAMB)


def resume(make, params, batches, folder, num_steps):
    """Checks that a run is the same with and without a break after the first of two numbers of steps."""
    trainer, iterator = make(params), batches()
    before = state(trainer)
    train(trainer, iterator, num_steps[0])
    path = tf.train.Checkpoint(**trainer.checkpoint_items()).write(str(folder / "ckpt"))
    losses, expected = train(trainer, iterator, num_steps[1]), state(trainer)
    assert all(np.isfinite(value) for value in losses.values())
    for item in ("generator", "generator_optimizer"):
        assert any(not np.array_equal(before[name], expected[name]) for name in before if name.startswith(f"{item}/"))

    resumed = make(params)
    tf.train.Checkpoint(**resumed.checkpoint_items()).read(path).assert_consumed()
    resumed.set_learning_rates()
    assert train(resumed, batches(start=num_steps[0]), num_steps[1]) == losses
    found = state(resumed)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    return resumed


@needs_addons
@pytest.mark.parametrize("kind", TYPES)
def test_learning_rates_are_those_of_the_configuration(kind):
    trainer = TinyTrainer(tiny_params(kind))
    for name in configs.OPTIMIZERS:
        getattr(trainer.params.trainer, name).learning_rate = 0.5
    trainer.set_learning_rates()
    assert float(tf.convert_to_tensor(trainer.generator_optimizer.learning_rate)) == 0.5


@needs_addons
def test_moving_average_is_the_average_of_the_trainer():
    trainer = TinyTrainer(tiny_params("moving_average", trainer__ema_decay=0.3))
    train(trainer, points(), 5)
    for variable, average in zip(trainer.generator.trainable_variables, trainer.ema_generator.trainable_variables):
        found = trainer.generator_optimizer.get_slot(variable, "average")
        assert np.abs(found - variable).max() > 1e-3
        np.testing.assert_allclose(found, average, rtol=1e-5, atol=1e-6, err_msg=variable.name)


@needs_addons
@pytest.mark.parametrize("kind", TYPES)
def test_weights_that_are_not_finite_are_seen(tmp_path, kind):
    """Also in the slots of the optimizer within."""
    trainer = TinyTrainer(tiny_params(kind))
    optimizer = getattr(trainer.generator_optimizer, "_optimizer", trainer.generator_optimizer)
    optimizer.get_slot(trainer.generator.trainable_variables[0], "v").assign(tf.fill((3, 4), np.nan))
    with pytest.raises(checkpoints.NotFiniteError, match="1 weights are not finite"):
        checkpoints.Checkpoints(trainer.checkpoint_items(), str(tmp_path), 1).save(1)


@needs_addons
@pytest.mark.parametrize("kind", TYPES)
def test_two_replicas_move_as_one(mirrored, kind):
    def trained(strategy):
        trainer = TinyTrainer(tiny_params(kind), strategy)
        train(trainer, points(strategy), 7)
        return state(trainer)

    one, two = trained(ONE), trained(mirrored)
    assert set(one) == set(two)
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@needs_addons
@pytest.mark.parametrize("kind", TYPES)
def test_float16_scales_the_loss(mirrored, kind):
    """A finite scale, which falls by half where a replica's gradients are not finite, and nothing else moves."""
    trainer = TinyTrainer(tiny_params(kind, runtime__mixed_precision_dtype="float16"), mirrored)
    before, scale = state(trainer), float(loss_scale(trainer.generator_optimizer))
    bad = tf.data.Dataset.from_tensors(np.float32([[1.0] * 3] * 7 + [[np.inf] * 3])).repeat()
    train(trainer, iter(mirrored.experimental_distribute_dataset(bad)), 2)
    assert float(loss_scale(trainer.generator_optimizer)) == scale / 4
    for name, value in state(trainer).items():
        if name.startswith("generator") and value.dtype.kind == "f":  # the count of updates goes on
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    losses = [train(trainer, points(mirrored), 20)["loss"] for _ in range(2)]
    assert losses[1] < losses[0]


@needs_addons
def test_inpainting_takes_them_too(eager):
    params = inpainting_test_case.small_params(
        trainer__generator_optimizer__type="lamb",
        trainer__discriminator_optimizer__type="rectified_adam",
        trainer__pretrain_steps=0,
    )
    distribution.set_up_runtime(params.runtime)
    trainer = inpainting_trainer.InpaintingTrainer(params, ONE)
    assert isinstance(trainer.generator_optimizer, tfa.optimizers.LAMB)
    assert isinstance(trainer.critic_optimizer, tfa.optimizers.RectifiedAdam)
    before = state(trainer)
    assert all(np.isfinite(value) for value in train(trainer, batches_from(params), 1).values())
    after = state(trainer)
    for network in ("generator/", "global_critic/", "patch_critic/", "critic_optimizer/"):
        assert any(not np.array_equal(before[name], after[name]) for name in before if name.startswith(network))
