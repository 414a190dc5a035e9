"""Statistics of layouts against layouts whose answer is known, and the geometry of pictures."""

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import contents, small_params
from keras_an.models import attentive_layers
from trainers import summaries
from trainers.configs.networks import build_networks

RANDOM = np.random.default_rng(0)


def halves(entities=2):
    """A layout of 2 x 4 x 4 that gives the upper half to entity 0 and the lower half to entity 1."""
    layout = np.zeros((2, 4, 4, entities), np.float32)
    layout[:, :2, :, 0] = layout[:, 2:, :, 1] = 1.0
    return tf.constant(layout)


def test_uniform_layout_tells_nothing():
    features = tf.constant(RANDOM.normal(3.0, 2.0, (2, 4, 4, 5)), tf.float32)
    statistics = summaries.layout_statistics(features, tf.fill((2, 4, 4, 8), 0.125))
    assert statistics["layout_entropy"] == pytest.approx(1.0, abs=1e-5)
    assert statistics["region_deviation"] == pytest.approx(1.0, abs=1e-5)
    assert statistics["entities_in_use"] == 1 / 8


def test_hard_layout_has_no_entropy():
    features = tf.constant(RANDOM.normal(size=(2, 4, 4, 5)), tf.float32)
    assert summaries.layout_statistics(features, halves())["layout_entropy"] == pytest.approx(0.0, abs=1e-5)


def test_constant_regions_have_no_deviation():
    layout = halves()
    features = 100.0 + tf.stack([layout[..., 0], 3.0 * layout[..., 1]], axis=-1)
    assert summaries.layout_statistics(features, layout)["region_deviation"] == pytest.approx(0.0, abs=1e-3)


def test_region_deviation_weighs_regions_by_their_mass():
    features = RANDOM.normal(size=(1, 4, 4, 3)).astype(np.float32)
    layout = np.zeros((1, 4, 4, 2), np.float32)
    layout[:, 0, :, 0] = layout[:, 1:, :, 1] = 1.0
    inside = 0.25 * features[0, 0].std(axis=0) + 0.75 * features[0, 1:].reshape(-1, 3).std(axis=0)
    expected = inside.mean() / features[0].reshape(-1, 3).std(axis=0).mean()
    found = summaries.layout_statistics(tf.constant(features), tf.constant(layout))
    assert found["region_deviation"] == pytest.approx(expected, rel=1e-4)


def test_constant_features_give_a_finite_deviation():
    statistics = summaries.layout_statistics(tf.ones((2, 4, 4, 5)), halves())
    assert statistics["region_deviation"] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("entities, share", [(2, 1.0), (4, 0.5), (8, 0.25)])
def test_entities_in_use_counts_the_winners(entities, share):
    assert summaries.layout_statistics(tf.ones((2, 4, 4, 1)), halves(entities))["entities_in_use"] == share


def test_one_entity_is_in_use_and_has_no_entropy():
    statistics = summaries.layout_statistics(tf.ones((2, 4, 4, 1)), tf.ones((2, 4, 4, 1)))
    assert statistics["layout_entropy"] == 0.0 and statistics["entities_in_use"] == 1.0


def test_half_precision_features_are_measured_in_float32():
    features = tf.constant(RANDOM.normal(size=(2, 4, 4, 5)), tf.float32)
    exact = summaries.layout_statistics(features, halves())
    rounded = summaries.layout_statistics(tf.cast(features, tf.bfloat16), halves())
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
    _, discriminator = build_networks(small_params(task__model__discriminator__attention="none"))
    assert summaries.AttentionProbe(discriminator, [tf.zeros((2, 16, 16, 1)), tf.range(2)]).scalars("D") == {}


@pytest.mark.parametrize("value, level", [(-1.0, 0), (0.0, 128), (1.0, 255), (-3.0, 0), (3.0, 255)])
def test_to_uint8_maps_the_ends_of_the_range(value, level):
    assert np.unique(summaries.to_uint8(np.full((1, 2, 2, 3), value, np.float32))) == level


def test_to_uint8_makes_grey_images_colour():
    grey = RANDOM.uniform(-1, 1, (2, 3, 4, 1)).astype(np.float32)
    images = summaries.to_uint8(grey)
    assert images.shape == (2, 3, 4, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
    np.testing.assert_array_equal(images[..., 0], summaries.to_uint8(grey.repeat(3, axis=-1))[..., 1])


def test_image_grid_places_images_in_rows_with_white_between():
    images = np.stack([np.full((3, 4, 3), level, np.uint8) for level in (10, 20, 30)])
    grid = summaries.image_grid(images, columns=2, gap=1)
    expected = np.full((7, 9, 3), 255, np.uint8)
    expected[:3, :4], expected[:3, 5:], expected[4:, :4] = 10, 20, 30
    np.testing.assert_array_equal(grid, expected)


def test_layout_grid_shows_image_winners_and_a_heat_map_for_each_entity():
    images = np.full((2, 8, 8, 1), -1.0, np.float32)
    grid = summaries.layout_grid(images, halves())
    assert grid.shape == (2 * 8 + 2, 4 * 8 + 3 * 2, 3) and grid.dtype == np.uint8
    image, winners, first, second = (grid[:8, left : left + 8] for left in (0, 10, 20, 30))
    assert (image == 0).all()
    upper, lower = np.unique(winners[:4].reshape(-1, 3), axis=0), np.unique(winners[4:].reshape(-1, 3), axis=0)
    assert len(upper) == len(lower) == 1 and not np.array_equal(upper, lower)
    assert (first[:4] == 255).all() and (first[4:] == 0).all()
    assert (second[:4] == 0).all() and (second[4:] == 255).all()
    np.testing.assert_array_equal(grid[:8], grid[10:])


def test_layout_grid_heats_from_black_over_red_and_yellow_to_white():
    levels = np.array([0.0, 1 / 3, 2 / 3, 1.0], np.float32)
    layouts = np.stack([levels, 1 - levels], axis=-1)[None, None].repeat(4, axis=1)
    grid = summaries.layout_grid(np.zeros((1, 4, 4, 3), np.float32), layouts)
    np.testing.assert_allclose(grid[0, 12:16], [[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255]], atol=1)


def test_colours_of_many_entities_differ():
    layouts = np.eye(16, dtype=np.float32).reshape(1, 4, 4, 16)
    winners = summaries.layout_grid(np.zeros((1, 4, 4, 3), np.float32), layouts)[:, 6:10]
    assert len(np.unique(winners.reshape(-1, 3), axis=0)) == 16


def test_write_png_keeps_every_pixel(tmp_path):
    image = RANDOM.integers(256, size=(5, 7, 3)).astype(np.uint8)
    for _ in range(2):  # the second takes the first's place
        summaries.write_png(str(tmp_path / "image.png"), image)
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]
    np.testing.assert_array_equal(tf.io.decode_png((tmp_path / "image.png").read_bytes()), image)


def test_write_png_writes_whole_or_not_at_all(tmp_path, monkeypatch):
    summaries.write_png(str(tmp_path / "image.png"), np.zeros((2, 2, 3), np.uint8))
    before = (tmp_path / "image.png").read_bytes()

    def dies(path, content):
        with open(path, "wb") as file:
            file.write(content.numpy()[:10])
        raise OSError("disk full")

    monkeypatch.setattr(tf.io, "write_file", dies)
    with pytest.raises(OSError, match="disk full"):
        summaries.write_png(str(tmp_path / "image.png"), np.ones((2, 2, 3), np.uint8))
    assert contents(tmp_path)[str(tmp_path / "image.png")] == before
