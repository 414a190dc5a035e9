"""Properties of Attentive Normalization on feature maps that hypothesis makes."""

import numpy as np
import pytest

from attentive_normalization_test_case import reference, slopes, weights_of
from keras_an import AttentiveNormalization
from keras_an.backend import ops
from layer_test_case import BACKEND, array, dtype_of, gradients, randomize_weights, tensors

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

# The same examples in each run; few on JAX, which compiles each operation anew for each shape.
examples = hypothesis.settings(
    max_examples=3 if BACKEND == "jax" else 25, derandomize=True, deadline=None, database=None
)
seeds = st.integers(0, 2**32 - 1)
# JAX has 64 bits only where a program asks for them.
DTYPES = ["float32", "mixed_float16", "mixed_bfloat16"] + (["float64"] if BACKEND != "jax" else [])


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


flags = st.fixed_dictionaries(
    {
        "num_entities": st.integers(1, 6),
        "value_projection": st.booleans(),
        "self_sampling": st.booleans(),
        "affine": st.booleans(),
        "statistics": st.sampled_from(["weighted", "released"]),
        "pool_size": st.integers(1, 3),
        "orthogonality": st.sampled_from(["cosine", "frobenius", None]),
        "data_format": st.sampled_from(["channels_last", "channels_first"]),
    }
)


@examples
@hypothesis.given(feature_maps(), flags, st.sampled_from(DTYPES), st.booleans(), seeds)
def test_shapes_and_dtypes_are_those_that_the_layer_tells(x, options, dtype, training, seed):
    if options["data_format"] == "channels_first":
        x = np.moveaxis(x, -1, 1)
    layer = random_layer(x, seed, dtype=dtype, **options)
    outputs, layout = layer(tensors(x), training=training, return_layout=True)
    shapes = layer.compute_output_shape(x.shape, return_layout=True)
    spec = layer.compute_output_spec(tensors(x), return_layout=True)
    for found, shape, told in zip((outputs, layout), shapes, spec):
        assert tuple(found.shape) == tuple(shape) == tuple(told.shape)
        assert dtype_of(found) == dtype_of(told)
        assert np.isfinite(array(ops.cast(found, "float32"))).all()
    twin = AttentiveNormalization.from_config(layer.get_config())
    twin.build(x.shape)
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(array(twin(tensors(x))), array(layer(tensors(x))))


@examples
@hypothesis.given(feature_maps(), flags, st.booleans(), st.floats(0, 1), seeds)
def test_masked_positions_are_as_if_they_were_not_there(x, options, training, share, seed):
    mask = np.random.default_rng(seed).uniform(size=x.shape[:-1]) >= share
    layers = [AttentiveNormalization(**{**options, "data_format": "channels_last", "seed": 1}) for _ in range(2)]
    for layer in layers:  # which draw alike
        layer.build(x.shape)
        randomize_weights(layer, seed)
        layer.residual_weight.assign(0.1)  # the variance of a region of one position leaves few digits
    noise = np.where(mask[..., None], x, np.random.default_rng(seed + 1).normal(0, 100, size=x.shape))
    outputs, layout = map(array, layers[0](tensors(x), training=training, mask=mask, return_layout=True))
    others = layers[1](tensors(noise.astype(np.float32)), training=training, mask=mask, return_layout=True)
    for one, other in zip((outputs, layout), map(array, others)):
        np.testing.assert_array_equal(one[mask], other[mask])
    np.testing.assert_array_equal(outputs[~mask], x[~mask])
    np.testing.assert_array_equal(layout[~mask], 0.0)
    np.testing.assert_allclose(layout[mask].sum(-1), 1.0, rtol=1e-5)
    if not training and x.ndim == 3:
        for image, valid, found in zip(x, mask, outputs):
            if valid.any():
                alone = array(layers[0](tensors(image[valid][None])))[0]
                np.testing.assert_allclose(found[valid], alone, rtol=1e-3, atol=1e-3)


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
