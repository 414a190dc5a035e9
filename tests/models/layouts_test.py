"""Attentive layers found in a model, and the probe that shows what they see and say."""

import numpy as np
import pytest

from keras_an.backend import keras
from keras_an.layers import AttentiveNormalization
from keras_an.models import attentive_layers, attentive_probe, projection_discriminator, residual_generator
from layer_test_case import randomize_weights, tensors

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
