"""What the probe reads of a network's attentive layers."""

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import small_params
from keras_an.models import attentive_layers
from keras_an_tensorboard import health
from trainers.configs.networks import build_networks
from trainers.monitoring import summaries

RANDOM = np.random.default_rng(0)


def test_probe_views_every_layer():
    _, discriminator = build_networks(
        small_params(task__model__resolution=16, task__model__discriminator__attention_blocks=[1, 2])
    )
    inputs = [tf.constant(RANDOM.normal(size=(4, 16, 16, 1)), tf.float32), tf.range(4)]
    layers = attentive_layers(discriminator)
    layers[1].residual_weight.assign(0.5)
    layers[1].sampling_weight.assign([0.1, 0.2, 0.6])
    probe = summaries.AttentionProbe(discriminator, inputs, inputs[0], [*"0123"])
    first, second = probe.views("D")
    assert [first.name, second.name] == ["D/block1_attention", "D/block2_attention"]
    assert (first.rho, second.rho) == (0.0, 0.5) and first.labels == [*"0123"]
    assert health.statistics(second)["t"] == pytest.approx(0.3)
    np.testing.assert_array_equal(first.images, inputs[0])
    np.testing.assert_array_equal(first.entities, tf.convert_to_tensor(layers[0].entities))
    seen = probe()
    np.testing.assert_allclose(seen["outputs"], discriminator(inputs, training=False), atol=1e-5)
    for view, layer, features in zip((first, second), layers, seen["inputs"]):
        np.testing.assert_array_equal(view.features, features)
        np.testing.assert_allclose(view.layout, layer.get_layout(features), atol=1e-5)


def test_probe_shows_the_outputs_of_a_generator():
    generator, _ = build_networks(small_params())
    inputs = [tf.constant(RANDOM.normal(size=(4, 8)), tf.float32), tf.range(4)]
    (view,) = summaries.AttentionProbe(generator, inputs).views("G")
    np.testing.assert_allclose(view.images, generator(inputs, training=False), atol=1e-5)


def test_probe_of_a_model_without_attention_says_nothing():
    _, discriminator = build_networks(small_params(task__model__attention="none"))
    assert summaries.AttentionProbe(discriminator, [tf.zeros((2, 16, 16, 1)), tf.range(2)]).views("D") == []
