"""The parts of TF-GAN that the trainers use can be imported on every stack."""

import inspect

import numpy as np
import tensorflow as tf

from trainers import tfgan


def test_classifier_metrics_expose_what_the_scores_use():
    metrics = tfgan.classifier_metrics()
    assert metrics.__name__ == "tensorflow_gan.python.eval.classifier_metrics"
    signature = inspect.signature(metrics.frechet_classifier_distance_from_activations)
    assert list(signature.parameters)[:2] == ["activations1", "activations2"]
    assert callable(metrics.kernel_classifier_distance_from_activations)


def test_losses_expose_the_adversarial_losses():
    losses = tfgan.losses()
    assert losses.__name__ == "tensorflow_gan.python.losses.losses_impl"
    real, fake = tf.constant([[0.5], [2.0]]), tf.constant([[-3.0], [0.5]])
    expected = np.mean([0.5, 0.0]) + np.mean([0.0, 1.5])
    np.testing.assert_allclose(losses.wasserstein_hinge_discriminator_loss(real, fake), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.wasserstein_hinge_generator_loss(fake), 1.25, rtol=1e-6)


def test_modules_are_imported_once():
    assert tfgan.classifier_metrics() is tfgan.classifier_metrics()
    assert tfgan.losses() is tfgan.losses()
