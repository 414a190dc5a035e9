"""The convolution that doubles or halves its map: Keras's own layers one after the other, weights, files, errors."""

import math

import numpy as np
import pytest

from keras_an import models
from keras_an.backend import keras
from keras_an.layers import Conv2D, SpectralNormalization, conv2d
from layer_test_case import array, check_layer_contract, randomize_weights, tensors

FEATURES = np.random.default_rng(0).normal(size=(2, 6, 5, 4)).astype("float32")
KINDS = [(1, "up"), (3, "up"), (1, "down"), (3, "down")]


@pytest.fixture
def few_positions_too(monkeypatch):
    """Maps as small as those of tests go the fused way."""
    monkeypatch.setattr(conv2d, "_FEWEST_POSITIONS", 1)


def plain(kernel_size, resampling, inputs, wrap=lambda layer: layer, **kwargs):
    """The model that `Conv2D` stands for, of Keras's layers."""
    layer = wrap(keras.layers.Conv2D(3, kernel_size, padding="same", name="conv", **kwargs))
    if resampling == "up":
        return keras.Model(inputs, layer(keras.layers.UpSampling2D(2)(inputs)))
    return keras.Model(inputs, keras.layers.AveragePooling2D(2)(layer(inputs)))


@pytest.mark.parametrize("kernel_size, resampling", KINDS)
@pytest.mark.parametrize("fewest", [1, math.inf])
def test_gives_what_keras_layers_give_one_after_the_other(kernel_size, resampling, fewest, monkeypatch):
    monkeypatch.setattr(conv2d, "_FEWEST_POSITIONS", fewest)
    inputs = keras.Input((6, 5, 4))
    model = keras.Model(inputs, Conv2D(3, kernel_size, resampling, name="conv")(inputs))
    expected = plain(kernel_size, resampling, inputs)
    randomize_weights(expected)
    model.set_weights(expected.get_weights())
    assert [weight.shape for weight in model.weights] == [weight.shape for weight in expected.weights]
    assert tuple(model.output_shape) == tuple(expected.output_shape)
    np.testing.assert_allclose(array(model(FEATURES)), array(expected(FEATURES)), rtol=1e-4, atol=1e-5)


def test_the_activation_comes_behind_the_mean_and_the_bias():
    layer = Conv2D(3, 3, "down", activation="relu", bias_initializer="ones")
    linear = Conv2D(3, 3, "down", use_bias=False)
    linear.build(FEATURES.shape)
    layer.build(FEATURES.shape)
    layer.set_weights([*linear.get_weights(), np.ones(3)])
    np.testing.assert_allclose(
        array(layer(FEATURES)), np.maximum(array(linear(FEATURES)) + 1.0, 0.0), rtol=1e-5, atol=1e-5
    )


@pytest.mark.usefixtures("few_positions_too")
@pytest.mark.parametrize("kernel_size, resampling", KINDS)
def test_spectral_normalization_is_that_of_the_stored_kernel(kernel_size, resampling):
    inputs = keras.Input((6, 5, 4))
    model = keras.Model(inputs, SpectralNormalization(Conv2D(3, kernel_size, resampling, name="conv"))(inputs))
    expected = plain(kernel_size, resampling, inputs, SpectralNormalization)
    randomize_weights(expected)
    model.set_weights(expected.get_weights())
    for training in (True, False):
        np.testing.assert_allclose(
            array(model(tensors(FEATURES), training=training)),
            array(expected(tensors(FEATURES), training=training)),
            rtol=1e-4,
            atol=1e-5,
        )
    folded = models.fold_spectral_normalization(model)
    assert type(folded.layers[-1]) is Conv2D
    np.testing.assert_allclose(array(folded(FEATURES)), array(model(FEATURES)), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("few_positions_too")
@pytest.mark.parametrize("kernel_size, resampling", KINDS)
def test_keeps_the_contract_of_layers(kernel_size, resampling):
    check_layer_contract(Conv2D, {"filters": 3, "kernel_size": kernel_size, "resampling": resampling}, FEATURES)


@pytest.mark.parametrize("resampling", ["up", "down"])
def test_files_of_weights_serve_keras_own_layer_too(resampling, tmp_path):
    inputs = keras.Input((6, 5, 4))
    hidden = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    model = keras.Model(inputs, Conv2D(3, 3, resampling)(hidden))
    resample = keras.layers.UpSampling2D(2) if resampling == "up" else keras.layers.AveragePooling2D(2)
    layer = keras.layers.Conv2D(3, 3, padding="same")
    old = keras.Model(inputs, layer(resample(hidden)) if resampling == "up" else resample(layer(hidden)))
    randomize_weights(old)
    old.save_weights(tmp_path / "old.weights.h5")
    model.load_weights(tmp_path / "old.weights.h5")
    np.testing.assert_allclose(array(model(FEATURES)), array(old(FEATURES)), rtol=1e-4, atol=1e-4)


def small_networks():
    common = {"resolution": 16, "num_classes": 3, "base_channels": 4, "image_channels": 1, "num_entities": 3}
    random = np.random.default_rng(1)
    labels = np.array([0, 2], "int32")
    yield models.residual_generator(latent_dim=5, **common), [random.normal(size=(2, 5)).astype("float32"), labels]
    yield (
        models.projection_discriminator(**common),
        [random.uniform(-1, 1, (2, 16, 16, 1)).astype("float32"), labels],
    )
    picture = random.uniform(-1, 1, (2, 16, 16, 3)).astype("float32")
    hole = (random.uniform(size=(2, 16, 16, 1)) > 0.7).astype("float32")
    yield models.inpainting_generator(base_channels=4), [picture, hole]


@pytest.mark.parametrize("index", range(3))
def test_networks_give_what_the_plain_form_gives(index, monkeypatch):
    model, inputs = list(small_networks())[index]
    randomize_weights(model)
    outputs = []
    for fewest in (1, math.inf):
        monkeypatch.setattr(conv2d, "_FEWEST_POSITIONS", fewest)
        found = model(tensors(inputs), training=False)
        outputs.append(array(found["fine"] if index == 2 else found))
    assert outputs[1].std() > 0.01
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-4)


def test_few_positions_take_the_plain_way(monkeypatch):
    """The batch counts where it is known."""
    taken = []
    monkeypatch.setattr(conv2d, "doubled_convolution", lambda x, kernel: taken.append(tuple(x.shape)) or double(x))
    double = conv2d.double
    for shape in ((1, 4, 4, 3), (12, 4, 4, 3), (1, 14, 14, 3)):
        Conv2D(3, 3, "up")(np.zeros(shape, "float32"))
    assert taken == [(12, 4, 4, 3), (1, 14, 14, 3)]


def test_unknown_sizes_stay_unknown():
    assert tuple(Conv2D(3, 3, "up")(keras.Input((None, None, 4))).shape) == (None, None, None, 3)
    assert tuple(Conv2D(3, 3, "down")(keras.Input((None, 6, 4))).shape) == (None, None, 3, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"resampling": "none"},
        {"kernel_size": 5},
        {"kernel_size": (1, 3)},
        {"strides": 2},
        {"dilation_rate": 2},
        {"groups": 2},
        {"padding": "valid"},
    ],
)
def test_other_convolutions_are_errors(change):
    (name,) = change
    with pytest.raises(ValueError, match=rf"`{name}` must be one of .* Received: {name}="):
        Conv2D(**{"filters": 4, "kernel_size": 3, "resampling": "up", **change})


def test_inputs_of_another_rank_are_an_error():
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
        Conv2D(3, 3, "up")(np.zeros((2, 3, 4), "float32"))


def test_mixed_precision_computes_in_half(few_positions_too):
    layer = Conv2D(3, 3, "up", dtype="mixed_bfloat16")
    found = layer(tensors(FEATURES))
    assert "bfloat16" in str(found.dtype) and "float32" in str(layer.kernel.dtype)
    exact = Conv2D(3, 3, "up")
    exact.build(FEATURES.shape)
    exact.set_weights(layer.get_weights())
    np.testing.assert_allclose(array(found).astype("float32"), array(exact(FEATURES)), atol=0.05)


@pytest.mark.parametrize("kernel_size, resampling", KINDS)
@pytest.mark.parametrize("shape", [(0, 4, 6, 4), (2, 0, 6, 4), (2, 4, 0, 4)])
def test_empty_maps_give_empty_maps(kernel_size, resampling, shape):
    layer = Conv2D(3, kernel_size, resampling)
    assert tuple(layer(tensors(np.zeros(shape, "float32"))).shape) == tuple(layer.compute_output_shape(shape))
