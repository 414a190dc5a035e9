"""Resampled convolutions against the plain form: in float64, tap by tap in NumPy; and their gradients."""

import numpy as np
import pytest

from keras_an import ops
from keras_an.backend import ops as keras_ops
from layer_test_case import array, compiled, dtype_of, gradients, tensors

SIZES = [(1, 1), (2, 3), (5, 4), (7, 5), (6, 8)]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def convolved(x, kernel):
    height, width = x.shape[1:3]
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def doubled(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def halved(x):
    height, width = (size // 2 for size in x.shape[1:3])
    x = x[:, : 2 * height, : 2 * width]
    return x.reshape(len(x), height, 2, width, 2, x.shape[-1]).mean(axis=(2, 4))


# The function, and its plain form.
FORMS = {
    "doubled": (ops.doubled_convolution, lambda x, kernel: convolved(doubled(x), kernel)),
    "halved": (ops.halved_convolution, lambda x, kernel: halved(convolved(x, kernel))),
}
CASES = [(name, size) for name in FORMS for size in SIZES if name == "doubled" or min(size) > 1]


def tolerance(tensor):
    return 1e-12 if dtype_of(tensor) == "float64" else 2e-5  # JAX has no float64 unless told


@pytest.mark.parametrize("name, size", CASES)
def test_values_are_those_of_the_plain_form_to_the_last_row(name, size):
    function, plain = FORMS[name]
    x, kernel = draw(2, *size, 3), draw(3, 3, 3, 4, seed=1)
    found = function(*tensors([x, kernel]))
    np.testing.assert_allclose(array(found), plain(x, kernel), rtol=0, atol=tolerance(found))


@pytest.mark.parametrize("name, size", CASES)
def test_gradients_are_the_plain_forms_adjoint(name, size):
    """Both are linear in the map and in the kernel: in every direction the gradient gives what the plain form gives."""
    function, plain = FORMS[name]
    x, kernel = draw(2, *size, 3), draw(3, 3, 3, 4, seed=1)
    weights = draw(*plain(x, kernel).shape, seed=2)
    by_x, by_kernel = gradients(lambda *inputs: keras_ops.sum(function(*inputs) * tensors(weights)), [x, kernel], [])
    for seed in range(3, 6):
        x_direction, kernel_direction = draw(*x.shape, seed=seed), draw(*kernel.shape, seed=seed)
        limit = 1e3 * tolerance(tensors(x))
        assert np.sum(by_x * x_direction) == pytest.approx(np.sum(plain(x_direction, kernel) * weights), abs=limit)
        assert np.sum(by_kernel * kernel_direction) == pytest.approx(
            np.sum(plain(x, kernel_direction) * weights), abs=limit
        )


@pytest.mark.parametrize("name", FORMS)
def test_a_compiled_program_gives_the_same(name):
    inputs = tensors([draw(2, 6, 8, 3).astype("float32"), draw(3, 3, 3, 4, seed=1).astype("float32")])
    function = FORMS[name][0]
    np.testing.assert_allclose(array(compiled(function)(*inputs)), array(function(*inputs)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(5, 4), (6, 8)])
def test_sizes_that_are_known_in_a_call_alone(tf, size):
    x, kernel = tf.constant(draw(2, *size, 3)), tf.constant(draw(3, 3, 3, 4, seed=1))
    for function, plain in FORMS.values():
        signature = [tf.TensorSpec([None, None, None, 3], x.dtype), tf.TensorSpec(kernel.shape, x.dtype)]
        traced = tf.function(lambda *inputs, function=function: function(*inputs), input_signature=signature)
        np.testing.assert_allclose(traced(x, kernel), plain(x.numpy(), kernel.numpy()), atol=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_bfloat16_rounds_as_the_plain_form_does(name):
    function, plain = FORMS[name]
    inputs = [array(keras_ops.cast(tensors(value), "bfloat16")) for value in (draw(2, 6, 8, 16), draw(3, 3, 16, 4))]
    found = function(*(keras_ops.cast(tensors(value), "bfloat16") for value in inputs))
    assert dtype_of(found) == "bfloat16"
    expected = plain(*(value.astype("float64") for value in inputs))
    np.testing.assert_allclose(array(found).astype("float64"), expected, atol=0.02 * np.abs(expected).max())


def test_doubling_repeats_and_halving_takes_means():
    x = draw(2, 5, 4, 3)
    np.testing.assert_array_equal(array(ops.double(tensors(x))), array(tensors(doubled(x))))
    np.testing.assert_allclose(array(ops.halve(tensors(x))), halved(x), atol=1e-6)
