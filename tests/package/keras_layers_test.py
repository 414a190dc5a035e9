"""What Keras and its wrappers expect of every layer: shapes before a call, refusals, weights, frames of a sequence.

`SpectralNormalization` is left out: it takes on what the layer in it does.
"""

import numpy as np
import pytest

from keras_an import layers
from keras_an.backend import keras
from layer_test_case import (
    BACKEND,
    array,
    check_layer_contract,
    dtype_of,
    map_nest,
    randomize_weights,
    record_gradients,
    tensors,
)

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(2, 4, 6, 8)).astype("float32")
MASK = (RANDOM.uniform(size=(2, 4, 6, 1)) > 0.5).astype("float32")
LABELS = np.array([2, 0], "int32")

# For each layer a constructor, inputs in channels_last, and which of them have channels.
CASES = {
    "AttentiveNormalization": (lambda **kwargs: layers.AttentiveNormalization(3, **kwargs), FEATURES),
    "ConditionalBatchNormalization": (
        lambda **kwargs: layers.ConditionalBatchNormalization(3, **kwargs),
        [FEATURES, LABELS],
    ),
    "Conv2D": (lambda **kwargs: layers.Conv2D(3, 3, "up", **kwargs), FEATURES),
    "DiffusionFill": (
        lambda **kwargs: layers.DiffusionFill(smoothing_steps=2, num_levels=2, **kwargs),  # which is fast
        [FEATURES, MASK],
    ),
    "KnownPixels": (layers.KnownPixels, [FEATURES, MASK]),
    "MaskedMean": (layers.MaskedMean, [FEATURES, MASK]),
    "NearestUpsampling": (layers.NearestUpsampling, FEATURES),
    "SelfAttention": (layers.SelfAttention, FEATURES),
}
# What the constructors above are given.
ARGUMENTS = {
    "AttentiveNormalization": {"num_entities": 3},
    "ConditionalBatchNormalization": {"num_classes": 3},
    "Conv2D": {"filters": 3, "kernel_size": 3, "resampling": "down"},
    "DiffusionFill": {"smoothing_steps": 2, "num_levels": 2},
}
every_layer = pytest.mark.parametrize("name", sorted(CASES))
every_format = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


def make(name, **kwargs):
    constructor, inputs = CASES[name]
    return constructor(**kwargs), inputs


def moved(inputs, source, destination):
    """Maps with their channels on another axis; labels as they are."""
    return map_nest(lambda x: np.moveaxis(x, source, destination) if x.ndim == 4 else x, inputs)


def first_of(inputs):
    return inputs[0] if isinstance(inputs, list) else inputs


def with_first(inputs, first):
    return [first, *inputs[1:]] if isinstance(inputs, list) else first


def test_every_layer_has_a_case():
    assert sorted(CASES) == sorted(set(layers.__all__) - {"SpectralNormalization"})


@every_layer
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@every_format
def test_shapes_and_dtypes_are_known_before_a_call(name, dtype, data_format):
    layer, inputs = make(name, dtype=dtype, data_format=data_format)
    if data_format == "channels_first":
        inputs = moved(inputs, -1, 1)
    shape = layer.compute_output_shape(
        map_nest(lambda x: x.shape, inputs) if isinstance(inputs, list) else inputs.shape
    )
    symbolic = layer(map_nest(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), inputs))
    if BACKEND == "tensorflow" and data_format == "channels_first" and name == "ConditionalBatchNormalization":
        pytest.skip("TensorFlow has no fused batch normalisation with channels first on a CPU")
    outputs = layer(tensors(inputs))
    assert tuple(shape) == tuple(outputs.shape)
    assert tuple(symbolic.shape) == (None, *outputs.shape[1:])
    assert dtype_of(symbolic) == dtype_of(outputs)


@every_layer
def test_channels_first_is_channels_last_transposed(name):
    if BACKEND == "tensorflow" and name == "ConditionalBatchNormalization":
        pytest.skip("TensorFlow has no fused batch normalisation with channels first on a CPU")
    last, inputs = make(name, data_format="channels_last")
    first, _ = make(name, data_format="channels_first")
    for layer, values in ((last, inputs), (first, moved(inputs, -1, 1))):
        layer(tensors(values))
        randomize_weights(layer)
    expected, found = array(last(tensors(inputs))), array(first(tensors(moved(inputs, -1, 1))))
    np.testing.assert_allclose(moved(found, 1, -1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*CASES, "SpectralNormalization"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_fit_trains_what_there_is_to_train(name, dtype):
    inputs = CASES.get(name, (None, FEATURES))[1]
    if name == "SpectralNormalization":
        layer = layers.SpectralNormalization(layers.Conv2D(3, 3, "down", dtype=dtype), dtype=dtype)
    else:
        layer, _ = make(name, dtype=dtype, data_format="channels_last")
    symbolic = map_nest(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), inputs)
    outputs = keras.layers.Dense(1, dtype="float32")(keras.layers.Flatten()(layer(symbolic)))
    model = keras.Model(symbolic, outputs)
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    before = [array(weight) for weight in layer.trainable_weights]
    with record_gradients(True):
        history = model.fit(inputs, np.array([[1.0], [-1.0]], "float32"), batch_size=2, epochs=4, verbose=0)
    losses = history.history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    moved = [not np.array_equal(array(weight), old) for weight, old in zip(layer.trainable_weights, before)]
    if name == "AttentiveNormalization" or name == "SelfAttention":
        assert any(moved)  # at rho, or gamma, of 0 nothing else has a gradient in the first step
    else:
        assert all(moved)


@every_layer
def test_channels_first_keeps_the_contract(name):
    if BACKEND == "tensorflow" and name == "ConditionalBatchNormalization":
        pytest.skip("TensorFlow has no fused batch normalisation with channels first on a CPU")
    constructor, inputs = CASES[name]
    arguments = {**ARGUMENTS.get(name, {}), "data_format": "channels_first"}
    check_layer_contract(getattr(layers, name), arguments, moved(inputs, -1, 1))


@every_layer
@every_format
def test_data_format_defaults_to_keras_own(name, data_format):
    before = keras.backend.image_data_format()
    keras.backend.set_image_data_format(data_format)
    try:
        layer, _ = make(name)
    finally:
        keras.backend.set_image_data_format(before)
    assert layer.data_format == data_format
    assert type(layer).from_config(layer.get_config()).data_format == data_format


@every_layer
def test_data_format_is_one_of_two(name):
    with pytest.raises(ValueError, match=r"`data_format` must be one of .* Received: data_format='last'"):
        make(name, data_format="last")


@every_layer
@pytest.mark.parametrize("shape", [(2, 8), (2, 4, 8), (2, 3, 4, 6, 8), (2, 3, 3, 4, 6, 8)])
def test_a_layer_built_on_maps_takes_no_other_rank(name, shape):
    layer, inputs = make(name)
    layer(tensors(inputs))
    with pytest.raises(ValueError, match=r"expected ndim=4, found ndim"):
        layer(tensors(with_first(inputs, np.zeros(shape, "float32"))))


@every_layer
def test_another_number_of_channels_is_one_sentence(name):
    layer, inputs = make(name)
    layer(tensors(inputs))
    other = np.concatenate([first_of(inputs)] * 2, axis=-1)
    with pytest.raises(ValueError, match=r"expected axis (-1|3) of input shape to have value 8"):
        layer(tensors(with_first(inputs, other)))


@every_layer
def test_weights_are_floats_and_nothing_is_twice(name):
    layer, inputs = make(name)
    assert not layer.weights
    layer(tensors(inputs))
    assert all("float" in dtype_of(weight) for weight in layer.weights)
    assert len({id(variable) for variable in layer.variables}) == len(layer.variables)
    assert np.isfinite(sum(float(np.square(array(weight)).sum()) for weight in layer.weights))


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if not isinstance(case[1], list)))
@pytest.mark.parametrize("batch_size", [2, None])
def test_time_distributed_takes_every_frame_alone(name, batch_size):
    frames = np.random.default_rng(1).normal(size=(2, 3, 4, 6, 8)).astype("float32")
    layer, _ = make(name)
    inputs = keras.Input(batch_shape=(batch_size, *frames.shape[1:]))
    distributed = keras.layers.TimeDistributed(layer)
    model = keras.Model(inputs, distributed(inputs))
    randomize_weights(layer)
    expected = np.stack([array(layer(tensors(frame))) for frame in frames.swapaxes(0, 1)], axis=1)
    assert tuple(distributed.compute_output_shape(frames.shape)) == expected.shape
    assert tuple(model.outputs[0].shape) == (batch_size, *expected.shape[1:])
    np.testing.assert_allclose(array(model(tensors(frames))), expected, rtol=1e-4, atol=1e-4)
    with record_gradients(True):
        model.compile("sgd", "mse")
        model.fit(frames, expected, batch_size=2, verbose=0)


def test_time_distributed_hands_masks_of_frames_on():
    frames = np.random.default_rng(1).normal(size=(2, 3, 4, 6, 8)).astype("float32")
    layer = layers.AttentiveNormalization(3)
    distributed = keras.layers.TimeDistributed(layer)
    distributed(frames)
    randomize_weights(layer)
    mask = np.array([[True, True, False], [True, False, True]])
    outputs = array(distributed(frames, mask=tensors(mask)))
    expected = np.stack([array(layer(tensors(frame))) for frame in frames.swapaxes(0, 1)], axis=1)
    np.testing.assert_allclose(outputs[mask], expected[mask], rtol=1e-4, atol=1e-4)


def test_shapes_with_the_layout_are_known_before_a_call():
    for data_format, shape in (("channels_last", (2, 4, 6, 8)), ("channels_first", (2, 8, 4, 6))):
        layer = layers.AttentiveNormalization(3, dtype="mixed_bfloat16", data_format=data_format)
        assert layer.compute_output_shape(shape) == shape
        assert layer.compute_output_shape(shape, return_layout=True) == (shape, (2, 4, 6, 3))
        outputs = layer(keras.Input(shape[1:]), return_layout=True)
        assert [tuple(part.shape) for part in outputs] == [(None, *shape[1:]), (None, 4, 6, 3)]
        assert [dtype_of(part) for part in outputs] == ["bfloat16", "float32"]


def test_integers_are_refused_before_a_call():
    with pytest.raises(ValueError, match="takes floating-point inputs"):
        layers.AttentiveNormalization(3)(keras.Input((4, 6, 8), dtype="int32"))


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_layers_that_compute_nothing_keep_integers(dtype):
    image = np.arange(2 * 4 * 6 * 8).reshape(2, 4, 6, 8).astype(dtype)
    for layer, inputs in (
        (layers.NearestUpsampling(), image),
        (layers.KnownPixels(), [image, MASK]),
    ):
        symbolic = layer(map_nest(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), inputs))
        outputs = layer(tensors(inputs))
        assert dtype_of(symbolic) == dtype_of(outputs) == dtype
    np.testing.assert_array_equal(array(outputs), image * (1 - MASK).astype(dtype))
