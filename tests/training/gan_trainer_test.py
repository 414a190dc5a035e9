"""One step of the GAN: what moves, how far, and that a break in a run leaves no trace.

The file is long because all tests share traced steps.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import small_params as params_of
from keras_an.backend import keras
from keras_an.models import attentive_layers
from trainer_test_case import ONE, batches_from, state, train, values
from trainers.training import distribution, gan_trainer


def small_params(**overrides):
    """One block in each network: tracing is what costs time here."""
    return params_of(task__model__resolution=8, **overrides)


def make_trainer(params, strategy=ONE):
    distribution.set_up_runtime(params.runtime)
    return gan_trainer.GanTrainer(params, strategy)


class Unbroken:
    """A run of six steps without a break, and what was seen on the way."""

    def __init__(self, folder):
        self.params = small_params()
        self.trainer = make_trainer(self.params)
        checkpoint = tf.train.Checkpoint(**self.trainer.checkpoint_items())
        iterator = batches_from(self.params)
        self.states, self.losses = [state(self.trainer)], []
        for num_steps in (1, 1, 2, 2):
            self.losses.append(train(self.trainer, iterator, num_steps))
            self.states.append(state(self.trainer))
            if int(self.trainer.step) == 4:
                self.checkpoint = checkpoint.write(f"{folder}/ckpt")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return Unbroken(tmp_path_factory.mktemp("unbroken"))


def test_metrics_are_finite_and_named(unbroken):
    for losses in unbroken.losses:
        assert tuple(losses) == gan_trainer.METRICS
        assert all(np.isfinite(value) for value in losses.values())


def test_generator_loss_and_hinge_bounds_hold(unbroken):
    for losses in unbroken.losses:
        # relu(1 - real) + relu(1 + fake) is at least what its means give.
        assert losses["discriminator_loss"] >= 2.0 - losses["discriminator_real"] + losses["discriminator_fake"] - 1e-5
        assert losses["orthogonality_loss"] > 0.0


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_every_trainable_weight_of_both_networks_moves(unbroken, network):
    before, after = unbroken.states[0], unbroken.states[-1]
    variables = getattr(unbroken.trainer, network).variables
    trainable = {id(variable) for variable in getattr(unbroken.trainer, network).trainable_variables}
    still = [
        variable.name
        for index, variable in enumerate(variables)
        if id(variable) in trainable and np.array_equal(before[f"{network}/{index}"], after[f"{network}/{index}"])
    ]
    assert not still


def test_step_counts_steps(unbroken):
    assert [int(found["step/0"]) for found in unbroken.states] == [0, 1, 2, 4, 6]


@pytest.mark.parametrize("step", [0, 1])
def test_average_follows_the_generator_by_its_formula(unbroken, step):
    before, after = unbroken.states[step], unbroken.states[step + 1]
    decay = min(unbroken.params.trainer.ema_decay, (1.0 + step) / (10.0 + step))
    names = [name.split("/")[1] for name in before if name.startswith("generator/")]
    moved = 0
    for index in names:
        old, new = before[f"ema_generator/{index}"], after[f"generator/{index}"]
        if new.dtype.kind == "f":
            expected = decay * old + (1.0 - decay) * new
            moved += not np.array_equal(old, new)
        else:
            expected = new
        np.testing.assert_allclose(after[f"ema_generator/{index}"], expected, rtol=1e-5, atol=1e-6)
    assert moved > len(names) // 2


def test_average_starts_as_the_generator(unbroken):
    first = unbroken.states[0]
    for name, value in first.items():
        if name.startswith("generator/"):
            np.testing.assert_array_equal(first[f"ema_{name}"], value)


def test_resumed_run_equals_the_unbroken_one_bit_for_bit(unbroken):
    resumed = make_trainer(unbroken.params)
    checkpoint = tf.train.Checkpoint(**resumed.checkpoint_items())
    checkpoint.read(unbroken.checkpoint).assert_consumed()
    losses = train(resumed, batches_from(unbroken.params, start_batch=4), 2)
    assert losses == unbroken.losses[-1]
    expected, found = unbroken.states[-1], state(resumed)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_resumed_run_takes_the_learning_rates_that_it_is_given(unbroken):
    params = small_params(
        trainer__generator_optimizer__learning_rate=0.5, trainer__discriminator_optimizer__learning_rate=0.25
    )
    resumed = make_trainer(params)
    tf.train.Checkpoint(**resumed.checkpoint_items()).read(unbroken.checkpoint).assert_consumed()
    resumed.set_learning_rates()
    optimizers = resumed.generator_optimizer, resumed.discriminator_optimizer
    assert [float(tf.convert_to_tensor(optimizer.learning_rate)) for optimizer in optimizers] == [0.5, 0.25]


@pytest.mark.slow
def test_xla_gives_the_same_losses(unbroken):
    """Takes 30 seconds, most of which XLA compiles."""
    compiled = make_trainer(small_params(runtime__enable_xla="true"))
    initial = unbroken.states[0]
    for name, value in state(compiled).items():
        np.testing.assert_array_equal(value, initial[name], err_msg=name)
    iterator = batches_from(compiled.params)
    for step in (0, 1):
        losses = train(compiled, iterator, 1)
        for name, value in losses.items():
            assert value == pytest.approx(unbroken.losses[step][name], abs=1e-4), (step, name)


def test_bfloat16_stays_finite_and_keeps_weights_in_float32():
    trainer = make_trainer(small_params(runtime__mixed_precision_dtype="bfloat16"))
    losses = train(trainer, batches_from(trainer.params), 2)
    images = trainer.generator([tf.zeros((1, 8)), tf.constant([0])], training=False)
    assert trainer.generator.get_layer("block1_add").compute_dtype == "bfloat16"
    assert all(np.isfinite(value) for value in losses.values())
    assert images.dtype == tf.float32
    assert {value.dtype for value in state(trainer).values() if value.dtype.kind not in "iu"} == {np.dtype("float32")}


def with_sgd(trainer, strategy=ONE):
    """The trainer with optimizers that show a wrong factor, as Adam does not."""
    for network in ("generator", "discriminator"):
        with strategy.scope():
            optimizer = keras.optimizers.SGD(0.05)
            optimizer.build(getattr(trainer, network).trainable_variables)
        setattr(trainer, f"{network}_optimizer", optimizer)
    return trainer


def test_accumulated_gradients_are_means_over_their_batches(eager, monkeypatch):
    """Two batches that are the same move the weights as one of them does."""
    random = np.random.default_rng(0)
    z, labels = tf.constant(random.normal(size=(4, 8)), tf.float32), tf.constant([1, 3, 5, 7])
    batch = {"image": tf.constant(random.uniform(-1, 1, (4, 8, 8, 1)), tf.float32), "label": labels}
    monkeypatch.setattr(gan_trainer.GanTrainer, "_draw", lambda *unused: (z, labels))

    def one_step(size):
        trainer = with_sgd(make_trainer(small_params(trainer__gradient_accumulation_steps=size)))
        # What a call moves besides, averages of batch norm and power iteration, would differ.
        for network in (trainer.generator, trainer.discriminator):
            monkeypatch.setattr(network, "call", functools.partial(_call_still, network, network.call))
        losses = train(trainer, iter(tf.data.Dataset.from_tensors(batch).repeat()), 1)
        return trainer, losses

    one, losses = one_step(1)
    two, mean_losses = one_step(2)
    assert (one.images_per_step, two.images_per_step) == (8, 16)
    for name, value in losses.items():
        assert mean_losses[name] == pytest.approx(value, rel=1e-5, abs=1e-6)
    for network in ("generator", "discriminator"):
        for first, second in zip(getattr(one, network).trainable_variables, getattr(two, network).trainable_variables):
            np.testing.assert_allclose(values([second])[0], values([first])[0], atol=1e-6)


def _call_still(network, call, *args, **kwargs):
    # On Keras 2 the random state of self-sampling is none of them.
    states = [layer.sampling_state for layer in network._flatten_layers() if getattr(layer, "self_sampling", False)]
    moving = [*network.non_trainable_variables, *states]
    before = values(moving)
    outputs = call(*args, **kwargs)
    for variable, value in zip(moving, before):
        variable.assign(value)
    return outputs


def test_each_update_takes_batches_of_its_own(eager):
    params = small_params(trainer__discriminator_steps=3, trainer__gradient_accumulation_steps=2)
    trainer, iterator = make_trainer(params), batches_from(params)
    train(trainer, iterator, 1)
    assert trainer.batches_per_step == 6
    assert trainer.images_per_step == 6 * params.task.train_data.global_batch_size
    np.testing.assert_array_equal(next(iterator)["image"], next(batches_from(params, start_batch=6))["image"])


@pytest.mark.parametrize("kind", ["balanced", "natural"])
def test_labels_of_generated_images(kind):
    params = small_params(task__model__fake_labels=kind)
    drawing = gan_trainer.GanTrainer.__new__(gan_trainer.GanTrainer)
    drawing.params, drawing.step, drawing.strategy = params, tf.Variable(0, dtype=tf.int64), ONE
    real = tf.constant([7] * 900 + [2] * 100)
    _, labels = drawing._draw(real, 0, 0)
    counts = np.bincount(labels.numpy(), minlength=10)
    if kind == "natural":
        np.testing.assert_array_equal(labels, real)
    else:
        assert counts.sum() == 1000 and counts.min() > 60 and counts.max() < 140


def test_average_is_the_generator_before_it_starts(eager):
    params = small_params(trainer__ema_start_step=1)
    trainer, iterator = make_trainer(params), batches_from(params)
    train(trainer, iterator, 1)
    for average, value in zip(values(trainer.ema_generator.variables), values(trainer.generator.variables)):
        np.testing.assert_array_equal(average, value)
    train(trainer, iterator, 1)
    pairs = zip(values(trainer.ema_generator.trainable_variables), values(trainer.generator.trainable_variables))
    assert any(not np.array_equal(average, value) for average, value in pairs)


def test_augmentation_changes_what_the_discriminator_sees(eager, monkeypatch):
    seen = []
    monkeypatch.setattr(
        gan_trainer.augmentation, "augment", lambda images, policy, draws: seen.append((policy, draws)) or images
    )
    params = small_params(task__augmentation="[color,cutout]", trainer__discriminator_steps=2)
    train(make_trainer(params), batches_from(params), 1)
    assert [policy for policy, _ in seen] == 3 * [["color", "cutout"]]
    assert len({draws.numpy()[:8].tobytes() for _, draws in seen}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["none", "self_attention"])
def test_baselines_train_as_well(attention):
    params = small_params(task__model__attention=attention, task__augmentation="[color,translation,cutout]")
    losses = train(make_trainer(params), batches_from(params), 2)
    assert all(np.isfinite(value) for value in losses.values())


def test_draws_differ_by_replica_step_and_purpose_and_repeat(mirrored):
    params = small_params()
    with mirrored.scope():
        step = tf.Variable(0, dtype=tf.int64, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
    drawing = gan_trainer.GanTrainer.__new__(gan_trainer.GanTrainer)
    drawing.params, drawing.step, drawing.strategy = params, step, mirrored

    @tf.function
    def draw(purpose, index):
        return mirrored.run(lambda: drawing._draw(tf.zeros((64,), tf.int32), purpose, index))

    def values_of(purpose, index):
        z, labels = draw(purpose, index)
        for part in mirrored.experimental_local_results(labels):
            assert part.dtype == tf.int32 and set(part.numpy()) <= set(range(10)) and len(set(part.numpy())) > 5
        return [part.numpy().tobytes() for part in mirrored.experimental_local_results(z)]

    first = [values_of(purpose, index) for purpose, index in ((0, 0), (0, 1), (1, 0))]
    again = values_of(0, 0)
    step.assign_add(1)
    later = values_of(0, 0)
    assert again == first[0]
    assert len({*sum(first, []), *later}) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    # XLA takes most of its time for the attention of the discriminator, which is the generator's.
    [
        {},
        {
            "runtime__enable_xla": "true",
            "task__model__synchronized_batch_norm": "false",
            "task__model__discriminator__attention_blocks": "[]",
        },
    ],
    ids=["graph", "XLA"],
)
def test_replicas_stay_in_step(mirrored, changes):
    """After steps that sample, average and iterate apart, every replica has the same state.

    With XLA it takes 35 seconds: each replica compiles.
    """
    params = small_params(runtime__distribution_strategy="mirrored", **changes)
    trainer = make_trainer(params, mirrored)
    losses = train(trainer, batches_from(params, strategy=mirrored), 3)
    assert all(np.isfinite(value) for value in losses.values())

    @tf.function
    def read():
        shared = [
            *trainer.generator.trainable_variables,
            *trainer.discriminator.variables,
            *(layer.sampling_state for layer in attentive_layers(trainer.generator)),
        ]
        return mirrored.run(lambda: [tf.convert_to_tensor(variable) for variable in shared])

    found = [mirrored.experimental_local_results(value) for value in read()]
    assert len(found) > 20
    for first, second in found:
        np.testing.assert_array_equal(first, second)


def test_xla_and_moments_of_all_replicas_exclude_each_other(mirrored):
    with pytest.raises(ValueError, match="with 2 replicas `runtime.enable_xla` needs `task.model.synchronized_batch"):
        gan_trainer.GanTrainer(small_params(runtime__enable_xla="true"), mirrored)
