"""The geometry and colours of pictures, and PNG files that are whole."""

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import contents
from trainers.monitoring import pictures

RANDOM = np.random.default_rng(0)
# Two layouts that give the upper half to entity 0 and the lower half to entity 1.
HALVES = np.repeat(np.eye(2, dtype=np.float32), 2, axis=0)[None, :, None].repeat(2, axis=0).repeat(4, axis=2)


@pytest.mark.parametrize("value, level", [(-1.0, 0), (0.0, 128), (1.0, 255), (-3.0, 0), (3.0, 255)])
def test_to_uint8_maps_the_ends_of_the_range(value, level):
    assert np.unique(pictures.to_uint8(np.full((1, 2, 2, 3), value, np.float32))) == level


def test_to_uint8_makes_grey_images_colour():
    grey = RANDOM.uniform(-1, 1, (2, 3, 4, 1)).astype(np.float32)
    images = pictures.to_uint8(grey)
    assert images.shape == (2, 3, 4, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
    np.testing.assert_array_equal(images[..., 0], pictures.to_uint8(grey.repeat(3, axis=-1))[..., 1])


def test_image_grid_places_images_in_rows_with_white_between():
    images = np.stack([np.full((3, 4, 3), level, np.uint8) for level in (10, 20, 30)])
    grid = pictures.image_grid(images, columns=2, gap=1)
    expected = np.full((7, 9, 3), 255, np.uint8)
    expected[:3, :4], expected[:3, 5:], expected[4:, :4] = 10, 20, 30
    np.testing.assert_array_equal(grid, expected)


def test_layout_grid_shows_image_winners_and_a_heat_map_for_each_entity():
    images = np.full((2, 8, 8, 1), -1.0, np.float32)
    grid = pictures.layout_grid(images, HALVES)
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
    grid = pictures.layout_grid(np.zeros((1, 4, 4, 3), np.float32), layouts)
    np.testing.assert_allclose(grid[0, 12:16], [[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255]], atol=1)


def test_colours_of_many_entities_differ():
    layouts = np.eye(16, dtype=np.float32).reshape(1, 4, 4, 16)
    winners = pictures.layout_grid(np.zeros((1, 4, 4, 3), np.float32), layouts)[:, 6:10]
    assert len(np.unique(winners.reshape(-1, 3), axis=0)) == 16


def test_write_png_keeps_every_pixel(tmp_path):
    image = RANDOM.integers(256, size=(5, 7, 3)).astype(np.uint8)
    for _ in range(2):  # the second takes the first's place
        pictures.write_png(str(tmp_path / "image.png"), image)
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]
    np.testing.assert_array_equal(tf.io.decode_png((tmp_path / "image.png").read_bytes()), image)


def test_write_png_writes_whole_or_not_at_all(tmp_path, monkeypatch):
    pictures.write_png(str(tmp_path / "image.png"), np.zeros((2, 2, 3), np.uint8))
    before = (tmp_path / "image.png").read_bytes()

    def dies(path, content):
        with open(path, "wb") as file:
            file.write(content.numpy()[:10])
        raise OSError("disk full")

    monkeypatch.setattr(tf.io, "write_file", dies)
    with pytest.raises(OSError, match="disk full"):
        pictures.write_png(str(tmp_path / "image.png"), np.ones((2, 2, 3), np.uint8))
    assert contents(tmp_path)[str(tmp_path / "image.png")] == before
