"""Attentive Normalization beside TensorFlow Addons, which Keras 2 on TensorFlow 2.15 still has."""

import numpy as np
import pytest

from keras_an.backend import keras
from keras_an.layers import AttentiveNormalization, SpectralNormalization
from layer_test_case import array, randomize_weights

tf = pytest.importorskip("tensorflow")
tfa = pytest.importorskip("tensorflow_addons")

FEATURES = np.random.default_rng(0).normal(size=(4, 6, 5, 8)).astype(np.float32)


@pytest.mark.parametrize("num_entities", [1, 3])
def test_one_entity_or_equal_ones_are_the_instance_normalization_of_addons(num_entities):
    """Where all entities have the same share everywhere, the scales and shifts of the regions are averaged."""
    layer = AttentiveNormalization(num_entities)
    layer(FEATURES)
    randomize_weights(layer)
    layer.residual_weight.assign(1.0)
    if num_entities > 1:
        for weight in (layer.entities, layer.sampling_weight):
            weight.assign(np.zeros(weight.shape))
    instance_norm = tfa.layers.InstanceNormalization(epsilon=layer.epsilon)
    instance_norm.build(FEATURES.shape)
    instance_norm.gamma.assign(array(layer.beta).mean(axis=0))
    instance_norm.beta.assign(array(layer.alpha).mean(axis=0))
    np.testing.assert_allclose(layer(FEATURES) - FEATURES, instance_norm(FEATURES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: keras.layers.Conv2D(5, 3, name="layer"), lambda: keras.layers.Dense(5)])
def test_spectral_normalization_is_that_of_addons_once_both_have_converged(make):
    """Addons' divides its kernel by sigma, in place; it stays as it is from then on."""
    ours, theirs = SpectralNormalization(make()), tfa.layers.SpectralNormalization(make(), power_iterations=100)
    for layer in (ours, theirs):
        layer(FEATURES)
    randomize_weights(ours)
    theirs.layer.set_weights(ours.layer.get_weights())
    for _ in range(100):
        found = ours(FEATURES, training=True)
    assert np.abs(found - theirs(FEATURES, training=False)).max() > 0.1, "sigma is not 1"
    np.testing.assert_allclose(found, theirs(FEATURES, training=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours(FEATURES), theirs(FEATURES), rtol=1e-4, atol=1e-5)


def composed():
    """Each normalisation of Addons before, around or after Attentive Normalization."""
    inputs = keras.Input(FEATURES.shape[1:])
    features = tfa.layers.SpectralNormalization(keras.layers.Conv2D(8, 3, padding="same"))(inputs)
    features, layout = AttentiveNormalization(3, seed=1, name="attentive")(features, return_layout=True)
    features = tfa.layers.FilterResponseNormalization()(tfa.layers.TLU()(features))
    features = AttentiveNormalization(2, seed=2)(tfa.layers.InstanceNormalization()(features))
    return keras.Model(inputs, {"outputs": keras.layers.Conv2D(8, 1)(features), "layout": layout})


def test_every_normalization_of_addons_goes_beside_it(tmp_path):
    """Built, trained, saved and loaded as weights, archive and SavedModel."""
    model = composed()
    model.compile(tfa.optimizers.LAMB(0.02), loss={"outputs": "mse"})
    before = [array(weight) for weight in model.trainable_weights]
    losses = [model.train_on_batch(FEATURES, {"outputs": FEATURES}) for _ in range(8)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0] and len(model.losses) == 2
    still = [w.name for w, old in zip(model.trainable_weights, before) if np.array_equal(array(w), old)]
    assert not still
    expected = model(FEATURES)
    assert expected["layout"].shape == (*FEATURES.shape[:3], 3)

    model.save_weights(tmp_path / "model.weights.h5")
    model.save(tmp_path / "model.keras")
    model.export(str(tmp_path / "exported"))
    twin = composed()
    twin.load_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    served = tf.saved_model.load(str(tmp_path / "exported"))
    for name, value in expected.items():
        for found in (twin(FEATURES), loaded(FEATURES), served.serve(tf.constant(FEATURES))):
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


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
