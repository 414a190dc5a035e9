"""Adversarial losses against NumPy and TF-GAN."""

import numpy as np
import pytest

from keras_an.backend import ops
from keras_an.losses import discriminator_hinge_loss, generator_hinge_loss
from layer_test_case import dtype_of, gradients


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


def test_discriminator_loss_is_tf_gans(tf, logits):
    from trainers import tfgan

    real, fake = tf.constant(logits[0][:6]), tf.constant(logits[1])  # TF-GAN takes equal shapes only
    expected = tfgan.losses().wasserstein_hinge_discriminator_loss(real, fake)
    np.testing.assert_allclose(discriminator_hinge_loss(real, fake), expected, rtol=1e-6)


def test_generator_loss_is_tf_gans(tf, logits):
    from trainers import tfgan

    fake = tf.constant(logits[1])
    expected = tfgan.losses().wasserstein_hinge_generator_loss(fake)
    np.testing.assert_allclose(generator_hinge_loss(fake), expected, rtol=1e-6)


def test_logits_beyond_the_margin_have_no_loss_and_no_gradient():
    real, fake = np.array([[1.5, 4.0], [-1.5, -4.0]], np.float32)
    assert float(discriminator_hinge_loss(real, fake)) == 0.0
    assert all((gradient == 0).all() for gradient in gradients(discriminator_hinge_loss, [real, fake], []))


def test_gradients_push_real_up_and_fake_down():
    real, fake = np.array([[0.5, 4.0], [-0.5, 4.0]], np.float32)
    found = gradients(discriminator_hinge_loss, [real, fake], [])
    np.testing.assert_allclose(found, [[-0.5, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(gradients(generator_hinge_loss, [fake], []), [[-0.5, -0.5]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_losses_of_half_precision_are_float32(dtype):
    """A mean of 2049 ones is not a number of bfloat16 or float16; their sum would stop growing before."""
    real, fake = np.zeros((2049, 1), np.float32), np.array([[1.0]] * 2048 + [[0.0]], np.float32)
    real, fake = (ops.cast(logits, dtype) for logits in (real, fake))
    discriminator, generator = discriminator_hinge_loss(real, fake), generator_hinge_loss(fake)
    assert dtype_of(discriminator) == dtype_of(generator) == "float32"
    assert tuple(discriminator.shape) == tuple(generator.shape) == ()
    np.testing.assert_allclose(discriminator, 1 + (2048 * 2 + 1) / 2049, rtol=1e-6)
    np.testing.assert_allclose(generator, -2048 / 2049, rtol=1e-6)
