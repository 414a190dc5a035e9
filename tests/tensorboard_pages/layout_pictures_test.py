"""Labelled pictures of layouts: where things are, that PNG keeps them, and that colour-blind people can read them."""

import itertools
import json
import zlib

import numpy as np
import pytest
from skimage import color as skimage_color
from skimage import io as skimage_io

from keras_an_tensorboard import packing, palette, pictures, text

RANDOM = np.random.default_rng(0)
# What eyes without red or green cones see of linear RGB (Machado, Oliveira, Fernandes 2009, severity 1).
EYES = {
    "all cones": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def halves(images=2, entities=2):
    """Layouts that give the upper half to entity 0 and the lower half to entity 1."""
    layouts = np.zeros((images, 4, 4, entities), np.float32)
    layouts[:, :2, :, 0] = layouts[:, 2:, :, 1] = 1.0
    return layouts


@pytest.mark.parametrize("eyes", EYES)
def test_any_two_colours_look_different(eyes):
    linear = palette.colors(16) / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(EYES[eyes]), 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = skimage_color.rgb2lab(seen[None])[0]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)) > 16.5


def test_colours_come_again_after_all_were_used():
    assert len({tuple(color) for color in palette.colors(32)}) == 32
    np.testing.assert_array_equal(palette.colors(40)[32:], palette.colors(8))


def test_columns_are_image_blend_winners_and_heat_maps():
    images = np.full((2, 8, 8, 1), -1.0, np.float32)
    images[:, :, 4:] = 1.0
    found = pictures.layout_picture(images, halves())
    top, side = 22, 96
    assert found.shape == (top + 2 * 98 - 2, 5 * 98 - 2, 3) and found.dtype == np.uint8
    image, blend, winners, first, second = (found[top : top + side, left : left + side] for left in range(0, 490, 98))
    assert (image[:, :48] == 0).all() and (image[:, 48:] == 255).all()
    colors = palette.colors(2)
    assert (winners[:48] == colors[0]).all() and (winners[48:] == colors[1]).all()
    assert (blend[:48, :48] == colors[0] // 2).all()
    assert (blend[48:, 48:] == (colors[1].astype(int) + 255) // 2).all()
    assert (first[:48] == 255).all() and (first[48:] == 0).all() and (second[48:] == 255).all()
    assert (found[17:21, 294:390] == colors[0]).all() and (found[17:21, 392:488] == colors[1]).all()


def test_labels_tell_number_and_share():
    found = pictures.layout_picture(np.zeros((1, 8, 8, 1)), halves(1), shares=[0.25, 0.746])
    for column, label in enumerate(["image", "blend", "winner", "0 25%", "1 75%"]):
        expected = np.full((14, 96, 3), 255, np.uint8)
        text.draw(expected, 0, 0, label)
        assert expected.min() == 0
        np.testing.assert_array_equal(found[2:16, 98 * column : 98 * column + 96], expected)


@pytest.mark.parametrize(
    "size, shown", [((8, 8), (96, 96)), ((64, 64), (128, 128)), ((256, 256), (128, 128)), ((50, 100), (100, 200))]
)
def test_tiles_have_at_least_96_pixels(size, shown):
    assert pictures.tile_size(*size) == shown


def test_pictures_are_bounded():
    found = pictures.layout_picture(RANDOM.uniform(size=(50, 64, 64, 3)), RANDOM.uniform(size=(50, 8, 8, 16)))
    assert found.shape[0] == 22 + 4 * 130 - 2 and found.shape[0] * found.shape[1] < 1_500_000


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
def test_images_of_all_ranges_are_taken(low, high):
    images = np.array([low, high], np.float32).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(pictures.to_uint8(images), np.array([[[[0] * 3, [255] * 3]]]))


def test_table_shows_per_cents_on_a_heat_map():
    found = pictures.table_picture(["a", "bc"], [[0.0, 1.0], [0.333, 0.667]])
    assert found.shape == (3 * 28, 12 + 24 + 2 * 52, 3)
    cells = found[28:, 36:].reshape(2, 28, 2, 52, 3)
    assert (cells[0, 0, 0, :51] == 0).all() and (cells[0, 0, 1, :51] == 255).all()
    np.testing.assert_array_equal(cells[1, 0, 0, 0], pictures.heat(0.333))
    expected = np.full((14, 36, 3), 255, np.uint8)
    text.draw(expected, 0, 0, "100%")
    np.testing.assert_array_equal(cells[0, 7:21, 1, 6:42], expected)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3)])
def test_png_keeps_every_pixel(tmp_path, shape):
    image = RANDOM.integers(256, size=shape).astype(np.uint8)
    (tmp_path / "image.png").write_bytes(pictures.png(image))
    np.testing.assert_array_equal(skimage_io.imread(tmp_path / "image.png"), image)


def test_packed_layouts_keep_what_they_hold(tmp_path):
    layouts = RANDOM.dirichlet(np.ones(3), size=(2, 4, 5)).astype(np.float32)
    images = RANDOM.integers(256, size=(2, 8, 10, 3)).astype(np.uint8)
    header, levels, png = packing.pack(images, layouts, [0.5, 0.3, 0.2], ["cat", "dog"])
    header = json.loads(header)
    assert header["labels"] == ["cat", "dog"] and header["palette"][0] == "#e69f00" and header["entities"] == 3
    assert (header["images"], header["height"], header["width"], header["image_width"]) == (2, 4, 5, 10)
    levels = np.frombuffer(zlib.decompress(levels), np.uint8).reshape(2, 3, 4, 5)
    np.testing.assert_allclose(levels.transpose(0, 2, 3, 1) / 255, layouts, atol=0.5 / 255 + 1e-6)
    (tmp_path / "strip.png").write_bytes(png)
    np.testing.assert_array_equal(skimage_io.imread(tmp_path / "strip.png"), images.reshape(16, 10, 3))


def test_packed_layouts_are_means_of_blocks_and_at_most_half_a_megabyte():
    layouts = RANDOM.dirichlet(np.ones(64), size=(9, 128, 128)).astype(np.float32)
    blobs = packing.pack(RANDOM.uniform(size=(9, 256, 256, 3)), layouts, np.ones(64) / 64)
    header = json.loads(blobs[0])
    side = header["height"]
    assert header["images"] == 8 and side == header["width"] == 21 and header["image_height"] == 85
    assert sum(map(len, blobs)) < 500_000
    levels = np.frombuffer(zlib.decompress(blobs[1]), np.uint8).reshape(8, 64, side, side)
    assert levels[3, 5, 2, 7] == pytest.approx(255 * layouts[3, 12:18, 42:48, 5].mean(), abs=0.51)
