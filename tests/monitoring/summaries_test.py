"""Statistics of layouts against layouts whose answer is known."""

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import small_params
from keras_an.models import attentive_layers
from trainers.configs.networks import build_networks
from trainers.monitoring import summaries

RANDOM = np.random.default_rng(0)


def halves(entities=2):
    """A layout of 2 x 4 x 4 that gives the upper half to entity 0 and the lower half to entity 1."""
    layout = np.zeros((2, 4, 4, entities), np.float32)
    layout[:, :2, :, 0] = layout[:, 2:, :, 1] = 1.0
    return tf.constant(layout)


def measured(features, layout):
    return {name: float(value) for name, value in summaries.layout_statistics(features, layout).items()}


def test_uniform_layout_tells_nothing():
    features = tf.constant(RANDOM.normal(3.0, 2.0, (2, 4, 4, 5)), tf.float32)
    statistics = measured(features, tf.fill((2, 4, 4, 8), 0.125))
    assert statistics["layout_entropy"] == pytest.approx(1.0, abs=1e-5)
    assert statistics["region_deviation"] == pytest.approx(1.0, abs=1e-5)
    assert statistics["entities_in_use"] == 1 / 8


def test_hard_layout_has_no_entropy():
    features = tf.constant(RANDOM.normal(size=(2, 4, 4, 5)), tf.float32)
    assert measured(features, halves())["layout_entropy"] == pytest.approx(0.0, abs=1e-5)


def test_constant_regions_have_no_deviation():
    layout = halves()
    features = 100.0 + tf.stack([layout[..., 0], 3.0 * layout[..., 1]], axis=-1)
    assert measured(features, layout)["region_deviation"] == pytest.approx(0.0, abs=1e-3)


def test_region_deviation_weighs_regions_by_their_mass():
    features = RANDOM.normal(size=(1, 4, 4, 3)).astype(np.float32)
    layout = np.zeros((1, 4, 4, 2), np.float32)
    layout[:, 0, :, 0] = layout[:, 1:, :, 1] = 1.0
    inside = 0.25 * features[0, 0].std(axis=0) + 0.75 * features[0, 1:].reshape(-1, 3).std(axis=0)
    expected = inside.mean() / features[0].reshape(-1, 3).std(axis=0).mean()
    found = measured(tf.constant(features), tf.constant(layout))
    assert found["region_deviation"] == pytest.approx(expected, rel=1e-4)


def test_constant_features_give_a_finite_deviation():
    statistics = measured(tf.ones((2, 4, 4, 5)), halves())
    assert statistics["region_deviation"] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("entities, share", [(2, 1.0), (4, 0.5), (8, 0.25)])
def test_entities_in_use_counts_the_winners(entities, share):
    assert measured(tf.ones((2, 4, 4, 1)), halves(entities))["entities_in_use"] == share


def test_one_entity_is_in_use_and_has_no_entropy():
    statistics = measured(tf.ones((2, 4, 4, 1)), tf.ones((2, 4, 4, 1)))
    assert statistics["layout_entropy"] == 0.0 and statistics["entities_in_use"] == 1.0


def test_half_precision_features_are_measured_in_float32():
    features = tf.constant(RANDOM.normal(size=(2, 4, 4, 5)), tf.float32)
    exact = measured(features, halves())
    rounded = measured(tf.cast(features, tf.bfloat16), halves())
    assert rounded["region_deviation"] == pytest.approx(exact["region_deviation"], rel=1e-2)


def test_probe_names_the_statistics_of_every_layer():
    _, discriminator = build_networks(small_params(task__model__discriminator__attention_blocks=[1, 2]))
    inputs = [tf.constant(RANDOM.normal(size=(4, 16, 16, 1)), tf.float32), tf.range(4)]
    layers = attentive_layers(discriminator)
    layers[1].residual_weight.assign(0.5)
    layers[1].sampling_weight.assign([0.1, 0.2, 0.6])
    probe = summaries.AttentionProbe(discriminator, inputs)
    scalars = probe.scalars("D")
    statistics = {"rho", "t", "layout_entropy", "entities_in_use", "region_deviation", "orthogonality"}
    assert set(scalars) == {f"D/block{block}_attention/{name}" for block in (1, 2) for name in statistics}
    assert scalars["D/block1_attention/rho"] == 0.0 and scalars["D/block2_attention/rho"] == 0.5
    assert scalars["D/block2_attention/t"] == pytest.approx(0.3)
    entities = tf.convert_to_tensor(layers[0].entities).numpy()
    rows = entities / np.linalg.norm(entities, axis=1, keepdims=True)
    expected = np.square(rows @ rows.T - np.eye(3)).sum()
    assert scalars["D/block1_attention/orthogonality"] == pytest.approx(expected, rel=1e-4)
    assert probe.scalars("D") == scalars
    np.testing.assert_allclose(probe()["outputs"], discriminator(inputs, training=False), atol=1e-5)


def test_probe_of_a_model_without_attention_says_nothing():
    _, discriminator = build_networks(small_params(task__model__attention="none"))
    assert summaries.AttentionProbe(discriminator, [tf.zeros((2, 16, 16, 1)), tf.range(2)]).scalars("D") == {}
