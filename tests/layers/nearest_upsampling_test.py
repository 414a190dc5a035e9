"""Nearest-neighbour up-sampling against NumPy and Keras's own."""

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import NearestUpsampling
from layer_test_case import check_layer_contract, gradients, tensors

FEATURES = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")


def test_contract():
    check_layer_contract(NearestUpsampling, {}, FEATURES)


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


def test_unknown_sizes_stay_unknown():
    assert tuple(NearestUpsampling()(keras.Input((None, None, 4))).shape) == (None, None, None, 4)


def test_other_ranks_are_an_error():
    with pytest.raises(ValueError, match=r"takes inputs of \(batch, height, width, channels\)"):
        NearestUpsampling()(np.zeros((2, 3, 4), "float32"))


@pytest.mark.parametrize("size", [1, 2, 5, 64, 255])
def test_doubling_with_aligned_corners_is_the_same(tf, size):
    """The released inpainting code aligns corners, which at twice the size changes nothing."""
    x = np.random.default_rng(0).normal(size=(1, size, size + 1, 2)).astype("float32")
    expected = tf.compat.v1.image.resize_nearest_neighbor(x, (2 * size, 2 * size + 2), align_corners=True)
    np.testing.assert_array_equal(NearestUpsampling()(x), expected)
