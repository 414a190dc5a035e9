"""Two replicas of a batch train as one of a batch twice as large does, in both trainers."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

import gan_test_case
import inpainting_test_case
from cluster_test_case import fixed_positions
from keras_an.backend import keras, loss_scale
from keras_an.layers import attentive_normalization
from trainer_test_case import ONE, batches_from, state, train
from trainers.training import distribution, gan_trainer, inpainting_trainer

# Heavy terms, so that a wrong factor on one of them shows.
GAN = gan_test_case.small_params(
    task__model__resolution=8, task__losses__orthogonal_weight=1.0, task__augmentation="[color,translation,cutout]"
)
INPAINTING = inpainting_test_case.small_params(
    trainer__pretrain_steps=2, task__losses__orthogonal_weight=1.0, task__losses__adversarial=1.0
)


@pytest.fixture
def sampling_at_fixed_positions(monkeypatch):
    monkeypatch.setattr(attentive_normalization, "sample_positions", fixed_positions)


def trained(trainer_class, params, strategy, num_steps=5):
    """The state before and after steps with SGD, since Adam hides wrong factors, and the losses."""
    distribution.set_up_runtime(params.runtime)
    trainer = trainer_class(params, strategy)
    optimizers = {"generator_optimizer": trainer.generator.trainable_variables}
    if trainer_class is gan_trainer.GanTrainer:
        optimizers["discriminator_optimizer"] = trainer.discriminator.trainable_variables
    else:
        optimizers["critic_optimizer"] = trainer._critic_variables()
    for name, variables in optimizers.items():
        with strategy.scope():
            optimizer = keras.optimizers.SGD(0.02)
            optimizer.build(variables)
        setattr(trainer, name, optimizer)
    before, iterator = state(trainer), batches_from(params, strategy=strategy)
    losses = [train(trainer, iterator, 1) for _ in range(num_steps)]
    return before, state(trainer), losses


@pytest.mark.parametrize(
    "trainer_class, params, networks",
    [
        (gan_trainer.GanTrainer, GAN, ("generator", "discriminator")),
        (inpainting_trainer.InpaintingTrainer, INPAINTING, ("generator", "global_critic", "patch_critic")),
    ],
    ids=["gan", "inpainting"],
)
def test_two_replicas_train_as_one_of_twice_the_batch(
    mirrored, eager, sampling_at_fixed_positions, trainer_class, params, networks
):
    before, one, losses = trained(trainer_class, params, ONE)
    start, two, replica_losses = trained(trainer_class, params, mirrored)
    for network in networks:
        keys = [key for key in before if key.startswith(f"{network}/")]
        assert max(np.abs(one[key] - before[key]).max() for key in keys) > 2e-3
        for key in keys:
            np.testing.assert_array_equal(start[key], before[key], err_msg=key)
            # Keras 2's own batch norm divides the moving variance by n - 1, that over replicas by n.
            np.testing.assert_allclose(two[key], one[key], rtol=2e-3, atol=2e-5, err_msg=key)
    for found, wanted in zip(replica_losses, losses):
        exact = {name for name in wanted if not name.endswith(("_norm", "_least", "_most"))}  # which are not means
        assert {name: found[name] for name in exact} == pytest.approx(
            {name: wanted[name] for name in exact}, rel=1e-3, abs=1e-4
        )


@pytest.mark.parametrize(
    "trainer_class, params", [(gan_trainer.GanTrainer, GAN), (inpainting_trainer.InpaintingTrainer, INPAINTING)]
)
def test_float16_scales_the_loss_and_trains(mirrored, eager, monkeypatch, trainer_class, params):
    params = dataclasses.replace(params, runtime=dataclasses.replace(params.runtime, mixed_precision_dtype="float16"))
    distribution.set_up_runtime(params.runtime)
    # The scale at the start is meant to be lowered in the first steps; here they are few.
    scaling = functools.partial(keras.mixed_precision.LossScaleOptimizer, initial_scale=64.0)
    monkeypatch.setattr(keras.mixed_precision, "LossScaleOptimizer", scaling)
    trainer = trainer_class(params, mirrored)
    before, iterator = state(trainer), batches_from(params, strategy=mirrored)
    losses = [train(trainer, iterator, 1) for _ in range(3)]
    after = state(trainer)
    assert all(np.isfinite(value) for found in losses for value in found.values())
    assert all(np.isfinite(value).all() for value in after.values())
    moved = [name for name in before if name.startswith("generator/") and not np.array_equal(before[name], after[name])]
    assert len(moved) > 10
    assert {float(loss_scale(optimizer)) for optimizer in optimizers_of(trainer)} <= {64.0, 32.0, 16.0}


def test_an_infinity_on_one_replica_is_skipped_by_both(mirrored):
    params = dataclasses.replace(GAN, runtime=dataclasses.replace(GAN.runtime, mixed_precision_dtype="float16"))
    distribution.set_up_runtime(params.runtime)
    trainer = gan_trainer.GanTrainer(params, mirrored)
    optimizer, variables = trainer.generator_optimizer, trainer.generator.trainable_variables

    @tf.function
    def apply(values):
        def on_replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            gradients = [tf.fill(variable.shape, values[replica]) for variable in variables]
            trainer.apply_gradients(optimizer, gradients, variables)

        mirrored.run(on_replica)

    @tf.function
    def read():
        return mirrored.run(lambda: [tf.convert_to_tensor(variable) for variable in variables])

    def weights():
        return [part.numpy() for value in read() for part in mirrored.experimental_local_results(value)]

    before, scale = weights(), float(loss_scale(optimizer))
    apply(tf.constant([1.0, np.inf]))
    assert float(loss_scale(optimizer)) == scale / 2
    for old, new in zip(before, weights()):
        np.testing.assert_array_equal(new, old)
    apply(tf.constant([1.0, 1.0]))
    assert float(loss_scale(optimizer)) == scale / 2
    found = weights()
    assert all(not np.array_equal(old, new) for old, new in zip(before, found))
    for first, second in zip(found[::2], found[1::2]):
        np.testing.assert_array_equal(first, second)


def optimizers_of(trainer):
    return [getattr(trainer, name) for name in vars(trainer) if name.endswith("_optimizer")]
