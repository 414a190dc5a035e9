"""The losses of the GAN by name: those of TF-GAN, as functions and in the step of the trainer."""

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import small_params
from trainer_test_case import ONE, batches_from, train
from trainers import configs
from trainers.evaluation import tfgan
from trainers.training import distribution, gan_trainer
from trainers.training.gan_losses import LOSSES

# TF-GAN's loss of the discriminator, and of the generator, each with its settings.
ORACLES = {
    "hinge": ("wasserstein_hinge_discriminator_loss", "wasserstein_hinge_generator_loss", {}),
    "non_saturating": ("minimax_discriminator_loss", "modified_generator_loss", {"label_smoothing": 0.0}),
    "wasserstein": ("wasserstein_discriminator_loss", "wasserstein_generator_loss", {}),
}


def oracle(name, real, fake):
    of_discriminator, of_generator, settings = ORACLES[name]
    discriminator = getattr(tfgan.losses(), of_discriminator)(real, fake, **settings)
    return float(discriminator), float(getattr(tfgan.losses(), of_generator)(fake, **settings))


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_tf_gan(name, scale):
    random = np.random.default_rng(0)
    real, fake = (tf.constant(scale * random.normal(size=(7, 1)), tf.float32) for _ in range(2))
    of_discriminator, of_generator = LOSSES[name]
    expected = oracle(name, real, fake)
    np.testing.assert_allclose((of_discriminator(real, fake), of_generator(fake)), expected, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_half_precision_are_float32(name):
    logits = tf.constant([[3.0], [-40.0]], tf.float16)
    of_discriminator, of_generator = LOSSES[name]
    for loss in (of_discriminator(logits, logits), of_generator(logits)):
        assert loss.dtype == tf.float32 and loss.shape == () and np.isfinite(loss)


def trainer_of(name, **overrides):
    # Nothing that moves or draws in a call of a network.
    params = small_params(
        task__model__resolution=8,
        task__model__attention="none",
        task__model__generator__spectral_normalization="false",
        task__model__discriminator__spectral_normalization="false",
        task__losses__type=name,
        **overrides,
    )
    distribution.set_up_runtime(params.runtime)
    return gan_trainer.GanTrainer(params, ONE)


@pytest.mark.parametrize("name", LOSSES)
def test_step_takes_them(name, monkeypatch):
    trainer = trainer_of(name, task__losses__gradient_penalty=3.0)
    random = np.random.default_rng(0)
    images = tf.constant(random.uniform(-1, 1, size=(6, 8, 8, 1)), tf.float32)
    labels, fake_labels = tf.range(6), tf.range(3, 9)
    z = tf.constant(random.normal(size=(6, 8)), tf.float32)
    places = tf.constant(random.uniform(size=(6, 1, 1, 1)), tf.float32)
    fakes = trainer.generator([z, fake_labels], training=True)
    real = trainer.discriminator([images, labels], training=True)
    fake = trainer.discriminator([fakes, fake_labels], training=True)
    of_discriminator, of_generator = oracle(name, real, fake)
    if name == "wasserstein":

        @tf.function
        def penalty():
            return tfgan.losses().wasserstein_gradient_penalty(
                images, fakes, None, lambda x, _: trainer.discriminator([x, labels], training=True), "discriminator"
            )

        with monkeypatch.context() as patched:
            patched.setattr(tf.random, "uniform", lambda shape, **unused: places)
            of_discriminator += 3.0 * float(penalty())
    one = tf.constant(1.0)
    metrics, _ = trainer._discriminator_gradients(images, labels, z, fake_labels, tf.zeros((12, 0, 3)), one, places)
    np.testing.assert_allclose(metrics["loss"], of_discriminator, rtol=1e-4)
    metrics, _ = trainer._generator_gradients(z, fake_labels, tf.zeros((6, 0, 3)), one)
    np.testing.assert_allclose(metrics["loss"], of_generator, rtol=1e-4)


@pytest.mark.parametrize("name", ["non_saturating", "wasserstein"])
def test_both_networks_learn(name):
    trainer = trainer_of(name)
    before = [tf.convert_to_tensor(variable).numpy() for variable in trainer.discriminator.trainable_variables]
    losses = train(trainer, batches_from(trainer.params), 2)
    assert tuple(losses) == gan_trainer.METRICS and all(np.isfinite(value) for value in losses.values())
    after = trainer.discriminator.trainable_variables
    still = [old.shape for old, new in zip(before, after) if np.array_equal(old, new)]
    assert still == ([(1,)] if name == "wasserstein" else []), "a constant on all scores is nothing to a critic"


def test_discriminator_of_the_penalty_computes_in_float32():
    trainer = trainer_of("wasserstein", runtime__mixed_precision_dtype="bfloat16")
    assert "bfloat16" not in {layer.compute_dtype for layer in trainer.discriminator.layers}
    assert "bfloat16" in {layer.compute_dtype for layer in trainer.generator.layers}
    assert all(np.isfinite(value) for value in train(trainer, batches_from(trainer.params), 1).values())
    distribution.set_up_runtime(configs.resolve("gan_digits32").runtime)


def test_unknown_type_names_the_nearest():
    with pytest.raises(
        configs.ConfigError, match="`task.losses.type` must be .*Did you mean `wasserstein`.*'wassertein'"
    ):
        configs.resolve("gan_digits32", params_override="task.losses.type=wassertein")
