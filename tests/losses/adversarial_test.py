"""Adversarial losses against NumPy and TF-GAN."""

import numpy as np
import pytest

from keras_an.backend import ops
from keras_an.losses import (
    critic_wasserstein_loss,
    discriminator_hinge_loss,
    generator_hinge_loss,
    generator_wasserstein_loss,
    gradient_penalty,
)
from layer_test_case import differentiate, dtype_of, gradients, tensors


@pytest.fixture
def logits():
    rng = np.random.default_rng(0)
    return [(3 * rng.normal(size=shape)).astype(np.float32) for shape in ((8, 1), (6, 1))]


def hinge_loss(real, fake):
    return discriminator_hinge_loss(real, fake_logits=fake)


def test_discriminator_loss_is_the_mean_of_hinges(logits):
    real, fake = logits
    expected = sum(max(0, 1 - d) for d in real[:, 0]) / 8 + sum(max(0, 1 + d) for d in fake[:, 0]) / 6
    np.testing.assert_allclose(discriminator_hinge_loss(real, fake_logits=fake), expected, rtol=1e-5)


def test_generator_loss_is_minus_the_mean(logits):
    _, fake = logits
    np.testing.assert_allclose(generator_hinge_loss(fake), -sum(fake[:, 0]) / 6, rtol=1e-5)


def test_discriminator_loss_is_tf_gans(tf, logits):
    from trainers.evaluation import tfgan

    real, fake = tf.constant(logits[0][:6]), tf.constant(logits[1])  # TF-GAN takes equal shapes only
    expected = tfgan.losses().wasserstein_hinge_discriminator_loss(real, fake)
    np.testing.assert_allclose(discriminator_hinge_loss(real, fake_logits=fake), expected, rtol=1e-6)


def test_generator_loss_is_tf_gans(tf, logits):
    from trainers.evaluation import tfgan

    fake = tf.constant(logits[1])
    expected = tfgan.losses().wasserstein_hinge_generator_loss(fake)
    np.testing.assert_allclose(generator_hinge_loss(fake), expected, rtol=1e-6)


def test_logits_beyond_the_margin_have_no_loss_and_no_gradient():
    real, fake = np.array([[1.5, 4.0], [-1.5, -4.0]], np.float32)
    assert float(discriminator_hinge_loss(real, fake_logits=fake)) == 0.0
    assert all((gradient == 0).all() for gradient in gradients(hinge_loss, [real, fake], []))


def test_gradients_push_real_up_and_fake_down():
    real, fake = np.array([[0.5, 4.0], [-0.5, 4.0]], np.float32)
    found = gradients(hinge_loss, [real, fake], [])
    np.testing.assert_allclose(found, [[-0.5, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(gradients(generator_hinge_loss, [fake], []), [[-0.5, -0.5]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_losses_of_half_precision_are_float32(dtype):
    """A mean of 2049 ones is not a number of bfloat16 or float16; their sum would stop growing before."""
    real, fake = np.zeros((2049, 1), np.float32), np.array([[1.0]] * 2048 + [[0.0]], np.float32)
    real, fake = (ops.cast(logits, dtype) for logits in (real, fake))
    discriminator, generator = discriminator_hinge_loss(real, fake_logits=fake), generator_hinge_loss(fake)
    assert dtype_of(discriminator) == dtype_of(generator) == "float32"
    assert tuple(discriminator.shape) == tuple(generator.shape) == ()
    np.testing.assert_allclose(discriminator, 1 + (2048 * 2 + 1) / 2049, rtol=1e-6)
    np.testing.assert_allclose(generator, -2048 / 2049, rtol=1e-6)


def test_wasserstein_losses_are_differences_of_means(logits):
    real, fake = logits
    mean_real, mean_fake = sum(real[:, 0]) / 8, sum(fake[:, 0]) / 6
    np.testing.assert_allclose(critic_wasserstein_loss(real, fake_scores=fake), mean_fake - mean_real, rtol=1e-5)
    np.testing.assert_allclose(generator_wasserstein_loss(fake), -mean_fake, rtol=1e-5)


def test_wasserstein_losses_are_tf_gans(tf, logits):
    from trainers.evaluation import tfgan

    real, fake = tf.constant(logits[0][:6]), tf.constant(logits[1])
    expected = tfgan.losses().wasserstein_discriminator_loss(real, fake)
    np.testing.assert_allclose(critic_wasserstein_loss(real, fake_scores=fake), expected, rtol=1e-5)
    expected = tfgan.losses().wasserstein_generator_loss(fake)
    np.testing.assert_allclose(generator_wasserstein_loss(fake), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_wasserstein_losses_of_half_precision_are_float32(dtype):
    real, fake = (ops.cast(np.full((2049, 1), value, np.float32), dtype) for value in (0.5, 1.0))
    critic, generator = critic_wasserstein_loss(real, fake_scores=fake), generator_wasserstein_loss(fake)
    assert dtype_of(critic) == dtype_of(generator) == "float32"
    assert tuple(critic.shape) == tuple(generator.shape) == ()
    np.testing.assert_allclose([float(critic), float(generator)], [0.5, -1.0], rtol=1e-6)


def images(seed, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=(3, 4, 5, 2))).astype(np.float32)


def reference_penalty(found, mask):
    return np.mean([(np.sqrt(np.sum((g * m).astype(np.float64) ** 2)) - 1) ** 2 for g, m in zip(found, mask)])


def test_penalty_of_a_linear_critic_is_that_of_its_weights():
    """Each image has weights of its own, so that the mean is one of three different penalties."""
    weights, mask = images(1, 0.3), (np.random.default_rng(2).uniform(size=(3, 4, 5, 1)) > 0.5).astype(np.float32)
    found = gradients(lambda x: ops.sum(x * tensors(weights)), [images(0)], [])[0]
    expected = reference_penalty(weights, np.ones_like(mask))
    np.testing.assert_allclose(gradient_penalty(tensors(found)), expected, rtol=1e-5)
    masked = reference_penalty(weights, mask)
    assert abs(masked - expected) > 1e-2
    np.testing.assert_allclose(gradient_penalty(tensors(found), mask=tensors(mask)), masked, rtol=1e-5)


def test_penalty_is_0_at_slope_1():
    slope = np.zeros((2, 3, 3, 1), np.float32)
    slope[:, 1, 1] = 1.0
    np.testing.assert_allclose(gradient_penalty(slope), 0.0, atol=1e-9)


def test_penalty_is_tf_gans(tf):
    from trainers.evaluation import tfgan

    x, weights = images(0), images(1, 0.4)

    def critic(x):
        return tf.reduce_sum(tf.tanh(x * weights) ** 2 + 0.3 * x, axis=(1, 2, 3))

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        # Between two equal images there is one image alone, so that the draw plays no part.
        penalty = tfgan.losses().wasserstein_gradient_penalty(
            tf.constant(x), tf.constant(x), None, lambda x, _: critic(x), "critic"
        )
        expected = session.run(penalty)
    found = differentiate(lambda x: tf.reduce_sum(critic(x)), tf.constant(x))
    np.testing.assert_allclose(gradient_penalty(found), expected, rtol=1e-5)


@pytest.mark.parametrize("mask", [None, np.zeros((3, 4, 5, 1), np.float32)])
def test_penalty_has_a_finite_gradient_at_slope_0(mask):
    mask = None if mask is None else tensors(mask)
    found = gradients(lambda g: gradient_penalty(g, mask=mask), [np.zeros((3, 4, 5, 2), np.float32)], [])[0]
    assert np.isfinite(found).all() and (found == 0).all()


def test_penalty_may_be_differentiated_through_a_critic():
    """The score `s * sum(x)` has the slope `s * sqrt(40)`: the penalty's derivative in s is known."""
    x, scale = images(0), np.float32(0.2)

    def penalty(scale, x):
        return gradient_penalty(differentiate(lambda x: ops.sum(scale * x), x))

    found, _ = gradients(penalty, [scale, x], [])
    np.testing.assert_allclose(found, 2 * (0.2 * 40**0.5 - 1) * 40**0.5, rtol=1e-4)


def test_penalty_does_not_see_gradients_that_do_not_count():
    found, mask = images(1), np.ones((3, 4, 5, 1), np.float32)
    mask[:, 1:3] = 0
    expected = float(gradient_penalty(tensors(found), mask=tensors(mask)))
    found[:, 1:3] = np.nan
    assert float(gradient_penalty(tensors(found), mask=tensors(mask))) == expected
    (second,) = gradients(lambda found: gradient_penalty(found, mask=tensors(mask)), [found], [])
    assert np.isfinite(second).all() and (second[:, 1:3] == 0).all()


def test_penalty_of_half_precision_is_float32():
    """A slope of 300 has a square beyond float16."""
    slope = np.zeros((2, 3, 3, 1), np.float32)
    slope[:, 1, 1] = 300.0
    penalty = gradient_penalty(ops.cast(slope, "float16"), mask=ops.cast(np.ones((2, 3, 3, 1), np.float32), "float16"))
    assert dtype_of(penalty) == "float32" and tuple(penalty.shape) == ()
    np.testing.assert_allclose(penalty, 299.0**2, rtol=1e-5)
