"""The mean over a mask against NumPy."""

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import MaskedMean
from layer_test_case import array, check_layer_contract, dtype_of, gradients

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(4, 3, 5, 2)).astype(np.float32)
MASK = (RANDOM.uniform(size=(4, 3, 5, 1)) > 0.5).astype(np.float32)


def test_contract():
    check_layer_contract(MaskedMean, {}, [FEATURES, MASK])


def test_value_is_the_mean_where_the_mask_is_1():
    expected = [features[mask[..., 0] > 0].mean(axis=0) for features, mask in zip(FEATURES, MASK)]
    np.testing.assert_allclose(array(MaskedMean()([FEATURES, MASK])), expected, rtol=1e-5, atol=1e-6)


def test_mask_may_weigh():
    weights = RANDOM.uniform(size=MASK.shape).astype(np.float32)
    expected = [np.average(x.reshape(15, 2), axis=0, weights=w.ravel()) for x, w in zip(FEATURES, weights)]
    np.testing.assert_allclose(array(MaskedMean()([FEATURES, weights])), expected, rtol=1e-5, atol=1e-6)


def test_empty_mask_gives_0_and_finite_gradients():
    empty = np.zeros_like(MASK)
    np.testing.assert_array_equal(array(MaskedMean()([FEATURES, empty])), np.zeros((4, 2)))
    layer = MaskedMean()
    found = gradients(lambda x, mask: ops.sum(layer([x, mask])), [FEATURES, empty], [])
    assert all(np.isfinite(gradient).all() for gradient in found) and (found[0] == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_the_map_holds_where_the_mask_is_0_plays_no_part(value):
    x = np.where(MASK > 0, FEATURES, np.float32(value))
    layer = MaskedMean()
    np.testing.assert_array_equal(array(layer([x, MASK])), array(layer([FEATURES, MASK])))
    found, expected = (gradients(lambda x, m: ops.sum(layer([x, m])), [x, MASK], []) for x in (x, FEATURES))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    assert np.isfinite(found[1]).all()


def test_a_dtype_of_the_inputs_leaves_the_result_float32():
    outputs = MaskedMean(dtype="bfloat16")([keras.Input((3, 5, 2)), keras.Input((3, 5, 1))])
    assert dtype_of(outputs) == dtype_of(MaskedMean(dtype="bfloat16")([FEATURES, MASK])) == "float32"


def test_half_precision_gives_float32():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    outputs = MaskedMean()([ops.cast(FEATURES, "bfloat16"), MASK])
    assert dtype_of(outputs) == dtype_of(MaskedMean()([keras.Input((3, 5, 2)), keras.Input((3, 5, 1))])) == "float32"
    np.testing.assert_allclose(array(outputs), array(MaskedMean()([FEATURES, MASK])), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 4, 3), (2, 4, 6, 1)),
        ((2, 4, 6, 3), (2, 4, 6)),
        ((2, 4, 6, 3), (2, 4, 6, 3)),
        ((2, 4, 6, 3), (2, 1, 6, 1)),
        ((2, 4, 6, 3), (1, 4, 6, 1)),
    ],
)
def test_other_ranks_are_errors(shapes):
    received = ", ".join(rf"\({', '.join(map(str, shape))}\)" for shape in shapes)
    with pytest.raises(ValueError, match=rf"takes a map .* and a mask .* Received: shapes {received}"):
        MaskedMean()([np.zeros(shape, np.float32) for shape in shapes])


def test_a_map_without_a_mask_is_an_error():
    with pytest.raises(ValueError, match="takes a map .* and a mask"):
        MaskedMean()(FEATURES)
