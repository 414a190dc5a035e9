"""Nearest-neighbour up-sampling against NumPy and Keras's own."""

import fractions
import math

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import NearestUpsampling
from layer_test_case import array, check_layer_contract, gradients, tensors

FEATURES = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")


@pytest.mark.parametrize("init_kwargs", [{}, {"align_corners": True, "name": "aligned"}])
def test_contract(init_kwargs):
    check_layer_contract(NearestUpsampling, init_kwargs, FEATURES)


def test_every_position_is_repeated():
    expected = FEATURES.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(NearestUpsampling()(FEATURES), expected)
    np.testing.assert_array_equal(keras.layers.UpSampling2D(2)(FEATURES), expected)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradient_adds_up_the_copies(jit_compile):
    weights = np.random.default_rng(1).normal(size=(2, 6, 10, 4)).astype("float32")
    layer = NearestUpsampling()
    (gradient,) = gradients(lambda x: ops.sum(layer(x) * tensors(weights)), [FEATURES], [], jit=jit_compile)
    expected = weights.reshape(2, 3, 2, 5, 2, 4).sum(axis=(2, 4))
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def aligned(size):
    """For each of `2 * size` places the index that it reads: `i * (size - 1) / (2 * size - 1)`, halves away from 0."""
    return [
        math.floor(fractions.Fraction(i * (size - 1), 2 * size - 1) + fractions.Fraction(1, 2)) for i in range(2 * size)
    ]


@pytest.mark.parametrize("size", range(1, 10))
def test_aligned_corners_read_the_nearest(size):
    height, width = size, 10 - size
    x = np.random.default_rng(size).normal(size=(2, height, width, 3)).astype("float32")
    expected = np.empty((2, 2 * height, 2 * width, 3), "float32")
    for i, row in enumerate(aligned(height)):
        for j, column in enumerate(aligned(width)):
            expected[:, i, j] = x[:, row, column]
    outputs = array(NearestUpsampling(align_corners=True)(x))
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(outputs[:, [0, 0, -1, -1], [0, -1, 0, -1]], x[:, [0, 0, -1, -1], [0, -1, 0, -1]])


@pytest.mark.parametrize("size", [*range(1, 10), 64, 255])
def test_aligned_corners_are_tensorflow_1s(tf, size):
    x = np.random.default_rng(0).normal(size=(1, size, size + 1, 1)).astype("float32")
    expected = tf.compat.v1.image.resize_nearest_neighbor(x, (2 * size, 2 * size + 2), align_corners=True)
    np.testing.assert_array_equal(NearestUpsampling(align_corners=True)(x), expected)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradient_with_aligned_corners_adds_up_the_copies(jit_compile):
    weights = np.random.default_rng(1).normal(size=(2, 6, 10, 4)).astype("float32")
    layer = NearestUpsampling(align_corners=True)
    (gradient,) = gradients(lambda x: ops.sum(layer(x) * tensors(weights)), [FEATURES], [], jit=jit_compile)
    expected = np.zeros_like(FEATURES)
    for i, row in enumerate(aligned(3)):
        for j, column in enumerate(aligned(5)):
            expected[:, row, column] += weights[:, i, j]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_configuration_from_before_aligned_corners_is_read():
    config = NearestUpsampling().get_config()
    assert not config.pop("align_corners")
    assert not NearestUpsampling.from_config(config).align_corners


@pytest.mark.parametrize("align_corners", [False, True])
def test_unknown_sizes_stay_unknown(align_corners):
    inputs = keras.Input((None, None, 4))
    outputs = NearestUpsampling(align_corners)(inputs)
    assert tuple(outputs.shape) == (None, None, None, 4)
    assert tuple(keras.Model(inputs, outputs)(FEATURES).shape) == (2, 6, 10, 4)


@pytest.mark.parametrize("align_corners", [False, True])
def test_one_traced_function_takes_all_sizes(tf, align_corners):
    layer = NearestUpsampling(align_corners)
    run = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 4), tf.float32)])
    for x in (FEATURES, FEATURES[:, :2, :4]):
        np.testing.assert_array_equal(run(x), layer(x))


def test_other_ranks_are_an_error():
    with pytest.raises(ValueError, match=r"takes inputs of \(batch, height, width, channels\)"):
        NearestUpsampling()(np.zeros((2, 3, 4), "float32"))
