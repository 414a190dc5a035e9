"""Self-attention against a NumPy loop."""

import numpy as np
import pytest

from keras_an.backend import ops
from keras_an.layers import SelfAttention
from layer_test_case import array, check_layer_contract, dtype_of, gradients, randomize_weights


def features(shape=(2, 4, 6, 8), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_layer(x, **kwargs):
    layer = SelfAttention(**kwargs)
    layer(x)
    randomize_weights(layer)
    return layer


def pooled(image):
    """Maxima of 2 x 2 windows, as rows."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return np.stack([image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for i, j in np.ndindex(height, width)])


def reference(images, layer):
    """`x + gamma * W_o(softmax(q(x) k(x)^T) v(x))`, position by position, in float64."""
    query, key, value, output, gamma = (np.asarray(weight, np.float64) for weight in layer.weights)
    outputs = images.astype(np.float64)
    for image, out in zip(images.astype(np.float64), outputs):
        keys, values = pooled(image @ key), pooled(image @ value)
        for position in np.ndindex(*image.shape[:2]):
            weights = np.exp(keys @ (image[position] @ query))
            attended = sum(weight * row for weight, row in zip(weights, values)) / sum(weights)
            out[position] += layer.residual_multiplier * gamma * (attended @ output)
    return outputs


@pytest.mark.parametrize(
    "init_kwargs",
    [{}, {"key_dim": 3, "value_dim": 5, "name": "named", "residual_initializer": "ones", "residual_multiplier": 2.0}],
)
def test_contract(init_kwargs):
    check_layer_contract(SelfAttention, init_kwargs, features((4, 4, 6, 8)))


@pytest.mark.parametrize("kwargs", [{}, {"key_dim": 3, "value_dim": 5}, {"residual_multiplier": 10.0}])
@pytest.mark.parametrize("spatial", [(4, 6), (5, 3), (2, 2)])
def test_value_is_that_of_the_equations(kwargs, spatial):
    x = features((2, *spatial, 8))
    layer = random_layer(x, **kwargs)
    np.testing.assert_allclose(layer(x), reference(x, layer), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("error:You are using a softmax")
def test_a_single_key_warns_of_nothing():
    x = features((2, 2, 3, 8))
    layer = random_layer(x)
    np.testing.assert_allclose(layer(x), reference(x, layer), rtol=1e-4, atol=1e-4)


def test_a_new_layer_is_the_identity():
    x = features()
    np.testing.assert_array_equal(SelfAttention()(x), x)


def test_gamma_starts_where_it_is_told():
    x = features()
    layer = SelfAttention(residual_initializer="ones", residual_multiplier=0.5)
    np.testing.assert_allclose(layer(x), reference(x, layer), rtol=1e-4, atol=1e-4)
    assert float(layer.weights[-1].numpy()) == 1.0 and np.abs(array(layer(x)) - x).max() > 1e-3


@pytest.mark.parametrize("channels, key_dim, value_dim", [(16, 2, 8), (4, 1, 2), (1, 1, 1)])
def test_dimensions_follow_the_channels(channels, key_dim, value_dim):
    layer = SelfAttention()
    layer.build((None, 4, 4, channels))
    shapes = [tuple(weight.shape) for weight in layer.weights]
    kernels = [(channels, key_dim), (channels, key_dim), (channels, value_dim), (value_dim, channels)]
    assert shapes == [*kernels, ()]


def test_gradients_reach_every_weight():
    x = features()
    layer = random_layer(x)
    found = gradients(lambda x: ops.sum(ops.square(layer(x))), [x], layer.trainable_weights)
    assert all(np.abs(gradient).max() > 1e-4 for gradient in found)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_gives_its_dtype(dtype):
    x = features()
    layer = random_layer(x, dtype=f"mixed_{dtype}")
    layer.residual_weight.assign(0.1)
    outputs = layer(x)
    assert dtype_of(outputs) == dtype
    assert {dtype_of(weight) for weight in layer.weights} == {"float32"}
    np.testing.assert_allclose(array(ops.cast(outputs, "float32")), reference(x, layer), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("shape", [(2, 4, 8), (2, 3, 4, 4, 8)])
def test_other_ranks_are_errors(shape):
    message = (
        rf"\(batch, height, width, channels\), channels known\. Received: input_shape=\({', '.join(map(str, shape))}\)"
    )
    with pytest.raises(ValueError, match=message):
        SelfAttention()(np.zeros(shape, np.float32))


def test_an_unknown_number_of_channels_is_an_error():
    with pytest.raises(ValueError, match=r"channels known\. Received: input_shape=\(None, 4, 4, None\)"):
        SelfAttention().build((None, 4, 4, None))


@pytest.mark.parametrize("name", ["key_dim", "value_dim"])
@pytest.mark.parametrize("value", [0, -1, 2.0])
def test_dimensions_must_be_positive_integers(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be a positive integer. Received: {name}={value}"):
        SelfAttention(**{name: value})


def test_the_multiplier_must_be_positive():
    with pytest.raises(ValueError, match="`residual_multiplier` must be positive. Received: residual_multiplier=0"):
        SelfAttention(residual_multiplier=0)
