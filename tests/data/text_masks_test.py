"""Holes as text: letters are those of Pillow, in lines, turned about their middle."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from trainers.data import text_masks

SIZE, RESOLUTION = 256, 448  # letters of 24 x 32 pixels at the least height


POINT = 224.25  # in the pixel 224, which is always missing


def draws(word, row=POINT, column=POINT, height=0.0, turn=0.5, lines=0.0):
    """One set of draws, whose lines all say `word`."""
    letters = [(text_masks._ALPHABET.index(letter) + 0.5) / len(text_masks._ALPHABET) for letter in word.ljust(12)]
    return tf.constant([[row / RESOLUTION, column / RESOLUTION, height, turn, lines, *letters * 3]], tf.float32)


def mask_of(*args, **kwargs):
    return text_masks.texts(SIZE, RESOLUTION, draws(*args, **kwargs))[0, ..., 0].numpy() > 0


def test_a_level_line_is_what_pillow_draws():
    page, font = Image.new("L", (RESOLUTION, RESOLUTION)), ImageFont.load_default(size=24)
    for index, letter in enumerate("Holes in 7 d"):
        place = (224 + 24 * (index - 6) + 12, 224 + 8)
        ImageDraw.Draw(page).text(place, letter, fill=255, font=font, anchor="ms", stroke_width=2)
    expected = np.asarray(page) >= 128
    expected[224, 224] = True
    np.testing.assert_array_equal(mask_of("Holes in 7 d"), expected)
    assert 0.1 < expected[208:240, 80:368].mean() < 0.5 and not expected[:208].any()


@pytest.mark.parametrize(("draw", "tops"), [(0.0, [208]), (0.5, [192, 224]), (0.9, [176, 208, 240])])
def test_lines_stand_one_below_the_other_around_the_point(draw, tops):
    one, mask = mask_of("HHHHHH"), mask_of("HHHHHH", lines=draw)
    one[224, 224] = False
    expected = mask_of("")
    for top in tops:
        expected[top : top + 32] |= one[208:240]
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(("draw", "degrees"), [(0.0, -30.0), (0.75, 3.75), (0.999999, 30.0)])
def test_a_turn_is_about_the_point_and_of_at_most_30_degrees(draw, degrees):
    rows, columns = np.nonzero(mask_of("............", turn=draw))
    _, axes = np.linalg.eigh(np.cov(columns, rows))
    along, down = axes[:, 1] * np.sign(axes[0, 1])
    assert np.degrees(np.arctan2(down, along)) == pytest.approx(degrees, abs=1.0)
    # Full stops stand below the middle of their line, by a quarter of its height but for half of their own.
    below = np.radians(degrees)
    middle = [POINT + 6.5 * np.cos(below), POINT - 6.5 * np.sin(below)]
    np.testing.assert_allclose([rows.mean() + 0.5, columns.mean() + 0.5], middle, atol=1.5)


def test_blanks_hide_the_point_alone():
    rows, columns = np.nonzero(mask_of("", row=100.5, column=7.5))
    assert rows.tolist() == [100] and columns.tolist() == [7]


def test_letters_grow_with_the_draw_to_a_third_of_the_size():
    rows, _ = np.nonzero(mask_of("HHHHHHHHHHHH", height=1.0))
    small, _ = np.nonzero(mask_of("HHHHHHHHHHHH"))
    assert np.ptp(rows) / np.ptp(small) == pytest.approx(256 / 3 / 32, rel=0.05)
