"""The parts of TF-GAN that the trainers use can be imported on every stack."""

import inspect
import sys

import numpy as np
import tensorflow as tf

from trainers.evaluation import tfgan
from trainers.monitoring import pictures


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


def test_grids_without_gaps_are_those_of_the_pictures():
    images = np.random.default_rng(0).integers(0, 256, size=(6, 4, 5, 3), dtype=np.uint8)
    utils = tfgan.eval_utils()
    assert utils.__name__ == "tensorflow_gan.python.eval.eval_utils"
    found = pictures.image_grid(images, columns=3, gap=0)
    np.testing.assert_array_equal(found, utils.image_grid(tf.constant(images), (2, 3), (4, 5), 3)[0])
    np.testing.assert_array_equal(found, utils.python_image_grid(images, (2, 3)))


def test_modules_are_imported_once():
    for load in (tfgan.classifier_metrics, tfgan.losses, tfgan.eval_utils):
        assert load() is load()


def test_the_packages_own_file_runs_only_where_it_can():
    """Where it does all of TF-GAN is there; elsewhere a module without a file stands for it, and its parts load."""
    tfgan.losses()
    package = sys.modules["tensorflow_gan"]
    assert hasattr(package, "gan_model") == bool(getattr(package, "__file__", None)) == hasattr(tf, "estimator")
