"""Properties of Attentive Normalization on feature maps that hypothesis makes."""

import numpy as np
import pytest

from attentive_normalization_test_case import reference, slopes, weights_of
from keras_an import AttentiveNormalization
from keras_an.backend import ops
from layer_test_case import BACKEND, array, gradients, randomize_weights, tensors

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

# The same examples in each run; few on JAX, which compiles each operation anew for each shape.
examples = hypothesis.settings(
    max_examples=4 if BACKEND == "jax" else 25, derandomize=True, deadline=None, database=None
)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def feature_maps(draw):
    """float32 `(batch, *spatial, channels)` with 4 to 36 positions."""
    spatial = draw(st.one_of(st.tuples(st.integers(4, 30)), st.tuples(st.integers(2, 6), st.integers(2, 6))))
    shape = (draw(st.integers(1, 3)), *spatial, draw(st.integers(2, 9)))
    return np.random.default_rng(draw(seeds)).normal(size=shape).astype(np.float32)


def random_layer(x, seed, **kwargs):
    layer = AttentiveNormalization(**kwargs)
    layer.build(x.shape)
    randomize_weights(layer, seed)
    layer.residual_weight.assign(1.0)
    return layer


@examples
@hypothesis.given(feature_maps(), st.integers(1, 6), st.booleans(), st.sampled_from(["weighted", "released"]), seeds)
def test_permuting_positions_permutes_the_outputs(x, num_entities, value_projection, statistics, seed):
    layer = random_layer(x, seed, num_entities=num_entities, value_projection=value_projection, statistics=statistics)
    rows = x.reshape(len(x), -1, x.shape[-1])
    order = np.random.default_rng(seed).permutation(rows.shape[1])
    outputs, layout = map(array, layer(x, return_layout=True))
    for one, other in zip((outputs, layout), layer(rows[:, order].reshape(x.shape), return_layout=True)):
        one, other = (part.reshape(*rows.shape[:2], -1) for part in (one, array(other)))
        np.testing.assert_allclose(other, one[:, order], rtol=1e-3, atol=1e-4)


@examples
@hypothesis.given(feature_maps(), st.integers(1, 4), st.booleans(), st.floats(-1000, 1000), seeds)
def test_a_constant_on_a_channel_leaves_the_normalized_part(x, num_entities, value_projection, constant, seed):
    """Where the entities do not look at that channel, so that the layout stays."""
    channel = seed % x.shape[-1]
    shifted = x.copy()
    shifted[..., channel] += np.float32(constant)
    # What float32 has rounded off is off in both.
    x[..., channel] = shifted[..., channel] - np.float32(constant)
    layer = random_layer(x, seed, num_entities=num_entities, value_projection=value_projection)
    entities = array(layer.entities).copy()
    entities[:, channel] = 0.0
    layer.entities.assign(entities)
    expected = reference(x, weights_of(layer))[0] - x
    for features in (x, shifted):
        np.testing.assert_allclose(array(layer(features)) - features, expected, rtol=1e-3, atol=1e-3)


@examples
@hypothesis.given(feature_maps(), st.floats(-3, 3), st.integers(1, 20), st.booleans(), seeds)
def test_layout_sums_to_one(x, exponent, num_entities, training, seed):
    layer = random_layer(x, seed, num_entities=num_entities)
    layout = array(layer.get_layout(x * np.float32(10**exponent), training=training))
    assert layout.shape == (*x.shape[:-1], num_entities) and layout.min() >= 0
    np.testing.assert_allclose(layout.sum(-1), 1.0, rtol=1e-5)


@examples
@hypothesis.given(
    feature_maps(),
    st.fixed_dictionaries(
        {
            "num_entities": st.integers(1, 20),
            "value_projection": st.booleans(),
            "self_sampling": st.booleans(),
            "affine": st.booleans(),
            "statistics": st.sampled_from(["weighted", "released"]),
            "pool_size": st.integers(1, 3),
        }
    ),
    st.booleans(),
)
def test_a_new_layer_is_the_identity(x, options, training):
    np.testing.assert_array_equal(array(AttentiveNormalization(**options)(x, training=training)), x)


@examples
@hypothesis.given(feature_maps(), st.integers(1, 6), st.booleans(), seeds)
def test_gradients_are_the_slopes_of_the_float64_reference(x, num_entities, value_projection, seed):
    """Along a random direction of the inputs, and of each weight."""
    layer = random_layer(x, seed, num_entities=num_entities, value_projection=value_projection, self_sampling=False)
    weights, random = weights_of(layer), np.random.default_rng(seed)
    weighting = random.normal(size=x.shape).astype(np.float32)
    variables = [getattr(layer, name) for name in weights]
    found = gradients(lambda x: ops.sum(layer(x) * tensors(weighting)), [x], variables)

    def value(**changed):
        point = {"images": x, **weights, **changed}
        return np.sum(reference(point.pop("images"), point)[0] * weighting)

    for name, gradient in zip(["images", *weights], found):
        direction, start = random.normal(size=gradient.shape), weights.get(name, x)
        slope = slopes(lambda t, name=name, way=direction, at=start: value(**{name: at + t * way}), np.zeros(()))
        terms = gradient * direction
        # What float32 rounds off grows with the terms of the sum, not with the sum.
        assert abs(slope - np.sum(terms)) <= 1e-3 * np.sum(np.abs(terms)) + 1e-3, name
