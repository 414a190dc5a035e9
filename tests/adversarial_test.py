"""Adversarial losses against NumPy and TF-GAN."""

import numpy as np
import pytest
import tensorflow as tf

from keras_an.losses import discriminator_hinge_loss, generator_hinge_loss
from trainers import tfgan


@pytest.fixture
def logits():
    rng = np.random.default_rng(0)
    return [(3 * rng.normal(size=shape)).astype(np.float32) for shape in ((8, 1), (6, 1))]


def test_discriminator_loss_is_the_mean_of_hinges(logits):
    real, fake = logits
    expected = sum(max(0, 1 - d) for d in real[:, 0]) / 8 + sum(max(0, 1 + d) for d in fake[:, 0]) / 6
    np.testing.assert_allclose(discriminator_hinge_loss(real, fake), expected, rtol=1e-5)


def test_generator_loss_is_minus_the_mean(logits):
    _, fake = logits
    np.testing.assert_allclose(generator_hinge_loss(fake), -sum(fake[:, 0]) / 6, rtol=1e-5)


def test_discriminator_loss_is_tf_gans(logits):
    real, fake = tf.constant(logits[0][:6]), tf.constant(logits[1])  # TF-GAN takes equal shapes only
    expected = tfgan.losses().wasserstein_hinge_discriminator_loss(real, fake)
    np.testing.assert_allclose(discriminator_hinge_loss(real, fake), expected, rtol=1e-6)


def test_generator_loss_is_tf_gans(logits):
    fake = tf.constant(logits[1])
    expected = tfgan.losses().wasserstein_hinge_generator_loss(fake)
    np.testing.assert_allclose(generator_hinge_loss(fake), expected, rtol=1e-6)


def test_logits_beyond_the_margin_have_no_loss_and_no_gradient():
    real, fake = tf.constant([1.5, 4.0]), tf.constant([-1.5, -4.0])
    with tf.GradientTape() as tape:
        tape.watch([real, fake])
        loss = discriminator_hinge_loss(real, fake)
    assert float(loss) == 0.0
    assert all((np.asarray(gradient) == 0).all() for gradient in tape.gradient(loss, [real, fake]))


def test_gradients_push_real_up_and_fake_down():
    real, fake = tf.constant([0.5, 4.0]), tf.constant([-0.5, 4.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([real, fake])
        discriminator, generator = discriminator_hinge_loss(real, fake), generator_hinge_loss(fake)
    np.testing.assert_allclose(tape.gradient(discriminator, real), [-0.5, 0.0])
    np.testing.assert_allclose(tape.gradient(discriminator, fake), [0.5, 0.5])
    np.testing.assert_allclose(tape.gradient(generator, fake), [-0.5, -0.5])


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_losses_of_half_precision_are_float32(dtype):
    """A mean of 2049 ones is not a number of bfloat16 or float16; their sum would stop growing before."""
    real, fake = tf.zeros((2049, 1), dtype), tf.constant([[1.0]] * 2048 + [[0.0]], dtype)
    discriminator, generator = discriminator_hinge_loss(real, fake), generator_hinge_loss(fake)
    assert discriminator.dtype == generator.dtype == tf.float32
    assert discriminator.shape == generator.shape == ()
    np.testing.assert_allclose(discriminator, 1 + (2048 * 2 + 1) / 2049, rtol=1e-6)
    np.testing.assert_allclose(generator, -2048 / 2049, rtol=1e-6)
