"""The smooth fill against loops in NumPy, in float64, and against what a fill by diffusion must keep."""

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import DiffusionFill
from layer_test_case import array, check_layer_contract, compiled, dtype_of, gradients, tensors

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.uniform(-1, 1, size=(2, 7, 10, 3)).astype(np.float32)
MASK = np.zeros((2, 7, 10, 1), np.float32)
MASK[0, 1:7, 2:9] = 1
MASK[1] = RANDOM.uniform(size=MASK[1].shape) > 0.3
FEW = {"smoothing_steps": 2, "num_levels": 2}  # operations, where the fill's quality is not the point


def filled(image, mask, stiffness=4.0, smoothing_steps=12, num_levels=8):
    """The oracle: one image, one position after the other, and the iteration as what it does to eigenvectors."""
    first = ~(mask[..., 0] > 0)
    least, most, mean = (reduce(image[first].astype(np.float64), axis=0) for reduce in (np.min, np.max, np.mean))
    levels = [(np.where(first[..., None], image, 0).astype(np.float64), first)]
    for _ in range(num_levels):
        values, known = levels[-1]
        height, width = (-(-side // 2) for side in known.shape)
        halved, is_known = np.zeros((height, width, image.shape[-1])), np.zeros((height, width), bool)
        for row, column in np.ndindex(height, width):
            part = slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2)
            is_known[row, column] = known[part].any()
            if is_known[row, column]:
                halved[row, column] = values[part][known[part]].mean(axis=0)
        levels.append((halved, is_known))
    values, known = levels.pop()
    result = np.where(known[..., None], values, mean)
    for values, known in reversed(levels):
        result = np.where(known[..., None], values, interpolated(result, known.shape))
        result = np.where(
            known[..., None], values, np.clip(smoothed(result, known, stiffness, smoothing_steps), least, most)
        )
    return result


def laplacian(x):
    """Of `(height, width, channels)`."""
    around = np.pad(x, [(1, 1), (1, 1), (0, 0)], mode="edge")
    return around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * x


def smoothed(x, known, stiffness, steps):
    """After so many steps an eigenvector's share of the error is that much of a Chebyshev polynomial of its value."""
    holes = np.argwhere(~known)
    if not len(holes):
        return x

    def rest(x):
        return (laplacian(x) - stiffness * laplacian(laplacian(x)))[tuple(holes.T)]

    units = np.zeros((*known.shape, len(holes)))
    units[(*holes.T, np.arange(len(holes)))] = 1
    eigenvalues, vectors = np.linalg.eigh(-rest(units))
    largest = 8 + 64 * stiffness
    middle, radius = largest * 1.01 / 2, largest * 0.99 / 2
    polynomial = np.polynomial.Chebyshev.basis(steps)
    left = polynomial((middle - eigenvalues) / radius) / polynomial(middle / radius)
    x = x.copy()
    x[tuple(holes.T)] += vectors @ (((1 - left) / eigenvalues)[:, None] * (vectors.T @ rest(x)))
    return x


def interpolated(values, shape):
    """Bilinear, between the middles of positions that are twice as large."""
    result = np.zeros((*shape, values.shape[-1]))
    for row, column in np.ndindex(*shape):
        size = values.shape[:2]
        rows, columns = (np.clip((at + 0.5) / 2 - 0.5, 0, side - 1) for at, side in zip((row, column), size))
        top, left = int(rows), int(columns)
        bottom, right = min(top + 1, size[0] - 1), min(left + 1, size[1] - 1)
        down, along = rows - top, columns - left
        upper = (1 - along) * values[top, left] + along * values[top, right]
        lower = (1 - along) * values[bottom, left] + along * values[bottom, right]
        result[row, column] = (1 - down) * upper + down * lower
    return result


@pytest.mark.parametrize(
    "init_kwargs",
    [{"num_levels": 2, "smoothing_steps": 2}, {"num_levels": 1, "smoothing_steps": 1, "stiffness": 0, "name": "named"}],
)
def test_contract(init_kwargs):
    check_layer_contract(DiffusionFill, init_kwargs, [IMAGE, MASK])


@pytest.mark.parametrize("stiffness, smoothing_steps, num_levels", [(4.0, 12, 8), (0.0, 5, 2), (1.0, 1, 1)])
def test_values_are_those_of_an_oracle(stiffness, smoothing_steps, num_levels):
    found = array(DiffusionFill(stiffness, smoothing_steps, num_levels)(tensors([IMAGE, MASK])))
    expected = [filled(*pair, stiffness, smoothing_steps, num_levels) for pair in zip(IMAGE, MASK)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert (np.abs(found - IMAGE) > 0.1).any()


def test_float64_stays_float64():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX computes in float32 unless told otherwise")
    found = DiffusionFill(dtype="float64")(tensors([IMAGE.astype(np.float64), MASK.astype(np.float64)]))
    assert dtype_of(found) == "float64"
    expected = [filled(*pair) for pair in zip(IMAGE, MASK)]
    np.testing.assert_allclose(array(found), expected, rtol=1e-7, atol=3e-8)


def test_known_pixels_stay_bit_for_bit_and_all_lie_between_them():
    found = array(DiffusionFill()(tensors([IMAGE, MASK])))
    np.testing.assert_array_equal(np.where(MASK > 0, 0, found), np.where(MASK > 0, 0, IMAGE))
    for one, image, mask in zip(found, IMAGE, MASK):
        known = image[mask[..., 0] == 0]
        assert (one >= known.min(axis=0) - 1e-6).all() and (one <= known.max(axis=0) + 1e-6).all()


@pytest.mark.parametrize("stiffness", [0.0, 4.0])
def test_many_steps_solve_the_equation_and_few_come_close(stiffness):
    image, mask = np.zeros((1, 24, 24, 1), np.float32), np.zeros((1, 24, 24, 1), np.float32)
    image[0, ..., 0] = np.sin(np.arange(24) / 4)[:, None] + np.cos(np.arange(24) / 5)
    mask[0, 4:18, 6:20] = 1
    few, many = (array(DiffusionFill(stiffness, steps, 5)(tensors([image, mask]))) for steps in (12, 200))

    def rest(x):
        return np.abs((laplacian(x[0]) - stiffness * laplacian(laplacian(x[0]))) * mask[0]).max()

    assert rest(many) < 2e-3 * rest(image * (1 - mask)) and np.abs(many - few).max() < 0.15


def test_a_stiff_fill_carries_on_a_slope_and_one_that_is_not_levels_out():
    ramp = np.broadcast_to(np.linspace(-0.9, 0.9, 24, dtype=np.float32)[None, None, :, None], (1, 24, 24, 1))
    mask = np.zeros((1, 24, 24, 1), np.float32)
    mask[:, :, 16:20] = mask[:, 4:12, 5:12] = 1
    stiff, loose = (array(DiffusionFill(stiffness)(tensors([ramp, mask]))) for stiffness in (4.0, 0.0))
    np.testing.assert_allclose(stiff, ramp, atol=0.03)
    np.testing.assert_allclose(loose, ramp, atol=0.08)
    wave = np.broadcast_to(np.cos(np.arange(24, dtype=np.float32) / 3)[None, None, :, None], (1, 24, 24, 1))
    errors = [np.abs(array(DiffusionFill(stiffness)(tensors([wave, mask]))) - wave).max() for stiffness in (4.0, 0.0)]
    assert errors[0] < 0.75 * errors[1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 3)])
def test_sizes_need_not_be_even(shape):
    image = RANDOM.uniform(-1, 1, size=(2, *shape, 2)).astype(np.float32)
    mask = np.ones((2, *shape, 1), np.float32)
    mask[:, 0, 0] = 0
    found = array(DiffusionFill(smoothing_steps=2)(tensors([image, mask])))
    np.testing.assert_allclose(found, np.broadcast_to(image[:, :1, :1], image.shape), rtol=1e-6)


def test_without_a_known_pixel_all_are_0():
    found = array(DiffusionFill(**FEW)(tensors([IMAGE, np.ones_like(MASK)])))
    np.testing.assert_array_equal(found, np.zeros_like(IMAGE))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_the_image_holds_in_the_hole_plays_no_part(value):
    layer = DiffusionFill(smoothing_steps=2)
    image = np.where(MASK > 0, np.float32(value), IMAGE)
    expected = array(layer(tensors([IMAGE, MASK])))
    np.testing.assert_array_equal(array(layer(tensors([image, MASK]))), expected)
    found, _ = gradients(lambda image, mask: ops.sum(ops.square(layer([image, mask]))), [image, MASK], [])
    assert np.isfinite(found).all() and (found[np.broadcast_to(MASK, IMAGE.shape) > 0] == 0).all()
    assert (found != 0).any()


def test_sizes_may_be_unknown(tf):
    layer = DiffusionFill(smoothing_steps=2)
    call = tf.function(
        lambda image, mask: layer([image, mask]),
        input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, None, None, 1))],
    )
    for height, width in ((7, 10), (5, 4)):
        image, mask = IMAGE[:, :height, :width], MASK[:, :height, :width]
        np.testing.assert_allclose(call(image, mask), layer([image, mask]), rtol=1e-6, atol=1e-6)
    inputs = [keras.Input((None, None, 3)), keras.Input((None, None, 1))]
    assert tuple(layer(inputs).shape) == (None, None, None, 3)


def test_channels_may_come_first():
    first = [np.moveaxis(part, -1, 1) for part in (IMAGE, MASK)]
    found = array(DiffusionFill(smoothing_steps=2, data_format="channels_first")(tensors(first)))
    expected = array(DiffusionFill(smoothing_steps=2)(tensors([IMAGE, MASK])))
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected, rtol=1e-6)


def test_an_empty_batch_stays_empty():
    assert tuple(DiffusionFill(**FEW)(tensors([IMAGE[:0], MASK[:0]])).shape) == (0, 7, 10, 3)


def test_half_precision_gives_float32():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    layer = DiffusionFill(**FEW)
    assert dtype_of(layer(tensors([IMAGE, MASK]))) == "float32"
    assert dtype_of(layer([keras.Input((7, 10, 3)), keras.Input((7, 10, 1))])) == "float32"


def test_a_compiled_gradient_is_the_eager_one():
    layer = DiffusionFill(**FEW)
    found = [
        gradients(lambda image, mask: ops.sum(ops.square(layer([image, mask]))), [IMAGE, MASK], [], jit=jit)[0]
        for jit in (False, True)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        array(compiled(layer, layer)(tensors([IMAGE, MASK]))),
        array(layer(tensors([IMAGE, MASK]))),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"num_levels": 0}, "`num_levels` must be a positive integer. Received: num_levels=0"),
        ({"smoothing_steps": 0}, "`smoothing_steps` must be a positive integer. Received: smoothing_steps=0"),
        ({"stiffness": -1}, "`stiffness` must be a finite number of at least 0. Received: stiffness=-1"),
        ({"data_format": "last"}, "`data_format` must be one of .* Received: data_format='last'"),
    ],
)
def test_other_arguments_are_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DiffusionFill(**kwargs)


@pytest.mark.parametrize(
    "image_shape, mask_shape, message",
    [
        ((2, 4, 6), (2, 4, 6, 1), r"takes an image .* and a mask .* Received: shapes \(2, 4, 6\), \(2, 4, 6, 1\)"),
        ((2, 4, 6, 3), (2, 4, 6, 3), "takes an image .* and a mask"),
        ((2, 4, 6, 3), (2, 4, 5, 1), r"the same height and width\. Received: \(4, 6\) and \(4, 5\)"),
    ],
)
def test_other_shapes_are_errors(image_shape, mask_shape, message):
    with pytest.raises(ValueError, match=message):
        DiffusionFill()(tensors([np.zeros(image_shape, np.float32), np.zeros(mask_shape, np.float32)]))
