"""Attentive Normalization beside TensorFlow Addons, which Keras 2 on TensorFlow 2.15 still has."""

import numpy as np
import pytest

from keras_an import AttentiveNormalization
from keras_an.backend import keras
from layer_test_case import array, randomize_weights

tfa = pytest.importorskip("tensorflow_addons")

FEATURES = np.random.default_rng(0).normal(size=(4, 6, 5, 8)).astype(np.float32)


def test_one_entity_is_the_instance_normalization_of_addons():
    layer = AttentiveNormalization(1)
    layer(FEATURES)
    randomize_weights(layer)
    layer.residual_weight.assign(1.0)
    instance_norm = tfa.layers.InstanceNormalization(epsilon=layer.epsilon)
    instance_norm.build(FEATURES.shape)
    instance_norm.gamma.assign(layer.beta[0])
    instance_norm.beta.assign(layer.alpha[0])
    np.testing.assert_allclose(layer(FEATURES) - FEATURES, instance_norm(FEATURES), rtol=1e-4, atol=1e-5)


def test_trains_beside_spectral_normalization_under_a_moving_average():
    attentive = AttentiveNormalization(3, seed=1)
    convolution = tfa.layers.SpectralNormalization(keras.layers.Conv2D(8, 1))
    model = keras.Sequential([convolution, attentive, keras.layers.Conv2D(8, 1)])
    optimizer = tfa.optimizers.MovingAverage(keras.optimizers.legacy.SGD(0.05), average_decay=0.5)
    model.compile(optimizer, "mse")
    model.build(FEATURES.shape)
    names = [weight.name for weight in attentive.trainable_weights]
    expected = [array(weight) for weight in attentive.trainable_weights]
    losses = []
    for _ in range(8):
        losses.append(model.train_on_batch(FEATURES, FEATURES))
        expected = [0.5 * mean + 0.5 * array(weight) for mean, weight in zip(expected, attentive.trainable_weights)]
    assert losses[-1] < 0.9 * losses[0]
    last = [array(weight) for weight in attentive.trainable_weights]
    assert np.abs(last[-1] - expected[-1]) > 1e-5, "rho moves, so that its average is another number"
    optimizer.assign_average_vars(model.variables)
    for name, weight, mean in zip(names, attentive.trainable_weights, expected):
        np.testing.assert_allclose(array(weight), mean, rtol=1e-4, atol=1e-6, err_msg=name)
