"""A folded network says what its original says, without a wrapper."""

import numpy as np
import pytest

from keras_an import models
from keras_an.backend import keras
from keras_an.layers import SpectralNormalization
from layer_test_case import array, randomize_weights, tensors

COMMON = {"resolution": 16, "num_classes": 3, "base_channels": 4, "attention_blocks": (1,), "image_channels": 1}


def trained_generator(attention):
    """A generator whose weights and vectors u are none of a start's."""
    generator = models.residual_generator(latent_dim=5, attention=attention, num_entities=3, **COMMON)
    randomize_weights(generator)
    generator(inputs_of(4, 1), training=True)
    return generator


def inputs_of(size, seed=0):
    random = np.random.default_rng(seed)
    return tensors([random.normal(size=(size, 5)).astype(np.float32), np.arange(size, dtype=np.int32) % 3])


@pytest.mark.parametrize("attention", ["none", "self_attention", "attentive_normalization"])
def test_folded_generator_gives_the_same_images(attention):
    generator = trained_generator(attention)
    folded = models.fold_spectral_normalization(generator)
    assert not any(isinstance(layer, SpectralNormalization) for layer in folded.layers)
    inputs = inputs_of(3)
    expected = array(generator(inputs, training=False))
    assert expected.std() > 0.01
    np.testing.assert_allclose(array(folded(inputs, training=False)), expected, atol=2e-6)


def test_vectors_of_the_power_iteration_are_gone_and_nothing_else():
    generator = trained_generator("attentive_normalization")
    folded = models.fold_spectral_normalization(generator)
    wrapped = sum(isinstance(layer, SpectralNormalization) for layer in generator.layers)
    assert wrapped > 0 and len(folded.weights) == len(generator.weights) - wrapped


def test_the_original_is_left_as_it_was_and_shares_nothing():
    generator = trained_generator("attentive_normalization")
    before = generator.get_weights()
    folded = models.fold_spectral_normalization(generator)
    for weight in folded.weights:
        weight.assign(np.zeros(weight.shape, np.float32))
    for weight, old in zip(generator.get_weights(), before):
        np.testing.assert_array_equal(weight, old)


def test_discriminator_is_folded_with_its_embedding():
    discriminator = models.projection_discriminator(num_entities=3, **COMMON)
    randomize_weights(discriminator)
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 1)).astype(np.float32)
    labels = np.array([0, 1, 2], np.int32)
    expected = array(discriminator([images, labels], training=False))
    folded = models.fold_spectral_normalization(discriminator)
    np.testing.assert_allclose(array(folded([images, labels], training=False)), expected, rtol=1e-5, atol=1e-5)


def test_model_without_spectral_normalization_is_copied():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(array(models.fold_spectral_normalization(model)(x)), array(model(x)))
