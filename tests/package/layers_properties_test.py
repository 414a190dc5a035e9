"""Properties of the layers beside Attentive Normalization, and of the losses, on what hypothesis makes.

The oracles are NumPy in float64, and Keras's own layers. The file is long because each layer and loss has its own.
"""

import numpy as np
import pytest

from keras_an import layers, losses
from keras_an.backend import keras, ops
from layer_test_case import BACKEND, array, dtype_of, map_nest, randomize_weights, tensors

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

# The same examples in each run; few on JAX, which compiles each operation anew for each shape.
examples = hypothesis.settings(
    max_examples=3 if BACKEND == "jax" else 20, derandomize=True, deadline=None, database=None
)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def maps(draw, fewest=1):
    """float32 `(batch, height, width, channels)` of values of any scale and offset."""
    shape = (
        draw(st.integers(1, 3)),
        draw(st.integers(fewest, 7)),
        draw(st.integers(fewest, 7)),
        draw(st.integers(1, 5)),
    )
    random = np.random.default_rng(draw(seeds))
    return (draw(st.floats(-10, 10)) + draw(st.floats(0.1, 10)) * random.normal(size=shape)).astype(np.float32)


def hole_in(x, share, seed):
    """float32 mask of a map: 1 where it misses pixels, about that share of them."""
    return (np.random.default_rng(seed).uniform(size=(*x.shape[:-1], 1)) < share).astype(np.float32)


def random_layer(layer, inputs, seed):
    layer(tensors(inputs))
    randomize_weights(layer, seed)
    return layer


def labels_for(x, num_classes, seed):
    return np.random.default_rng(seed).integers(num_classes, size=len(x)).astype(np.int32)


# Every layer.
CASES = {
    "ConditionalBatchNormalization": (
        lambda draw, **kwargs: layers.ConditionalBatchNormalization(3, epsilon=draw(st.floats(1e-5, 1)), **kwargs),
        lambda x, seed: [x, labels_for(x, 3, seed)],
    ),
    "Conv2D": (
        lambda draw, **kwargs: layers.Conv2D(
            draw(st.integers(1, 4)),
            draw(st.sampled_from([1, 3])),
            draw(st.sampled_from(["up", "down"])),
            use_bias=draw(st.booleans()),
            **kwargs,
        ),
        lambda x, seed: x,
    ),
    "DiffusionFill": (
        lambda draw, **kwargs: layers.DiffusionFill(
            draw(st.floats(0, 8)), smoothing_steps=draw(st.integers(1, 3)), num_levels=draw(st.integers(1, 3)), **kwargs
        ),
        lambda x, seed: [x, hole_in(x, 0.5, seed)],
    ),
    "KnownPixels": (lambda draw, **kwargs: layers.KnownPixels(**kwargs), lambda x, seed: [x, hole_in(x, 0.5, seed)]),
    "MaskedMean": (lambda draw, **kwargs: layers.MaskedMean(**kwargs), lambda x, seed: [x, hole_in(x, 0.5, seed)]),
    "NearestUpsampling": (lambda draw, **kwargs: layers.NearestUpsampling(**kwargs), lambda x, seed: x),
    "SelfAttention": (
        lambda draw, **kwargs: layers.SelfAttention(
            key_dim=draw(st.integers(1, 3)), value_dim=draw(st.integers(1, 5)), **kwargs
        ),
        lambda x, seed: x,
    ),
}


def test_every_layer_has_a_case():
    assert {*CASES, "AttentiveNormalization", "SpectralNormalization"} == set(layers.__all__)


@pytest.mark.parametrize("name", CASES)
@examples
@hypothesis.given(st.data(), maps(2), st.sampled_from(["float32", "float64", "mixed_float16", "mixed_bfloat16"]), seeds)
def test_shapes_dtypes_and_settings_are_those_that_the_layer_tells(name, data, x, dtype, seed):
    constructor, inputs_of = CASES[name]
    if BACKEND == "jax" and dtype == "float64":
        dtype = "float32"  # JAX has 64 bits only where a program asks for them
    layer, inputs = constructor(data.draw, dtype=dtype), inputs_of(x, seed)
    shape = layer.compute_output_shape(
        map_nest(lambda x: x.shape, inputs) if isinstance(inputs, list) else inputs.shape
    )
    symbolic = layer(map_nest(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), inputs))
    found = random_layer(layer, inputs, seed)(tensors(inputs))
    assert tuple(found.shape) == tuple(shape) == (len(x), *symbolic.shape[1:])
    assert dtype_of(found) == dtype_of(symbolic)
    twin = type(layer).from_config(layer.get_config())
    random_layer(twin, inputs, seed).set_weights(layer.get_weights())
    np.testing.assert_array_equal(
        *(array(ops.cast(one(tensors(inputs)), "float32")) for one in (layer, twin)), err_msg=str(layer.get_config())
    )


@pytest.mark.parametrize("name", [name for name in CASES if name != "ConditionalBatchNormalization"])
@examples
@hypothesis.given(st.data(), maps(2), seeds)
def test_images_of_a_batch_do_not_meet(name, data, x, seed):
    constructor, inputs_of = CASES[name]
    layer, inputs = constructor(data.draw), inputs_of(x, seed)
    together = array(random_layer(layer, inputs, seed)(tensors(inputs)))
    for index, expected in enumerate(together):
        alone = array(layer(tensors(map_nest(lambda x: x[index : index + 1], inputs))))[0]  # noqa: B023
        np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-4 * np.abs(x).max())


# Layers of masks: what the map holds where it does not count plays no part.
@examples
@hypothesis.given(maps(), st.floats(0, 1), st.sampled_from([0.0, np.nan, np.inf]), seeds)
def test_known_pixels_are_the_maps_and_the_others_0(x, share, value, seed):
    mask = hole_in(x, share, seed)
    found = array(layers.KnownPixels()(tensors([np.where(mask == 1, np.float32(value), x), mask])))
    np.testing.assert_array_equal(found, np.where(mask == 1, 0, x))


@examples
@hypothesis.given(maps(), st.floats(0, 1), st.sampled_from([0.0, np.nan, np.inf]), seeds)
def test_masked_mean_is_numpys_mean_of_what_counts(x, share, value, seed):
    mask = hole_in(x, share, seed)
    found = array(layers.MaskedMean()(tensors([np.where(mask == 0, np.float32(value), x), mask])))
    for image, counts, mean in zip(x.astype(np.float64), mask[..., 0] == 1, found):
        expected = image[counts].mean(0) if counts.any() else np.zeros(x.shape[-1])
        np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-4)


@examples
@hypothesis.given(maps(), st.floats(0, 1), st.floats(0, 20), st.floats(0.1, 5), st.floats(-5, 5), seeds)
def test_a_smooth_fill_keeps_what_is_known_and_goes_with_scale_and_offset(x, share, stiffness, scale, offset, seed):
    mask = hole_in(x, share, seed)
    fill = layers.DiffusionFill(stiffness, smoothing_steps=3, num_levels=3)
    found = array(fill(tensors([x, mask])))
    np.testing.assert_array_equal(found[mask[..., 0] == 0], x[mask[..., 0] == 0])
    moved = array(fill(tensors([np.float32(scale) * x + np.float32(offset), mask])))
    for image, missing, one, other in zip(x, mask[..., 0] == 1, found, moved):
        if missing.all():
            np.testing.assert_array_equal([one, other], np.zeros((2, *one.shape)))
            continue
        known = image[~missing]
        assert (one >= known.min(0)).all() and (one <= known.max(0)).all()
        np.testing.assert_allclose(
            other, scale * one + offset, rtol=1e-4, atol=1e-4 * (1 + np.abs(known).max() * scale)
        )


# Layers that move or mix positions.
@examples
@hypothesis.given(maps())
def test_up_sampling_repeats(x):
    np.testing.assert_array_equal(array(layers.NearestUpsampling()(tensors(x))), x.repeat(2, 1).repeat(2, 2))


@examples
@hypothesis.given(maps(2), st.sampled_from([1, 3]), st.sampled_from(["up", "down"]), st.integers(1, 4), seeds)
def test_a_convolution_that_resamples_is_kerass_layers_one_after_the_other(x, kernel_size, resampling, filters, seed):
    layer = random_layer(layers.Conv2D(filters, kernel_size, resampling), x, seed)
    plain = keras.layers.Conv2D(filters, kernel_size, padding="same")
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    if resampling == "up":
        expected = plain(keras.layers.UpSampling2D(2)(tensors(x)))
    else:
        expected = keras.layers.AveragePooling2D(2)(plain(tensors(x)))
    expected = array(expected)
    np.testing.assert_allclose(array(layer(tensors(x))), expected, rtol=1e-4, atol=1e-5 * np.abs(x).max() * 36)


@examples
@hypothesis.given(maps(2), st.integers(1, 4), st.floats(1e-5, 1), st.booleans(), seeds)
def test_conditional_batch_normalization_is_numpys(x, num_classes, epsilon, training, seed):
    labels = labels_for(x, num_classes, seed)
    layer = random_layer(layers.ConditionalBatchNormalization(num_classes, epsilon=epsilon), [x, labels], seed)
    moving = [
        np.asarray(array(w), np.float64) for w in (layer.normalization.moving_mean, layer.normalization.moving_variance)
    ]
    wide = x.astype(np.float64)
    mean, variance = (wide.mean((0, 1, 2)), wide.var((0, 1, 2))) if training else moving
    gamma, beta = (array(table.embeddings)[labels][:, None, None] for table in (layer.gamma, layer.beta))
    expected = gamma * (wide - mean) / np.sqrt(variance + epsilon) + beta
    found = array(layer(tensors([x, labels]), training=training))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@examples
@hypothesis.given(maps(2), st.integers(1, 3), st.integers(1, 5), st.sampled_from([1.0, 1e10, 1e30]), seeds)
def test_self_attention_is_numpys(x, key_dim, value_dim, scale, seed):
    layer = random_layer(layers.SelfAttention(key_dim=key_dim, value_dim=value_dim), x, seed)
    query, key, value, output, gamma = (np.asarray(array(weight), np.float64) for weight in layer.weights)
    found = array(layer(tensors(x * np.float32(scale))))
    height, width = (side // 2 * 2 for side in x.shape[1:3])
    for image, out in zip(x.astype(np.float64) * scale, found):
        windows = [image[:height, :width] @ kernel for kernel in (key, value)]
        keys, values = (
            part.reshape(height // 2, 2, width // 2, 2, -1).max((1, 3)).reshape(-1, part.shape[-1]) for part in windows
        )
        logits = image.reshape(-1, x.shape[-1]) @ query @ keys.T
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        expected = image + gamma * ((weights / weights.sum(-1, keepdims=True)) @ values @ output).reshape(image.shape)
        if scale == 1.0:
            np.testing.assert_allclose(out, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())
        assert np.isfinite(out).all()


@examples
@hypothesis.given(
    st.sampled_from(["dense", "conv", "embedding"]), st.integers(1, 6), st.integers(1, 6), st.integers(-12, 12), seeds
)
def test_a_kernel_has_the_largest_singular_value_1_whatever_its_scale(kind, inputs, outputs, exponent, seed):
    random = np.random.default_rng(seed)
    inner, shape = {
        "dense": (lambda: keras.layers.Dense(outputs, use_bias=False), (2, inputs)),
        "conv": (lambda: keras.layers.Conv2D(outputs, 3, padding="same", use_bias=False), (2, 3, 4, inputs)),
        "embedding": (lambda: keras.layers.Embedding(inputs, outputs), (4,)),
    }[kind]
    x = random.integers(inputs, size=shape).astype("int32") if kind == "embedding" else random.normal(size=shape)
    x = x if kind == "embedding" else x.astype(np.float32)
    layer, plain = layers.SpectralNormalization(inner()), inner()
    layer(tensors(x))
    plain(tensors(x))
    (kernel,) = (np.asarray(weight, np.float64) for weight in plain.get_weights())
    kernel = random.normal(size=kernel.shape)
    u, s, v = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), full_matrices=False)
    s = np.maximum(s, 1e-3)
    s[1:] = np.minimum(s[1:], 0.7 * s[0])  # what is nearly as large takes long to tell apart
    kernel = ((u * s) @ v).reshape(kernel.shape)
    plain.set_weights([kernel / s[0]])
    layer.layer.set_weights([kernel * 10.0**exponent])
    for _ in range(30):
        layer(tensors(x), training=True)
    np.testing.assert_allclose(array(layer(tensors(x))), array(plain(tensors(x))), rtol=1e-3, atol=1e-4)


# Losses.
SEEN = """
    discriminator_hinge_loss generator_hinge_loss critic_wasserstein_loss generator_wasserstein_loss gradient_penalty
    l1_loss spatial_discount id_mrf_loss DiscriminatorHingeLoss CriticWassersteinLoss IdMrfLoss
"""


def test_every_loss_is_among_those_below():
    assert set(SEEN.split()) == set(losses.__all__)


@examples
@hypothesis.given(maps(), maps(), st.sampled_from(["float32", "float16", "bfloat16"]))
def test_adversarial_losses_are_numpys(real, fake, dtype):
    real, fake = (ops.cast(tensors(part), dtype) for part in (real, fake))
    one, other = (np.asarray(array(ops.cast(part, "float32")), np.float64) for part in (real, fake))
    for found, expected in (
        (
            losses.discriminator_hinge_loss(real, fake_logits=fake),
            np.maximum(1 - one, 0).mean() + np.maximum(1 + other, 0).mean(),
        ),
        (losses.generator_hinge_loss(fake), -other.mean()),
        (losses.critic_wasserstein_loss(real, fake_scores=fake), other.mean() - one.mean()),
        (losses.generator_wasserstein_loss(fake), -other.mean()),
    ):
        assert dtype_of(found) == "float32"
        np.testing.assert_allclose(float(found), expected, rtol=1e-4, atol=1e-4)


@examples
@hypothesis.given(maps(), st.floats(0, 1), st.sampled_from([0.0, np.nan, np.inf]), seeds)
def test_l1_is_numpys_mean_of_what_counts(x, share, value, seed):
    random = np.random.default_rng(seed)
    weights = hole_in(x, share, seed) * random.uniform(0.1, 2, size=(*x.shape[:-1], 1)).astype(np.float32)
    target = np.where(weights == 0, np.float32(value), random.normal(size=x.shape).astype(np.float32))
    terms = np.where(weights > 0, weights * np.abs(np.nan_to_num(target).astype(np.float64) - x), 0)
    counts = x.shape[-1] * np.maximum((weights > 0).sum((1, 2, 3)), 1)
    expected = np.mean(terms.sum((1, 2, 3)) / counts)
    np.testing.assert_allclose(float(losses.l1_loss(*tensors([target, x, weights]))), expected, rtol=1e-4)


@examples
@hypothesis.given(maps(), st.booleans(), seeds)
def test_gradient_penalty_is_numpys(x, masked, seed):
    mask = hole_in(x, 0.5, seed) if masked else None
    seen = x.astype(np.float64) * (1 if mask is None else mask)
    expected = np.mean((np.sqrt((seen**2).sum((1, 2, 3)) + 1e-10) - 1) ** 2)
    found = losses.gradient_penalty(tensors(x), mask=None if mask is None else tensors(mask))
    np.testing.assert_allclose(float(found), expected, rtol=1e-3)


@examples
@hypothesis.given(st.integers(1, 7), st.integers(1, 7), st.floats(0.1, 0.99), st.integers(1, 6), st.floats(0, 1), seeds)
def test_discount_is_a_power_of_the_distance_to_what_is_known(height, width, gamma, reach, share, seed):
    mask = (np.random.default_rng(seed).uniform(size=(1, height, width, 1)) < share).astype(np.float32)
    known = np.argwhere(mask[0, ..., 0] == 0)
    expected = np.full((height, width), gamma**reach)
    for place in np.ndindex(height, width):
        for other in known:
            distance = np.abs(other - place).max()
            expected[place] = max(expected[place], gamma ** min(distance, reach))
    found = array(losses.spatial_discount(tensors(mask), gamma, reach))
    np.testing.assert_allclose(found[0, ..., 0], expected, rtol=1e-4)


@examples
@hypothesis.given(maps(2), st.floats(0.1, 2), st.floats(0.1, 10), seeds)
def test_id_mrf_knows_no_order_of_patches_and_no_scale(target, bandwidth, scale, seed):
    random = np.random.default_rng(seed)
    features = (target + random.normal(size=target.shape)).astype(np.float32)
    shuffled = features.reshape(len(features), -1, features.shape[-1])
    shuffled = shuffled[:, random.permutation(shuffled.shape[1])].reshape(features.shape)
    loss, *others = (
        float(losses.id_mrf_loss(*tensors([one.astype(np.float32), other.astype(np.float32)]), bandwidth))
        for one, other in ((target, features), (target, shuffled), (scale * target, scale * features))
    )
    assert np.isfinite(loss)
    np.testing.assert_allclose(others, loss, rtol=1e-2, atol=1e-3)
    compiled = losses.IdMrfLoss(bandwidth)(*tensors([target, features]))
    np.testing.assert_allclose(float(compiled), loss, rtol=1e-5)


@examples
@hypothesis.given(maps(), st.floats(0, 1), seeds)
def test_losses_of_fit_are_those_of_the_parts_of_a_mixed_batch(x, share, seed):
    logits = x.reshape(-1)
    real = np.random.default_rng(seed).uniform(size=logits.shape) < share
    hypothesis.assume(real.any() and not real.all())
    for loss, expected in (
        (
            losses.DiscriminatorHingeLoss(),
            losses.discriminator_hinge_loss(tensors(logits[real]), fake_logits=tensors(logits[~real])),
        ),
        (
            losses.CriticWassersteinLoss(),
            losses.critic_wasserstein_loss(tensors(logits[real]), fake_scores=tensors(logits[~real])),
        ),
    ):
        found = loss(*tensors([real.astype(np.float32), logits]))
        np.testing.assert_allclose(float(found), float(expected), rtol=1e-4, atol=1e-4)
