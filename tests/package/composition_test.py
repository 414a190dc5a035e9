"""Attentive Normalization inside models: sequential, functional, subclassed, wrapped, cloned, saved, exported."""

import numpy as np
import pytest

from keras_an.backend import keras
from keras_an.layers import AttentiveNormalization, SpectralNormalization
from layer_test_case import array, assert_close, randomize_weights, record_gradients, tensors

FEATURES = np.random.default_rng(0).normal(size=(2, 6, 4, 8)).astype(np.float32)


def attentive(**kwargs):
    return AttentiveNormalization(3, seed=1, name="attentive", **kwargs)


def functional(layer):
    """A convolution, then `layer` with its layout."""
    inputs = keras.Input(FEATURES.shape[1:])
    features = keras.layers.Conv2D(8, 1, name="convolution")(inputs)
    model = keras.Model(inputs, layer(features, return_layout=True))
    randomize_weights(model)
    return model


class Subclassed(keras.Model):
    """A convolution and a layer that a user's own model calls."""

    def __init__(self):
        super().__init__()
        self.convolution = keras.layers.Conv2D(8, 1)
        self.attentive = attentive()

    def call(self, inputs, training=None):
        return self.attentive(self.convolution(inputs), training=training)


def assert_draws_go_on_equally(model, twin):
    """The models draw the same positions from now on, other ones in each call."""
    first, second = (model(FEATURES, training=True) for _ in range(2))
    assert np.abs(array(first[0]) - array(second[0])).max() > 1e-4
    for expected in (first, second):
        assert_close(twin(FEATURES, training=True), expected, rtol=1e-5, atol=1e-5)


def test_sequential_is_its_layers_in_a_row():
    layers = [keras.layers.Conv2D(8, 1), attentive(), keras.layers.ReLU()]
    model = keras.Sequential(layers)
    model(FEATURES)
    randomize_weights(model)
    expected = FEATURES
    for layer in layers:
        expected = layer(expected)
    assert_close(model(FEATURES), expected, rtol=1e-6, atol=1e-6)
    assert len(model.losses) == 1


def test_subclassed_models_hold_weights_losses_and_training():
    model = Subclassed()
    model(FEATURES)
    randomize_weights(model)
    assert_close(model(FEATURES), model.attentive(model.convolution(FEATURES)), rtol=1e-6, atol=1e-6)
    assert len(model.trainable_weights) == 2 + 9 and len(model.losses) == 1
    first, second = (array(model(FEATURES, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-4


def test_subclassed_models_restore_weights_and_draws(tmp_path):
    model, twin = Subclassed(), Subclassed()
    for one in (model, twin):
        one(FEATURES)
    randomize_weights(model)
    model(FEATURES, training=True)
    model.save_weights(tmp_path / "model.weights.h5")
    twin.load_weights(tmp_path / "model.weights.h5")
    assert_close(twin(FEATURES), model(FEATURES), rtol=1e-6, atol=1e-6)
    assert_draws_go_on_equally(model, twin)


@pytest.mark.parametrize("training", [False, True])
def test_time_distributed_takes_every_frame_alone(training):
    frames = np.random.default_rng(1).normal(size=(2, 3, 6, 4, 8)).astype(np.float32)
    layer = attentive(self_sampling=training)
    distributed = keras.layers.TimeDistributed(layer)
    distributed(frames)
    randomize_weights(layer)
    if training:  # Without weight the drawn positions change nothing, so that the frames can be compared.
        layer.sampling_weight.assign(np.zeros(3))
    outputs = array(distributed(frames, training=training))
    for index in range(3):
        assert_close(outputs[:, index], layer(frames[:, index]), rtol=1e-5, atol=1e-5)


def test_layouts_are_outputs_of_functional_models():
    layer = attentive()
    inputs = keras.Input(FEATURES.shape[1:])
    outputs, layout = layer(inputs, return_layout=True)
    model = keras.Model(inputs, [outputs, layout, layer.get_layout(inputs)])
    randomize_weights(model)
    assert [tuple(tensor.shape) for tensor in model.outputs] == [(None, 6, 4, 8), (None, 6, 4, 3), (None, 6, 4, 3)]
    expected = layer(FEATURES, return_layout=True)
    assert_close(model(FEATURES), [*expected, expected[1]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("wrapped", [False, True])
def test_clones_are_equal_but_share_no_weights(wrapped):
    model = functional(SpectralNormalization(attentive()) if wrapped else attentive())
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_close(clone(FEATURES), model(FEATURES), rtol=1e-6, atol=1e-6)
    expected = model(FEATURES)
    randomize_weights(clone, seed=1)
    assert_close(model(FEATURES), expected, rtol=0, atol=0)
    assert np.abs(array(clone(FEATURES)[0]) - array(expected[0])).max() > 1e-2


@pytest.mark.parametrize("wrapped", [False, True])
def test_saved_models_need_no_custom_objects_and_draw_on(wrapped, tmp_path):
    model = functional(SpectralNormalization(attentive()) if wrapped else attentive())
    model(FEATURES, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close(loaded(FEATURES), model(FEATURES), rtol=1e-6, atol=1e-6)
    assert len(loaded.losses) == len(model.losses) == 1
    assert_draws_go_on_equally(model, loaded)


@pytest.mark.parametrize("wrapped", [False, True])
def test_exported_models_serve_the_same(tf, wrapped, tmp_path):
    model = functional(SpectralNormalization(attentive()) if wrapped else attentive())
    model.export(str(tmp_path / "exported"))
    reloaded = tf.saved_model.load(str(tmp_path / "exported"))
    served = reloaded.serve(tensors(FEATURES))
    served = list(served.values()) if isinstance(served, dict) else served
    assert_close(served, model(FEATURES), rtol=1e-5, atol=1e-5)


def test_summary_shows_the_layer_its_shapes_and_its_weights():
    model = functional(attentive())
    lines = []
    model.summary(line_length=79, print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    text = text[text.index("convolution") :]
    number = model.get_layer("attentive").count_params()
    for part in ("attentive", "(AttentiveNormaliz", "(None, 6, 4, 8),", "6, 4, 3)", f" {number} "):
        assert part in text, text


def test_fit_trains_the_layer():
    layer = attentive()
    model = keras.Sequential([keras.layers.Conv2D(8, 1), layer])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    target = (FEATURES - FEATURES.mean((1, 2), keepdims=True)) / FEATURES.std((1, 2), keepdims=True)
    with record_gradients(True):
        losses = model.fit(FEATURES, target, batch_size=2, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert abs(float(array(layer.residual_weight))) > 1e-3


SAMPLING = {"query_kernel", "query_bias", "key_kernel", "key_bias", "sampling_weight"}


def in_a_model(**kwargs):
    model = keras.Sequential([keras.Input(FEATURES.shape[1:]), attentive(**kwargs)])
    randomize_weights(model)
    return model


@pytest.mark.parametrize("value_projection", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("self_sampling", [False, True])
@pytest.mark.parametrize("other", [False, True])
def test_weights_files_serve_layers_with_and_without_self_sampling(
    self_sampling, other, affine, value_projection, tmp_path
):
    options = {"affine": affine, "value_projection": value_projection}
    model = in_a_model(self_sampling=self_sampling, **options)
    twin = in_a_model(self_sampling=other, **options)
    for weight in twin.weights:
        weight.assign(np.full(weight.shape, 7.0))
    model.save_weights(tmp_path / "model.weights.h5")
    twin.load_weights(tmp_path / "model.weights.h5")
    assert_close(twin(FEATURES), model(FEATURES), rtol=1e-6, atol=1e-6)
    for name in SAMPLING if other else ():
        expected = array(getattr(model.layers[-1], name)) if self_sampling else 7.0
        np.testing.assert_array_equal(array(getattr(twin.layers[-1], name)), expected)


def test_weights_files_of_other_arguments_are_refused(tmp_path):
    in_a_model(value_projection=True).save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match=r"as many weights and states .* Received: a file with 11 and built=True"):
        in_a_model().load_weights(tmp_path / "model.weights.h5")


def test_random_state_is_a_variable_but_no_weight():
    for layer in (attentive(), in_a_model().layers[-1]):
        assert all("float" in str(weight.dtype) for weight in layer.weights)
        if hasattr(keras, "ops"):
            assert sum(variable is layer.sampling_state for variable in layer.variables) == 1
    weights = [array(weight) for weight in layer.get_weights()]
    assert len(weights) == 9
    layer.set_weights(weights)
