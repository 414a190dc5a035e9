"""Batch norm by TensorFlow's kernel against Keras's own layer: outputs, gradients, moving moments."""

import numpy as np
import pytest

from keras_an.backend import IS_KERAS_3, keras, ops
from keras_an.layers import batch_normalization
from keras_an.layers.batch_normalization import BatchNormalization
from layer_test_case import BACKEND, array, compiled, gradients, tensors

FEATURES = np.random.default_rng(0).normal(3.0, 2.0, size=(4, 5, 6, 7)).astype("float32")
FUSES = IS_KERAS_3 and BACKEND == "tensorflow"


def pair(**kwargs):
    layers = [
        layer_class(momentum=0.8, **kwargs) for layer_class in (BatchNormalization, keras.layers.BatchNormalization)
    ]
    for layer in layers:
        layer.build(FEATURES.shape)
        random = np.random.default_rng(1)
        layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return layers


@pytest.fixture
def taken(monkeypatch):
    """Whether each call so far took the kernel."""
    calls, real = [], batch_normalization.fused_batch_norm

    def watched(*arguments):
        result = real(*arguments)
        calls.append(result is not None)
        return result

    monkeypatch.setattr(batch_normalization, "fused_batch_norm", watched)
    return calls


@pytest.mark.parametrize("affine", [True, False])
def test_training_is_that_of_keras(affine, taken):
    layers = pair(center=affine, scale=affine)
    found, expected = (array(layer(tensors(FEATURES), training=True)) for layer in layers)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(*(layer.get_weights() for layer in layers)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    found, expected = (array(layer(tensors(FEATURES), training=False)) for layer in layers)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert taken == [FUSES]


def test_gradients_are_those_of_keras():
    weights = np.random.default_rng(2).normal(size=FEATURES.shape).astype("float32")
    found, expected = (
        gradients(
            lambda x, layer=layer: ops.sum(layer(x, training=True) * tensors(weights)),
            [FEATURES],
            layer.trainable_variables,
        )
        for layer in pair()
    )
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_a_compiled_program_gives_what_keras_gives():
    found, expected = (
        array(compiled(lambda x, layer=layer: layer(x, training=True), layer)(tensors(FEATURES))) for layer in pair()
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", [{"trainable": False}, {"dtype": "float64"}, {"axis": 1}])
def test_what_the_kernel_does_not_take_is_left_to_keras(change, taken):
    if change == {"axis": 1} and not IS_KERAS_3:
        pytest.skip("TensorFlow has no fused batch normalisation with channels first on a CPU")
    layers = pair(**change)
    x = FEATURES.astype("float64") if "dtype" in change else FEATURES
    found, expected = (array(layer(tensors(x), training=True)) for layer in layers)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert not any(taken)


@pytest.mark.skipif(not FUSES, reason="Keras computes it")
def test_far_from_zero_it_loses_no_digits():
    x = FEATURES + 1000.0
    found = array(pair(center=False, scale=False)[0](tensors(x), training=True))
    exact = x.astype("float64")
    exact = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-3)
    np.testing.assert_allclose(found, exact, atol=2e-3)


def test_padding_is_left_out_as_keras_leaves_it_out():
    """Keras hands over the mask of an input to a layer whose call names it."""
    x = FEATURES.reshape(4, 30, 7).copy()
    x[:, 20:] = -1.0
    found = []
    for layer in pair():
        layer = type(layer).from_config({**layer.get_config(), "axis": -1})
        outputs = layer(keras.layers.Masking(-1.0)(tensors(x)), training=True)
        found.append((array(outputs)[:, :20], array(ops.convert_to_tensor(layer.moving_mean))))
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert np.abs(found[0][0].mean(axis=(0, 1))).max() < 1e-3 or not IS_KERAS_3  # of the valid positions alone
