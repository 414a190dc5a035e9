"""Class-conditional batch normalisation against NumPy."""

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import ConditionalBatchNormalization
from layer_test_case import (
    BACKEND,
    array,
    check_layer_contract,
    dtype_of,
    gradients,
    per_replica,
    randomize_weights,
    tensors,
)

LABELS = np.array([2, 0, 2, 1], np.int32)


def features(seed=0):
    return (3 + 2 * np.random.default_rng(seed).normal(size=(4, 5, 6, 3))).astype(np.float32)


def random_layer(**kwargs):
    layer = ConditionalBatchNormalization(num_classes=3, **kwargs)
    layer([features(), LABELS])
    randomize_weights(layer)
    return layer


def table(embedding):
    return np.asarray(embedding.embeddings, np.float64)


def normalized(layer, x, mean, variance):
    """`gamma[label] * (x - mean) / sqrt(variance + epsilon) + beta[label]`, image by image, in float64."""
    gamma, beta = table(layer.gamma), table(layer.beta)
    unit = (x.astype(np.float64) - mean) / np.sqrt(variance + layer.epsilon)
    return np.stack([gamma[label] * image + beta[label] for image, label in zip(unit, LABELS)])


def moving_moments(layer):
    return np.asarray(layer.normalization.moving_mean), np.asarray(layer.normalization.moving_variance)


@pytest.mark.parametrize(
    "init_kwargs",
    [
        {"num_classes": 3},
        {
            "num_classes": 4,
            "momentum": 0.5,
            "epsilon": 1e-2,
            "synchronized": BACKEND == "tensorflow",
            "data_format": "channels_last",
            "gamma_initializer": keras.initializers.RandomNormal(stddev=2.0, seed=1),
            "gamma_regularizer": keras.regularizers.L2(0.5),
            "beta_initializer": "ones",
            "beta_regularizer": "l1",
            "name": "named",
        },
    ],
)
def test_contract(init_kwargs):
    check_layer_contract(ConditionalBatchNormalization, init_kwargs, [features(), LABELS])


@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_training_takes_the_moments_of_the_batch(epsilon):
    x = features()
    layer = random_layer(epsilon=epsilon)
    expected = normalized(layer, x, x.mean((0, 1, 2)), x.var((0, 1, 2)))
    np.testing.assert_allclose(layer([x, LABELS], training=True), expected, rtol=1e-4, atol=1e-4)


def test_inference_takes_the_moving_moments():
    x = features()
    layer = random_layer()
    before = moving_moments(layer)
    expected = normalized(layer, x, *before)
    np.testing.assert_allclose(layer([x, LABELS], training=False), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(moving_moments(layer), before)


@pytest.mark.parametrize("momentum", [0.9, 0.25])
def test_training_moves_the_moments(momentum):
    x = features()
    layer = random_layer(momentum=momentum)
    mean, variance = moving_moments(layer)
    layer([x, LABELS], training=True)
    moved_mean, moved_variance = moving_moments(layer)
    np.testing.assert_allclose(moved_mean, momentum * mean + (1 - momentum) * x.mean((0, 1, 2)), rtol=1e-4)
    # Keras 2 moves the unbiased variance, Keras 3 the batch's own; with 120 positions they differ by 0.8 %.
    expected = momentum * variance + (1 - momentum) * x.var((0, 1, 2))
    np.testing.assert_allclose(moved_variance, expected, rtol=9e-3)


def test_a_new_layer_normalizes_all_classes_alike():
    x = features()
    outputs = np.asarray(ConditionalBatchNormalization(num_classes=3)([x, LABELS], training=True))
    np.testing.assert_allclose(outputs.mean((0, 1, 2)), 0.0, atol=1e-4)
    np.testing.assert_allclose(outputs.std((0, 1, 2)), 1.0, atol=1e-4)


def test_only_the_rows_of_the_labels_get_gradients():
    layer = random_layer()

    def loss(x):
        return ops.sum(ops.square(layer([x, tensors(np.array([2, 0], np.int32))], training=True)))

    for gradient in gradients(loss, [features()[:2]], layer.trainable_weights)[1:]:
        rows = np.abs(gradient).max(-1)
        assert rows[1] == 0 and rows[0] > 1e-3 and rows[2] > 1e-3


def test_synchronized_moments_are_those_of_the_global_batch(tf, mirrored):
    x = features()
    expected = random_layer()([x, LABELS], training=True)
    with mirrored.scope():
        layer = random_layer(synchronized=True)
    halves = [[x[:2], LABELS[:2]], [x[2:], LABELS[2:]]]

    @tf.function
    def run(inputs):
        return mirrored.run(lambda inputs: layer(inputs, training=True), args=(inputs,))

    outputs = tf.concat(mirrored.experimental_local_results(run(per_replica(mirrored, halves))), 0)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_gives_its_dtype(dtype):
    layer = random_layer(dtype=f"mixed_{dtype}")
    expected = random_layer()([features(), LABELS], training=True)
    outputs = layer([features(), LABELS], training=True)
    assert dtype_of(outputs) == dtype
    assert {dtype_of(weight) for weight in layer.weights} == {"float32"}
    outputs = array(ops.cast(outputs, "float32"))
    np.testing.assert_allclose(outputs, expected, rtol=5e-2, atol=5e-2 if dtype == "bfloat16" else 5e-3)


def test_the_policy_reaches_the_layers_inside():
    layer = random_layer(dtype="mixed_bfloat16")
    policies = [inner.compute_dtype for inner in (layer.normalization, layer.gamma, layer.beta)]
    assert policies == ["bfloat16"] * 3
    assert keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.parametrize("num_classes", [0, -1, 2.5, True, None])
def test_num_classes_must_be_positive(num_classes):
    message = rf"`num_classes` must be a positive integer\. Received: num_classes={num_classes!r}"
    with pytest.raises(ValueError, match=message):
        ConditionalBatchNormalization(num_classes)


def test_labels_may_be_a_column():
    x = features()
    layer = ConditionalBatchNormalization(num_classes=3)
    layer([x, LABELS[:, None]])
    randomize_weights(layer)
    np.testing.assert_array_equal(layer([x, LABELS[:, None]]), random_layer()([x, LABELS]))


@pytest.mark.parametrize(
    "features_shape, labels_shape",
    [
        ((4, 5, 6, 3), (4, 3)),
        ((4, 5, 6, 3), ()),
        ((4, 5, 6, 3), (4, 1, 1)),
        ((4, 6, 3), (4,)),
        ((4, 2, 5, 6, 3), (4,)),
    ],
)
def test_one_hot_labels_and_other_ranks_are_errors(features_shape, labels_shape):
    shapes = ", ".join(str(shape) for shape in (features_shape, labels_shape))
    with pytest.raises(ValueError) as caught:
        ConditionalBatchNormalization(3)([np.zeros(features_shape, np.float32), np.zeros(labels_shape, np.int32)])
    assert "takes features (batch, height, width, channels) and labels (batch,) or (batch, 1)" in str(caught.value)
    assert f"Received: shapes {shapes}" in str(caught.value)


def test_features_alone_are_an_error():
    with pytest.raises(ValueError, match=r"takes features .* and labels"):
        ConditionalBatchNormalization(3)(features())


@pytest.mark.parametrize("labels_shape", [(4, 3), (4, 1)])
def test_a_built_layer_takes_labels_as_before(labels_shape):
    with pytest.raises(ValueError, match="expected ndim=1, found ndim=2"):
        random_layer()([features(), np.zeros(labels_shape, np.int32)])


@pytest.mark.parametrize("name", ["gamma", "beta"])
def test_initializers_and_regularizers_reach_their_tables(name):
    options = {
        f"{name}_initializer": keras.initializers.Constant(2.0),
        f"{name}_regularizer": keras.regularizers.L1(0.5),
    }
    layer = ConditionalBatchNormalization(num_classes=3, **options)
    layer([features(), LABELS])
    np.testing.assert_array_equal(table(getattr(layer, name)), np.full((3, 3), 2.0))
    assert float(sum(layer.losses)) == pytest.approx(0.5 * 9 * 2.0)
