"""Known pixels against NumPy."""

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import KnownPixels
from layer_test_case import array, check_layer_contract, dtype_of, gradients

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.uniform(-1, 1, size=(2, 4, 6, 3)).astype(np.float32)
MASK = (RANDOM.uniform(size=(2, 4, 6, 1)) > 0.5).astype(np.float32)


@pytest.mark.parametrize("init_kwargs", [{}, {"divisor": 2, "name": "named"}])
def test_contract(init_kwargs):
    check_layer_contract(KnownPixels, init_kwargs, [IMAGE, MASK])


def test_pixels_of_the_hole_are_0_and_the_others_stay():
    known = array(KnownPixels()([IMAGE, MASK]))
    np.testing.assert_array_equal(known, np.where(MASK > 0, np.float32(0), IMAGE))
    assert 0 < np.count_nonzero(known) < known.size


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_the_image_holds_in_the_hole_plays_no_part(value):
    image = np.where(MASK > 0, np.float32(value), IMAGE)
    layer = KnownPixels()
    np.testing.assert_array_equal(array(layer([image, MASK])), array(layer([IMAGE, MASK])))
    found = gradients(lambda image, mask: ops.sum(layer([image, mask])), [image, MASK], [])
    np.testing.assert_array_equal(found[0], np.broadcast_to(1 - MASK, IMAGE.shape))
    np.testing.assert_allclose(found[1], -np.where(MASK > 0, 0, IMAGE).sum(-1, keepdims=True), rtol=1e-5, atol=1e-6)


def test_mask_may_weigh():
    weights = RANDOM.uniform(0, 0.9, size=MASK.shape).astype(np.float32)
    np.testing.assert_allclose(array(KnownPixels()([IMAGE, weights])), IMAGE * (1 - weights), rtol=1e-6)


def test_mask_may_be_of_integers():
    layer = KnownPixels()
    np.testing.assert_array_equal(array(layer([IMAGE, MASK.astype(np.uint8)])), array(layer([IMAGE, MASK])))


def test_policy_decides_the_dtype():
    assert dtype_of(KnownPixels(dtype="mixed_bfloat16")([IMAGE, MASK])) == "bfloat16"


def test_unknown_sizes_stay_unknown():
    inputs = [keras.Input((None, None, 3)), keras.Input((None, None, 1))]
    assert tuple(KnownPixels(divisor=4)(inputs).shape) == (None, None, None, 3)


@pytest.mark.parametrize("image_shape, mask_shape", [((2, 4, 6), (2, 4, 6, 1)), ((2, 4, 6, 3), (2, 4, 6, 3))])
def test_other_shapes_are_errors(image_shape, mask_shape):
    shapes = (
        f"({', '.join(map(str, shape))})".replace("(", r"\(").replace(")", r"\)") for shape in (image_shape, mask_shape)
    )
    with pytest.raises(ValueError, match=f"takes an image .* and a mask .* Received: shapes {' and '.join(shapes)}"):
        KnownPixels()([np.zeros(image_shape, np.float32), np.zeros(mask_shape, np.float32)])


def test_mask_of_another_size_is_an_error():
    message = r"must have the same height and width\. Received: \(4, 6\) and \(4, 5\)"
    with pytest.raises(ValueError, match=message):
        KnownPixels()([IMAGE, MASK[:, :, :5]])


@pytest.mark.parametrize("divisor", [3, 4])
def test_sides_that_do_not_divide_are_errors(divisor):
    message = rf"Height and width of an image must divide by {divisor}\. Received: \(4, 6\)"
    with pytest.raises(ValueError, match=message):
        KnownPixels(divisor)([IMAGE, MASK])


@pytest.mark.parametrize("divisor", [0, 2.0])
def test_divisor_must_be_a_positive_integer(divisor):
    with pytest.raises(ValueError, match=rf"`divisor` must be a positive integer. Received: divisor={divisor}"):
        KnownPixels(divisor)


def test_sizes_are_checked_before_a_call():
    with pytest.raises(ValueError, match="must divide by 4"):
        KnownPixels(4)([keras.Input((4, 6, 3)), keras.Input((4, 6, 1))])


def test_an_image_without_a_mask_is_an_error():
    with pytest.raises(ValueError, match="takes an image .* and a mask"):
        KnownPixels()(np.zeros((2, 4, 4, 3), "float32"))
