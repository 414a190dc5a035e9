"""Attentive layers found in a model, and the probe that shows what they see and say."""

import numpy as np
import pytest

from keras_an.backend import keras
from keras_an.layers import AttentiveNormalization, SpectralNormalization
from keras_an.models import attentive_layers, attentive_probe, projection_discriminator, residual_generator
from layer_test_case import array, randomize_weights, tensors

SMALL = {"resolution": 16, "num_classes": 5, "base_channels": 4, "num_entities": 3}


def generator(**kwargs):
    model = residual_generator(**SMALL, latent_dim=6, **kwargs)
    randomize_weights(model)
    return model


@pytest.fixture
def inputs():
    z = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    return tensors([z, np.array([1, 4])])


@pytest.mark.parametrize("blocks", [(1,), (2,), (1, 2), (2, 1)])
@pytest.mark.parametrize("network", [residual_generator, projection_discriminator])
def test_layers_come_in_the_order_of_the_graph(network, blocks):
    layers = attentive_layers(network(**SMALL, attention_blocks=blocks))
    assert all(isinstance(layer, AttentiveNormalization) for layer in layers)
    assert [layer.name for layer in layers] == [f"block{block}_attention" for block in sorted(blocks)]


@pytest.mark.parametrize("wrapper", [SpectralNormalization, keras.layers.TimeDistributed])
def test_layers_within_other_layers_are_refused(wrapper):
    inputs = keras.Input((3, 4, 4, 8) if wrapper is keras.layers.TimeDistributed else (4, 4, 8))
    model = keras.Model(inputs, wrapper(AttentiveNormalization(3), name="around")(inputs))
    for function in (attentive_layers, attentive_probe):
        with pytest.raises(ValueError, match=f"layer='around' of type {wrapper.__name__}"):
            function(model)


@pytest.mark.parametrize("kind", ["none", "self_attention"])
def test_other_models_have_none(kind):
    assert attentive_layers(generator(attention=kind, attention_blocks=(1,))) == []


def test_probe_gives_what_every_layer_took_and_gave(inputs):
    model = generator(attention_blocks=(1, 2))
    probed = attentive_probe(model)(inputs)
    assert sorted(probed) == ["inputs", "layouts", "outputs"]
    np.testing.assert_allclose(probed["outputs"], model(inputs), rtol=1e-5, atol=1e-6)
    assert [tuple(features.shape) for features in probed["inputs"]] == [(2, 8, 8, 8), (2, 16, 16, 4)]
    assert [tuple(layout.shape) for layout in probed["layouts"]] == [(2, 8, 8, 3), (2, 16, 16, 3)]
    convolution = keras.Model(model.inputs, model.get_layer("sn_block1_conv1").output)
    np.testing.assert_allclose(probed["inputs"][0], convolution(inputs), rtol=1e-5, atol=1e-5)
    for layer, features, layout in zip(attentive_layers(model), probed["inputs"], probed["layouts"]):
        np.testing.assert_allclose(layout, layer.get_layout(features), rtol=1e-5, atol=1e-6)


def test_probe_shares_the_weights(inputs):
    model = generator(attention_blocks=(2,))
    probe = attentive_probe(model)
    before = np.asarray(probe(inputs)["layouts"][0])
    randomize_weights(model, seed=1)
    np.testing.assert_allclose(probe(inputs)["outputs"], model(inputs), rtol=1e-5, atol=1e-6)
    assert np.abs(probe(inputs)["layouts"][0] - before).max() > 1e-2


def test_probe_of_a_discriminator_has_its_logits():
    model = projection_discriminator(**SMALL, attention_blocks=(1,))
    inputs = tensors([np.ones((2, 16, 16, 3), np.float32), np.array([1, 4])])
    probed = attentive_probe(model)(inputs)
    np.testing.assert_allclose(probed["outputs"], model(inputs), rtol=1e-5, atol=1e-6)
    assert tuple(probed["layouts"][0].shape) == (2, 16, 16, 3)


def test_probe_without_attentive_layers_has_empty_lists(inputs):
    model = generator(attention="none", attention_blocks=(1,))
    probed = attentive_probe(model)(inputs)
    np.testing.assert_allclose(probed["outputs"], model(inputs), rtol=1e-5, atol=1e-6)
    assert not probed["inputs"] and not probed["layouts"]


FEATURES = np.random.default_rng(1).normal(size=(3, 6, 4, 8)).astype(np.float32)


def sub_model(name, **call_kwargs):
    inputs = keras.Input((6, 4, 8))
    outputs = AttentiveNormalization(3, name=f"{name}_attentive")(keras.layers.Conv2D(8, 1)(inputs), **call_kwargs)
    return keras.Model(inputs, outputs, name=name)


def check_probe(model, layers):
    """The probe against each layer alone; the model itself stays as it was."""
    randomize_weights(model)
    x = tensors(FEATURES)
    expected = model(x)
    for _ in range(2):
        assert attentive_layers(model) == layers
        probed = attentive_probe(model)(x)
        for one, other in zip(*([part] if hasattr(part, "shape") else part for part in (probed["outputs"], expected))):
            np.testing.assert_allclose(array(one), array(other), rtol=1e-5, atol=1e-5)
        assert len(probed["inputs"]) == len(probed["layouts"]) == len(layers)
        for layer, features, layout in zip(layers, probed["inputs"], probed["layouts"]):
            assert tuple(layout.shape) == (*features.shape[:3], layer.num_entities)
            np.testing.assert_allclose(array(layout), array(layer.get_layout(features)), rtol=1e-4, atol=1e-5)
    return probed


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_probe_of_a_layer_that_does_not_return_its_layout(kind):
    layer = AttentiveNormalization(3)
    if kind == "sequential":
        model = keras.Sequential([keras.Input(FEATURES.shape[1:]), keras.layers.Conv2D(8, 1), layer])
    else:
        inputs = keras.Input(FEATURES.shape[1:])
        model = keras.Model(inputs, keras.layers.ReLU()(layer(inputs)))
    check_probe(model, [layer])
    assert len(layer._inbound_nodes) == 1


def test_probe_looks_into_models_in_a_model():
    inner, layer, listed = sub_model("inner"), AttentiveNormalization(5), sub_model("listed", return_layout=True)
    plain = keras.Sequential([keras.Input((6, 4, 8)), keras.layers.Conv2D(8, 1)])
    wrapped = keras.Sequential([keras.Input((6, 4, 8)), inner, plain])
    inputs = keras.Input(FEATURES.shape[1:])
    outputs, layout = listed(layer(wrapped(inputs)))
    model = keras.Model(inputs, [outputs, layout])
    layers = [inner.get_layer("inner_attentive"), layer, listed.get_layer("listed_attentive")]
    probed = check_probe(model, layers)
    np.testing.assert_allclose(array(probed["layouts"][2]), array(probed["outputs"][1]), rtol=1e-5, atol=1e-6)


def test_a_layer_called_twice_is_seen_twice():
    layer, inner, inputs = AttentiveNormalization(3), sub_model("inner"), keras.Input(FEATURES.shape[1:])
    model = keras.Model(inputs, inner(inner(layer(keras.layers.ReLU()(layer(inputs))))))
    inner_layer = inner.get_layer("inner_attentive")
    probed = check_probe(model, [layer, layer, inner_layer, inner_layer])
    np.testing.assert_array_equal(array(probed["inputs"][0]), FEATURES)
    assert np.abs(array(probed["layouts"][2]) - array(probed["layouts"][3])).max() > 1e-3


@pytest.mark.parametrize("explicit", [False, True])
def test_probe_hands_masks_on(explicit):
    layer, inputs = AttentiveNormalization(3), keras.Input((6, 8))
    if explicit:
        mask = keras.Input((6,), dtype="bool")
        model = keras.Model([inputs, mask], layer(inputs, mask=mask))
    else:
        model = keras.Model(inputs, layer(keras.layers.Masking()(inputs)))
    randomize_weights(model)
    x = FEATURES[:, :, 0].copy()
    x[:, 4:] = 0.0
    valid = np.arange(6) < np.full((3, 1), 4)
    probed = attentive_probe(model)(tensors([x, valid]) if explicit else tensors(x))
    expected = array(layer.get_layout(x, mask=valid))
    np.testing.assert_allclose(array(probed["layouts"][0]), expected, rtol=1e-5, atol=1e-6)


def test_a_model_without_a_graph_is_an_error():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    for function in (attentive_layers, attentive_probe):
        with pytest.raises(ValueError, match="must be a functional or a built sequential model"):
            function(Subclassed())
