"""Attentive Normalization against a NumPy loop over the paper's equations, and what the layer keeps.

The file is long because one layer with many options, each against the same reference.
"""

import pathlib

import numpy as np
import pytest

from attentive_normalization_test_case import penalty, reference, slopes, weights_of
from keras_an import AttentiveNormalization
from keras_an.backend import IS_KERAS_3, keras, ops
from keras_an.layers import attentive_normalization
from layer_test_case import (
    array,
    assert_close,
    check_layer_contract,
    compiled,
    dtype_of,
    gradients,
    per_replica,
    randomize_weights,
    tensors,
)

RELEASED = pathlib.Path(__file__).parents[1] / "testdata" / "released_layer.npz"


def features(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_layer(shape, seed=0, **kwargs):
    """A built layer, none of whose weights has the value that it starts at."""
    layer = AttentiveNormalization(**{"num_entities": 3, **kwargs})
    layer(np.zeros(shape, np.float32))
    randomize_weights(layer, seed)
    return layer


@pytest.fixture
def draw(monkeypatch):
    """Fixes what self-sampling draws: `draw(windows, num_windows)`."""

    def fix(windows, num_windows=None):
        def sample_positions(batch_size, num_positions, num_samples, seed_generator):
            assert num_samples == windows.shape[1]
            assert num_windows is None or (int(batch_size), int(num_positions)) == (len(windows), num_windows)
            return tensors(windows.astype(np.int32))

        monkeypatch.setattr(attentive_normalization, "sample_positions", sample_positions)

    return fix


# The contract.


@pytest.mark.parametrize(
    "init_kwargs, shape, call_kwargs",
    [
        ({"num_entities": 3}, (4, 6, 5, 8), None),
        ({"num_entities": 3, "value_projection": True}, (4, 6, 5, 8), {"return_layout": True}),
        ({"num_entities": 2, "data_format": "channels_first"}, (2, 4, 7), None),
        (
            {
                "num_entities": 4,
                "temperature": 0.5,
                "key_dim": 2,
                "pool_size": 1,
                "self_sampling": False,
                "value_projection": True,
                "statistics": "released",
                "affine": False,
                "orthogonality": "frobenius",
                "orthogonal_weight": 0.1,
                "epsilon": 1e-3,
                "entity_initializer": keras.initializers.RandomNormal(stddev=2.0, seed=1),
                "seed": 3,
                "data_format": "channels_last",
                "entity_regularizer": "l1",
                "entity_constraint": keras.constraints.MaxNorm(3.0),
                "kernel_initializer": "he_normal",
                "kernel_regularizer": keras.regularizers.L2(0.5),
                "kernel_constraint": "max_norm",
                "beta_initializer": "zeros",
                "beta_regularizer": "l2",
                "beta_constraint": "non_neg",
                "alpha_initializer": "ones",
                "alpha_regularizer": "l1",
                "alpha_constraint": "unit_norm",
                "name": "named",
            },
            (2, 3, 4, 2, 4),
            None,
        ),
    ],
    ids=["2d", "layout", "1d_channels_first", "no_default_3d"],
)
def test_contract(init_kwargs, shape, call_kwargs):
    check_layer_contract(AttentiveNormalization, init_kwargs, features(shape), call_kwargs)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", [{}, {"value_projection": True}, {"statistics": "released"}], ids=str)
def test_jit_equals_eager(draw, options, training):
    """Outputs, layout and the gradients of inputs and weights, losses included."""
    x, weighting = features((2, 4, 5, 8)), features((2, 4, 5, 8), 1)
    layer = random_layer(x.shape, pool_size=1, **options)
    draw(np.array([[0, 7, 19], [3, 3, 12]]))

    def call(x):
        return layer(x, training=training, return_layout=True)

    def loss(x):
        return ops.sum(layer(x, training=training) * tensors(weighting)) + sum(layer.losses)

    assert_close(compiled(call, layer)(tensors(x)), call(tensors(x)), rtol=1e-5, atol=1e-5)
    eager, jitted = (gradients(loss, [x], layer.trainable_weights, jit=jit) for jit in (False, True))
    for one, other in zip(jitted, eager):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * max(np.abs(other).max(), 1))


def test_self_sampling_compiles_under_jit():
    layer = random_layer((2, 4, 4, 8), seed=1)
    x = tensors(features((2, 4, 4, 8)))
    step = compiled(lambda x: layer(x, training=True), layer)
    first, second = array(step(x)), array(step(x))
    assert np.isfinite(first).all() and np.abs(first - second).max() > 1e-4


def test_replicas_train_as_one(tf, mirrored):
    """Gradients of two replicas, each of half of the batch, add up to those of the whole batch."""
    x, weighting = features((4, 4, 4, 6)), features((4, 4, 4, 6), 1)
    layer = random_layer(x.shape, self_sampling=False)

    def gradients(layer, x, weighting, num_replicas):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(x, training=True) * weighting) / num_replicas
            loss += tf.add_n(layer.losses) / num_replicas
        return tape.gradient(loss, layer.trainable_weights)

    whole = gradients(layer, tf.constant(x), tf.constant(weighting), 1)
    with mirrored.scope():
        twin = AttentiveNormalization.from_config(layer.get_config())
        twin.build(tf.TensorShape(x.shape))
    for mine, theirs in zip(twin.trainable_weights, layer.trainable_weights):
        mine.assign(np.asarray(theirs))
    inner = tf.function(lambda x, weighting: gradients(twin, x, weighting, 2), jit_compile=True)

    @tf.function
    def run(x, weighting):
        # Passed as it is, the strategy would place the compiled function on the first device.
        per_replica_gradients = mirrored.run(lambda *args: inner(*args), args=(x, weighting))
        return [mirrored.reduce("SUM", gradient, axis=None) for gradient in per_replica_gradients]

    halves = run(per_replica(mirrored, np.split(x, 2)), per_replica(mirrored, np.split(weighting, 2)))
    for half, one in zip(halves, whole):
        np.testing.assert_allclose(half, one, rtol=1e-4, atol=1e-6)


# The value.


@pytest.mark.parametrize("pool_size", [1, 2])
@pytest.mark.parametrize("spatial", [(7,), (4, 5), (2, 3, 4)], ids=["1d", "2d", "3d"])
@pytest.mark.parametrize(
    "options",
    [{}, {"value_projection": True}, {"affine": False}, {"temperature": 0.7, "epsilon": 0.1, "key_dim": 3}],
    ids=["default", "value_projection", "no_affine", "other_numbers"],
)
def test_value_is_the_papers(draw, pool_size, spatial, options):
    x = features((2, *spatial, 6))
    layer = random_layer(x.shape, pool_size=pool_size, **options)
    numbers = {key: value for key, value in options.items() if key in ("temperature", "epsilon")}
    num_windows = int(np.prod([size // pool_size for size in spatial]))
    windows = np.random.default_rng(1).integers(num_windows, size=(2, 3))
    draw(windows, num_windows)
    for training, drawn in ((False, None), (True, windows)):
        outputs, layout = layer(x, training=training, return_layout=True)
        expected = reference(x, weights_of(layer), pool_size=pool_size, windows=drawn, **numbers)
        np.testing.assert_allclose(layout, expected[1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs, expected[0], rtol=1e-4, atol=1e-4)


def test_a_new_layer_is_the_identity():
    x = features((2, 6, 6, 8))
    layer = AttentiveNormalization(num_entities=4, value_projection=True)
    for training in (False, True):
        np.testing.assert_array_equal(layer(x, training=training), x)


def test_weights_start_as_the_paper_says():
    layer = AttentiveNormalization(num_entities=4)
    layer.build((None, 6, 6, 16))
    weights = weights_of(layer)
    assert {name: value.shape for name, value in weights.items()} == {
        "entities": (4, 16),
        "query_kernel": (16, 2),
        "query_bias": (2,),
        "key_kernel": (16, 2),
        "key_bias": (2,),
        "sampling_weight": (4,),
        "alpha": (4, 16),
        "beta": (4, 16),
        "residual_weight": (),
    }
    np.testing.assert_allclose(weights["sampling_weight"], 0.1, rtol=1e-6)
    assert (weights["beta"] == 1).all() and (weights["alpha"] == 0).all() and weights["residual_weight"] == 0


def test_kernels_start_apart():
    layer = AttentiveNormalization(num_entities=4, key_dim=16, value_projection=True)
    layer.build((None, 6, 6, 16))
    query, key, value = layer.query_kernel, layer.key_kernel, layer.value_kernel
    assert all(np.abs(one - other).max() > 1e-3 for one, other in ((query, key), (key, value), (query, value)))


def test_initializers_decide_where_weights_start():
    constant = keras.initializers.Constant
    layer = AttentiveNormalization(
        num_entities=4,
        value_projection=True,
        entity_initializer=constant(1.0),
        kernel_initializer=constant(2.0),
        beta_initializer=constant(3.0),
        alpha_initializer=constant(4.0),
    )
    layer.build((None, 6, 6, 16))
    starts = {"entities": 1, "query_kernel": 2, "key_kernel": 2, "value_kernel": 2, "beta": 3, "alpha": 4}
    for name, start in starts.items():
        np.testing.assert_array_equal(getattr(layer, name), np.full(getattr(layer, name).shape, start))


def test_kernels_start_as_a_function_says():
    layer = AttentiveNormalization(4, kernel_initializer=lambda shape, dtype=None, **kwargs: ops.ones(shape))
    layer.build((None, 6, 6, 16))
    np.testing.assert_array_equal(layer.query_kernel, np.ones((16, 2)))


def test_kernels_start_apart_with_a_seed_generator():
    if not IS_KERAS_3:
        pytest.skip("initializers of Keras 2 take integers alone")
    seed = keras.random.SeedGenerator(1)
    layer = AttentiveNormalization(4, key_dim=16, kernel_initializer=keras.initializers.RandomNormal(seed=seed))
    layer.build((None, 6, 6, 16))
    assert np.abs(array(layer.query_kernel) - array(layer.key_kernel)).max() > 1e-3


@pytest.mark.parametrize(
    "option, names",
    [
        ("entity", ["entities"]),
        ("kernel", ["query_kernel", "key_kernel", "value_kernel"]),
        ("beta", ["beta"]),
        ("alpha", ["alpha"]),
    ],
)
def test_regularizers_and_constraints_reach_their_weights(option, names):
    options = {f"{option}_regularizer": keras.regularizers.L1(0.5), f"{option}_constraint": keras.constraints.NonNeg()}
    layer = random_layer((1, 4, 4, 8), value_projection=True, orthogonality=None, **options)
    weights = weights_of(layer)
    expected = sum(0.5 * np.abs(weights[name]).sum() for name in names)
    assert float(sum(layer.losses)) == pytest.approx(expected, rel=1e-5)
    constrained = [name for name in weights if getattr(layer, name).constraint is not None]
    assert constrained == [name for name in weights if name in names]


def released_layer(data):
    layer = AttentiveNormalization(6, pool_size=1, value_projection=True, statistics="released", affine=False)
    layer(data["x"])
    prefix = "weights/sn/"
    layer.entities.assign(data[prefix + "mask_filters"][0, 0].T)
    for name in ("query", "key", "value"):
        getattr(layer, f"{name}_kernel").assign(data[f"{prefix}sn_{name}_conv/kernel"][0, 0])
        getattr(layer, f"{name}_bias").assign(data[f"{prefix}sn_{name}_conv/bias"])
    layer.sampling_weight.assign(data[prefix + "alpha"][0, 0, 0])
    layer.residual_weight.assign(data[prefix + "sigma"][0])
    return layer


def test_released_vectors_with_sampling(draw):
    data = np.load(RELEASED)
    layer = released_layer(data)
    draw(np.tile(data["positions"], (3, 1)), 8 * 12)
    outputs, layout = layer(data["x"], training=True, return_layout=True)
    np.testing.assert_allclose(layout, data["layout"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs, data["y"], rtol=0, atol=1e-5)


def test_released_vectors_without_sampling():
    data = np.load(RELEASED)
    outputs, layout = released_layer(data)(data["x"], return_layout=True)
    np.testing.assert_allclose(layout, data["layout_sampling_off"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs, data["y_sampling_off"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("weight, clipped", [(5.0, 1.0), (-5.0, 0.0), (0.5, 0.5)])
def test_released_statistics_clip_the_sampling_weight(draw, weight, clipped):
    data = np.load(RELEASED)
    layer = released_layer(data)
    draw(np.tile(data["positions"], (3, 1)))
    outputs = []
    for value in (weight, clipped):
        layer.sampling_weight.assign(np.full(6, value))
        outputs.append(np.asarray(layer(data["x"], training=True)))
    np.testing.assert_array_equal(*outputs)


def test_one_entity_is_instance_normalization():
    x = features((2, 5, 4, 6))
    layer = random_layer(x.shape, num_entities=1)
    layer.residual_weight.assign(1.0)
    instance_norm = keras.layers.GroupNormalization(groups=-1, epsilon=layer.epsilon)
    instance_norm.build(x.shape)
    instance_norm.gamma.assign(np.asarray(layer.beta)[0])
    instance_norm.beta.assign(np.asarray(layer.alpha)[0])
    np.testing.assert_allclose(layer(x) - x, instance_norm(x), rtol=1e-4, atol=1e-5)


def test_rho_is_its_weight_times_a_multiplier():
    x = features((2, 5, 4, 6))
    layer = random_layer(x.shape, residual_initializer="ones", residual_multiplier=0.25)
    layer.residual_weight.assign(2.0)
    assert float(layer.rho) == 0.5
    changed = np.asarray(layer(x)) - x
    config = AttentiveNormalization.from_config(layer.get_config())
    config.build(x.shape)
    assert float(np.asarray(config.residual_weight)) == 1.0 and config.residual_multiplier == 0.25
    layer.residual_weight.assign(8.0)
    np.testing.assert_allclose(np.asarray(layer(x)) - x, 4.0 * changed, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("error:You are using a softmax")
@pytest.mark.parametrize("training", [False, True])
def test_one_entity_warns_of_nothing(training):
    x = features((2, 5, 4, 6))
    _, layout = random_layer(x.shape, num_entities=1)(x, training=training, return_layout=True)
    np.testing.assert_array_equal(layout, np.ones((2, 5, 4, 1)))


def test_counts_may_be_numpys():
    counts = {"num_entities": np.int64(3), "key_dim": np.int32(2), "pool_size": np.uint8(1), "seed": np.int64(5)}
    config = AttentiveNormalization(**counts).get_config()
    assert {name: type(config[name]) for name in counts} == dict.fromkeys(counts, int)


def test_a_one_hot_layout_is_instance_normalization_of_each_region_alone():
    owner = np.random.default_rng(0).permutation(40).reshape(2, 5, 4) % 3
    x = features((2, 5, 4, 6))
    x[..., :3] = np.eye(3)[owner]
    layer = random_layer(x.shape)
    layer.entities.assign(1e4 * np.eye(3, 6))
    layer.residual_weight.assign(1.0)
    outputs, layout = layer(x, return_layout=True)
    np.testing.assert_allclose(layout, np.eye(3)[owner], rtol=0, atol=1e-6)
    weights, normalized = weights_of(layer), np.asarray(outputs) - x
    for image, entity in np.ndindex(2, 3):
        members = owner[image] == entity
        region = x[image][members].astype(np.float64)
        expected = (region - region.mean(0)) / np.sqrt(region.var(0) + layer.epsilon)
        expected = expected * weights["beta"][entity] + weights["alpha"][entity]
        np.testing.assert_allclose(normalized[image][members], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value_projection", [False, True])
def test_large_means_lose_no_digits(value_projection):
    x = features((2, 6, 5, 8)) + np.float32(1000.0)
    layer = random_layer(x.shape, value_projection=value_projection)
    layer.residual_weight.assign(1.0)
    # Entities that sum to 0 do not see the mean; others would leave some regions without mass.
    layer.entities.assign(array(layer.entities) - array(layer.entities).mean(axis=-1, keepdims=True))
    outputs, layout = layer(x, return_layout=True)
    expected, expected_layout = reference(x, weights_of(layer))
    np.testing.assert_allclose(layout, expected_layout, rtol=0, atol=1e-3)
    np.testing.assert_allclose(outputs - x, expected - x, rtol=0, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_permuting_positions_permutes_the_outputs(seed):
    x = features((2, 30, 6), seed)
    order = np.random.default_rng(seed).permutation(30)
    layer = random_layer((2, 5, 6, 6), seed)
    outputs, layout = layer(x.reshape(2, 5, 6, 6), return_layout=True)
    shuffled = layer(x[:, order].reshape(2, 5, 6, 6), return_layout=True)
    for one, other in zip((outputs, layout), shuffled):
        one, other = np.asarray(one).reshape(2, 30, -1), np.asarray(other).reshape(2, 30, -1)
        np.testing.assert_allclose(other, one[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_layout_sums_to_one(training):
    x = features((2, 6, 5, 8))
    _, layout = random_layer(x.shape)(x, training=training, return_layout=True)
    assert tuple(layout.shape) == (2, 6, 5, 3) and dtype_of(layout) == "float32"
    assert array(layout).min() >= 0
    np.testing.assert_allclose(array(layout).sum(-1), 1.0, rtol=1e-5)


def test_get_layout_is_the_layout():
    x = features((2, 6, 5, 8))
    layer = random_layer(x.shape)
    np.testing.assert_array_equal(layer.get_layout(x), layer(x, return_layout=True)[1])
    assert np.abs(layer.get_layout(x, training=True) - layer.get_layout(x)).max() > 1e-4


@pytest.mark.parametrize("channels", [16, 64, 256])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_layout_is_alive_at_the_start(channels, temperature):
    x = features((2, 16, 16, channels))
    _, layout = AttentiveNormalization(16, temperature=temperature, seed=1)(x, return_layout=True)
    layout = array(layout)
    entropy = -np.sum(layout * np.log(layout), -1).mean() / np.log(16)
    assert 0.7 < entropy < 0.9


# Self-sampling.


def test_equal_seeds_draw_alike_and_others_do_not():
    x = features((2, 8, 8, 6))

    def outputs(seed):
        layer = AttentiveNormalization(3, seed=seed)
        layer(x)
        randomize_weights(layer)
        return [np.asarray(layer(x, training=True)) for _ in range(3)]

    np.testing.assert_array_equal(outputs(7), outputs(7))
    assert np.abs(np.subtract(outputs(7), outputs(8))).max() > 1e-3


def test_training_draws_anew_in_each_call():
    x = features((2, 8, 8, 6))
    layer = random_layer(x.shape)
    first, second = (np.asarray(layer(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_images_of_a_batch_draw_apart():
    x = np.repeat(features((1, 8, 8, 6)), 2, axis=0)
    layer = random_layer(x.shape)
    first, second = np.asarray(layer(x, training=True))
    assert np.abs(first - second).max() > 1e-3


def test_inference_is_a_function_of_the_input_alone():
    x = features((2, 8, 8, 6))
    layer = random_layer(x.shape)
    state = np.asarray(layer.sampling_state)
    first, second = np.asarray(layer(x)), np.asarray(layer(x, training=False))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(state, np.asarray(layer.sampling_state))
    layer(x, training=True)
    assert not np.array_equal(state, np.asarray(layer.sampling_state))


def test_training_without_self_sampling_is_inference():
    x = features((2, 8, 8, 6))
    layer = random_layer(x.shape, self_sampling=False)
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    assert not hasattr(layer, "query_kernel") and not hasattr(layer, "seed_generator")


def test_checkpoints_hold_the_random_state(tf, tmp_path):
    x = features((2, 8, 8, 6))
    layer = random_layer(x.shape)
    layer(x, training=True)
    path = tf.train.Checkpoint(layer=layer).write(str(tmp_path / "checkpoint"))
    expected = [np.asarray(layer(x, training=True)) for _ in range(2)]
    twin = random_layer(x.shape)
    tf.train.Checkpoint(layer=twin).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal([np.asarray(twin(x, training=True)) for _ in range(2)], expected)


# Masks.


def padded(x, lengths, padding):
    """`x`, (batch, steps, channels), whose steps from each image's length on are `padding`, and the mask."""
    mask = np.arange(x.shape[1]) < np.array(lengths)[:, None]
    return np.where(mask[..., None], x, np.float32(padding)), mask


def seeded_twins(shape, **kwargs):
    """Two layers of equal weights that draw alike."""
    layers = [AttentiveNormalization(**{"num_entities": 3, "seed": 3, **kwargs}) for _ in range(2)]
    for layer in layers:
        layer.build(shape)
        randomize_weights(layer)
    return layers


@pytest.mark.parametrize("padding", [1e4, np.nan])
@pytest.mark.parametrize(
    "options", [{}, {"value_projection": True}, {"statistics": "released"}, {"num_entities": 1}], ids=str
)
def test_padding_has_no_mass_and_comes_out_as_it_went_in(options, padding):
    lengths = [5, 8, 1]
    x, mask = padded(features((3, 8, 6)) + np.float32(50.0), lengths, padding)
    layer = random_layer(x.shape, **options)
    outputs, layout = map(array, layer(x, mask=mask, return_layout=True))
    for image, length in enumerate(lengths):
        expected = layer(x[image : image + 1, :length], return_layout=True)
        for found, wanted in zip((outputs, layout), map(array, expected)):
            np.testing.assert_allclose(found[image, :length], wanted[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(outputs[~mask], x[~mask])
    np.testing.assert_array_equal(layout[~mask], 0.0)


def test_masked_value_is_the_papers():
    lengths = [5, 3]
    x, mask = padded(features((2, 8, 6)), lengths, 7.0)
    layer = random_layer(x.shape)
    outputs = array(layer(x, mask=mask))
    for image, length in enumerate(lengths):
        expected = reference(x[image : image + 1, :length], weights_of(layer))[0]
        np.testing.assert_allclose(outputs[image : image + 1, :length], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options, length",
    [({}, 1), ({}, 7), ({"pool_size": 3}, 2), ({"pool_size": 3}, 7), ({"pool_size": 1}, 3), ({"num_entities": 9}, 6)],
    ids=str,
)
def test_self_sampling_draws_no_padding(options, length):
    """Equal seeds draw of a padded sequence what they draw of the sequence alone."""
    x, mask = padded(features((2, 10, 6)), [length] * 2, np.nan)
    layers = seeded_twins(x.shape, **options)
    for _ in range(3):
        found = layers[0](x, training=True, mask=mask, return_layout=True)
        expected = layers[1](x[:, :length], training=True, return_layout=True)
        for one, other in zip(found, expected):
            np.testing.assert_allclose(array(one)[:, :length], array(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_masks_of_maps_leave_out_positions_anywhere(data_format):
    x = features((2, 4, 5, 6))
    mask = np.random.default_rng(1).uniform(size=(2, 4, 5)) > 0.4
    layer = random_layer(x.shape, pool_size=1)
    expected = array(layer(x, mask=mask))
    sequence = random_layer((1, 20, 6), pool_size=1)  # of equal weights
    for image in range(2):
        alone = array(sequence(x[image][mask[image]][None]))  # the positions that count
        np.testing.assert_allclose(expected[image][mask[image]], alone[0], rtol=1e-4, atol=1e-4)
    if data_format == "channels_first":
        moved = np.moveaxis(x, -1, 1)
        first = random_layer(moved.shape, data_format=data_format, pool_size=1)
        outputs = np.moveaxis(array(first(moved, mask=mask)), 1, -1)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_a_mask_of_the_first_axes_holds_for_all_behind_them():
    x = features((3, 4, 5, 6))
    layer = random_layer(x.shape)
    rows = np.random.default_rng(1).uniform(size=(3, 4)) > 0.4
    expected = layer(x, mask=np.broadcast_to(rows[..., None], x.shape[:3]))
    np.testing.assert_array_equal(layer(x, mask=rows), expected)
    images = np.array([True, False, True])
    outputs = array(layer(x, mask=images))
    np.testing.assert_allclose(outputs[images], array(layer(x[images])), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(outputs[1], x[1])


@pytest.mark.parametrize("training", [False, True])
def test_a_mask_without_padding_changes_nothing(training):
    x = features((2, 6, 5, 8))
    layers = seeded_twins(x.shape)
    expected = layers[0](x, training=training)
    np.testing.assert_array_equal(layers[1](x, training=training, mask=np.ones((2, 6, 5), bool)), expected)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_see_no_padding(training):
    x, mask = padded(features((2, 8, 6)), [5, 0], np.nan)
    layer = random_layer(x.shape)
    valid = tensors(mask[..., None])

    def loss(x):
        outputs = layer(x, training=training, mask=tensors(mask))
        return ops.sum(ops.square(ops.where(valid, outputs, ops.zeros_like(outputs))))

    found = gradients(loss, [x], layer.trainable_weights)
    assert all(np.isfinite(gradient).all() for gradient in found)
    np.testing.assert_array_equal(found[0][~mask], 0.0)
    if not training:
        expected = gradients(lambda x: ops.sum(ops.square(layer(x))), [x[:1, :5]], layer.trainable_weights)
        np.testing.assert_allclose(found[0][mask], expected[0][0], rtol=1e-3, atol=1e-3)
        for one, other in zip(found[1:], expected[1:]):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_keras_hands_masks_on():
    tokens = np.array([[3, 1, 2, 0, 0], [1, 2, 3, 4, 4]])
    inputs = keras.Input((5,), dtype="int32")
    embedded = keras.layers.Embedding(5, 6, mask_zero=True)(inputs)
    layer = AttentiveNormalization(3, name="attentive")
    pooled = keras.layers.GlobalAveragePooling1D()(layer(embedded))  # which heeds the mask that is handed on
    model = keras.Model(inputs, [embedded, layer.output, pooled])
    randomize_weights(model)
    embedded, outputs, pooled = map(array, model(tensors(tokens)))
    for image, length in enumerate((3, 5)):
        expected = array(layer(embedded[image : image + 1, :length]))
        np.testing.assert_allclose(outputs[image : image + 1, :length], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(pooled[image], expected[0].mean(0), rtol=1e-4, atol=1e-4)


def test_masking_and_sequential_hand_masks_on():
    x, mask = padded(features((2, 8, 6)), [5, 7], -1.0)
    layer = AttentiveNormalization(3)
    model = keras.Sequential([keras.layers.Masking(-1.0), layer])
    model(x)
    randomize_weights(model)
    np.testing.assert_allclose(model(x), layer(x * mask[..., None], mask=mask), rtol=1e-5, atol=1e-5)


def test_a_mask_of_too_many_axes_is_an_error():
    x = features((2, 8, 6))
    with pytest.raises(
        ValueError, match=r"`mask` must be of \(batch, \*spatial\) .* a mask of 3 dimensions for 1 spatial"
    ):
        AttentiveNormalization(3)(x, mask=np.ones(x.shape, bool))


# Gradients and the orthogonality loss.


@pytest.mark.parametrize("mode", ["cosine", "frobenius"])
def test_orthogonality_loss_is_the_penalty(mode):
    layer = random_layer((1, 4, 4, 5), orthogonality=mode, orthogonal_weight=0.25)
    entities = weights_of(layer)["entities"]
    (loss,) = layer.losses
    assert float(loss) >= 0
    np.testing.assert_allclose(loss, 0.25 * penalty(entities, mode), rtol=1e-5)
    expected = slopes(lambda entities: 0.25 * penalty(entities, mode), entities)
    (gradient,) = gradients(lambda: layer.losses[0], [], [layer.entities])
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_orthogonality_loss_is_zero_for_orthogonal_entities():
    layer = random_layer((1, 4, 4, 5), orthogonality="cosine")
    layer.entities.assign(3.0 * np.eye(3, 5))
    assert float(layer.losses[0]) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("mode", ["cosine", "frobenius"])
def test_entity_regularizer_adds_to_the_orthogonality_loss(mode):
    regularizer = keras.regularizers.L2(0.5)
    layer = random_layer((1, 4, 4, 5), orthogonality=mode, orthogonal_weight=0.25, entity_regularizer=regularizer)
    entities = weights_of(layer)["entities"]
    expected = 0.25 * penalty(entities, mode) + 0.5 * np.sum(entities**2)
    assert float(sum(layer.losses)) == pytest.approx(expected, rel=1e-5)


def test_no_orthogonality_is_no_loss():
    assert not random_layer((1, 4, 4, 5), orthogonality=None).losses


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("value_projection", [False, True])
def test_gradients_are_those_of_the_equations(draw, training, value_projection):
    """Of the inputs and of all weights, against finite differences of the float64 reference."""
    x, weighting = features((2, 4, 2, 4)), features((2, 4, 2, 4), 1)
    layer = random_layer(x.shape, num_entities=2, key_dim=2, value_projection=value_projection)
    windows = np.array([[0, 1], [1, 0]])
    draw(windows)
    weights = weights_of(layer)
    found = gradients(
        lambda x: ops.sum(layer(x, training=training) * tensors(weighting)),
        [x],
        [getattr(layer, name) for name in weights],
    )

    def value(x=x, **changed):
        return np.sum(reference(x, {**weights, **changed}, windows=windows if training else None)[0] * weighting)

    np.testing.assert_allclose(found[0], slopes(lambda point: value(x=point), x), rtol=1e-3, atol=1e-3)
    for name, gradient in zip(weights, found[1:]):
        expected = slopes(lambda point, name=name: value(**{name: point}), weights[name])
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3, err_msg=name)


def test_released_statistics_have_finite_gradients_on_flat_maps():
    layer = random_layer((1, 4, 4, 5), statistics="released", pool_size=1)
    inputs = [np.zeros((1, 4, 4, 5), np.float32)]
    found = gradients(lambda x: ops.sum(layer(x, training=True)), inputs, layer.trainable_weights)
    assert all(np.isfinite(gradient).all() for gradient in found)


# Shapes, layouts in memory and precision.


@pytest.mark.parametrize("spatial", [(1, 1), (2, 2), (1, 5)])
def test_fewer_positions_than_entities_work(spatial):
    x = features((2, *spatial, 4))
    layer = random_layer(x.shape, num_entities=6)
    outputs = layer(x, training=False)
    np.testing.assert_allclose(outputs, reference(x, weights_of(layer))[0], rtol=1e-4, atol=1e-4)
    trained, layout = layer(x, training=True, return_layout=True)
    assert np.isfinite(trained).all()
    np.testing.assert_allclose(array(layout).sum(-1), 1.0, rtol=1e-5)


def test_spatial_sizes_may_be_unknown():
    layer = random_layer((1, 4, 4, 6))
    inputs = keras.Input((None, None, 6))
    model = keras.Model(inputs, layer(inputs, return_layout=True))
    assert tuple(model.outputs[0].shape) == (None, None, None, 6)
    for spatial in ((4, 6), (5, 3)):
        x = features((2, *spatial, 6))
        for one, other in zip(model(x), layer(x, return_layout=True)):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_spatial_sizes_may_be_unknown_in_a_traced_function(tf, draw):
    layer = random_layer((1, 4, 4, 6), pool_size=1)
    draw(np.array([[0, 4, 7], [1, 1, 3]]))
    signature = [tf.TensorSpec((None, None, None, 6), tf.float32)]
    step = tf.function(lambda x: layer(x, training=True), input_signature=signature)
    for spatial in ((4, 6), (5, 3)):
        x = features((2, *spatial, 6))
        np.testing.assert_allclose(step(x), layer(x, training=True), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spatial", [(7,), (4, 5), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_channels_first_is_channels_last_transposed(draw, spatial):
    x = features((2, *spatial, 6))
    draw(np.array([[0, 1, 2], [2, 0, 0]]))
    last = random_layer(x.shape, data_format="channels_last", pool_size=1)
    moved = np.moveaxis(x, -1, 1)
    first = random_layer(moved.shape, data_format="channels_first", pool_size=1)
    for training in (False, True):
        expected, expected_layout = last(x, training=training, return_layout=True)
        outputs, layout = first(moved, training=training, return_layout=True)
        np.testing.assert_allclose(np.moveaxis(np.asarray(outputs), 1, -1), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(layout, expected_layout, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_data_format_defaults_to_keras_own(data_format):
    before = keras.backend.image_data_format()
    keras.backend.set_image_data_format(data_format)
    try:
        assert AttentiveNormalization().data_format == data_format
    finally:
        keras.backend.set_image_data_format(before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_computes_in_float32(dtype):
    x = features((2, 6, 6, 8))
    layer = random_layer(x.shape, dtype=f"mixed_{dtype}")
    for training in (False, True):
        outputs, layout = layer(x, training=training, return_layout=True)
        assert dtype_of(outputs) == dtype and dtype_of(layout) == "float32"
    assert {dtype_of(weight) for weight in layer.trainable_weights} == {"float32"}
    rounded = array(ops.cast(ops.cast(x, dtype), "float32"))
    expected = reference(rounded, weights_of(layer))[0]
    outputs = array(ops.cast(layer(x), "float32"))
    tolerance = 1e-2 if dtype == "bfloat16" else 2e-3
    np.testing.assert_allclose(outputs, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("training", [False, True])
def test_large_float16_inputs_stay_finite(training):
    x = (6e4 * np.sign(features((2, 6, 6, 8)))).astype(np.float16)
    layer = random_layer(x.shape, dtype="mixed_float16")
    layer.residual_weight.assign(0.1)
    outputs, layout = layer(x, training=training, return_layout=True)
    assert dtype_of(outputs) == "float16"
    assert np.isfinite(outputs).all() and np.isfinite(layout).all()


# Errors.


@pytest.mark.parametrize(
    "name, value, rule",
    [
        ("num_entities", 0, "must be a positive integer"),
        ("num_entities", 2.5, "must be a positive integer"),
        ("num_entities", True, "must be a positive integer"),
        ("pool_size", 0, "must be a positive integer"),
        ("key_dim", 0, "must be a positive integer"),
        ("temperature", 0.0, "must be positive"),
        ("epsilon", -1e-5, "must be positive"),
        ("residual_multiplier", 0.0, "must be positive"),
        ("orthogonal_weight", -1e-3, "must not be negative"),
        ("statistics", "paper", r"must be one of \('weighted', 'released'\)"),
        ("orthogonality", "l2", r"must be one of \('cosine', 'frobenius', None\)"),
        ("data_format", "last", r"must be one of \('channels_last', 'channels_first', None\)"),
    ],
)
def test_arguments_out_of_range_are_errors(name, value, rule):
    with pytest.raises(ValueError, match=rf"`{name}` {rule}\. Received: {name}={value!r}"):
        AttentiveNormalization(**{name: value})


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 3, 3, 3, 4)])
def test_other_ranks_are_errors(shape):
    message = rf"1, 2 or 3 spatial dimensions.* Received: input_shape=\({', '.join(map(str, shape))}\)"
    with pytest.raises(ValueError, match=message):
        AttentiveNormalization()(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    "data_format, shape", [("channels_last", (2, 4, 4, None)), ("channels_first", (2, None, 4, 4))]
)
def test_unknown_channels_are_an_error(data_format, shape):
    message = rf"channels .* must be known\. Received: input_shape=\(2, .*\) with data_format='{data_format}'"
    with pytest.raises(ValueError, match=message):
        AttentiveNormalization(data_format=data_format).build(shape)


def test_integer_inputs_are_an_error():
    with pytest.raises(ValueError, match=r"takes floating-point inputs\. Received: dtype=.*int32"):
        AttentiveNormalization()(np.zeros((2, 4, 4, 3), np.int32))
