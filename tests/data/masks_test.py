"""Holes: their shapes, sizes and places, and that a key decides them."""

import dataclasses
import logging

import numpy as np
import pytest
import tensorflow as tf

from trainers.configs.schema import MaskConfig
from trainers.data import masks

CONFIG = MaskConfig(
    kinds=["rectangle"],
    size=16,
    max_shrink=8,
    num_strokes=3,
    max_vertices=5,
    max_length=12.0,
    min_width=2.0,
    max_width=5.0,
)
KINDS = ("rectangle", "center", "strokes", "box", "blob", "border", "text")


def draw(*kinds, num_images=200, key=(3, 4), resolution=32, folder=None, **changes):
    config = dataclasses.replace(CONFIG, kinds=list(kinds), **changes)
    draws = masks.draw(config, num_images, tf.constant(key, tf.int64))
    mask, corner = masks.make(config, resolution, draws, folder)
    return mask.numpy(), corner.numpy()


def sides(mask):
    """Top, bottom, left, right of what is missing, the last ones exclusive, after a check that all between is."""
    rows, columns = np.flatnonzero(mask.any(axis=(1, 2))), np.flatnonzero(mask.any(axis=(0, 2)))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert mask[top:bottom, left:right].all() and mask.sum() == (bottom - top) * (right - left)
    return top, bottom, left, right


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_zeros_and_ones_and_hide_a_part(kind):
    mask, _ = draw(kind)
    assert mask.shape == (200, 32, 32, 1) and mask.dtype == np.float32
    assert set(np.unique(mask)) == {0.0, 1.0}
    covered = masks.coverage(tf.constant(mask)).numpy()
    np.testing.assert_allclose(covered, mask.mean(axis=(1, 2, 3)))
    assert covered.min() > 0 and covered.max() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_decides_the_masks_in_graphs_as_well(kind):
    first, _ = draw(kind)
    np.testing.assert_array_equal(draw(kind)[0], first)
    config = dataclasses.replace(CONFIG, kinds=[kind])
    inside = tf.function(lambda key: masks.make(config, 32, masks.draw(config, 200, key))[0])
    np.testing.assert_array_equal(inside(tf.constant((3, 4), tf.int64)), first)
    assert (kind == "center") == np.array_equal(draw(kind, key=(3, 5))[0], first)


def test_rectangles_lie_symmetrically_in_the_square_at_their_corner():
    mask, corner = draw("rectangle")
    heights, widths = set(), set()
    for one, (top, left) in zip(mask, corner):
        first, last, start, end = sides(one)
        assert first - top == top + 16 - last and start - left == left + 16 - end
        heights.add(last - first)
        widths.add(end - start)
    assert heights == widths == {8, 10, 12, 14, 16}
    assert set(corner[:, 0]) == set(corner[:, 1]) == set(range(32 - 16 + 1))


def test_without_shrink_rectangles_are_the_whole_square():
    mask, corner = draw("rectangle", max_shrink=0)
    assert [sides(one) for one in mask] == [(top, top + 16, left, left + 16) for top, left in corner]


def test_center_is_the_square_in_the_middle():
    assert {sides(one) for one in draw("center")[0]} == {(8, 24, 8, 24)}


def test_boxes_lie_anywhere_and_are_cut_off_at_the_border():
    found = np.array([sides(one) for one in draw("box", num_images=600)[0]])
    heights, widths = found[:, 1] - found[:, 0], found[:, 3] - found[:, 2]
    assert heights.max() == widths.max() == 16 and heights.min() <= 2 and widths.min() <= 2
    assert not np.array_equal(heights, widths)
    inner = (found[:, 0] > 0) & (found[:, 1] < 32)
    assert 50 < (~inner).sum() < 450 and set(found[:, 0]) | set(found[:, 1]) == set(range(33))
    # Of sides from 2 to 16, uniform; those that are cut off are not.
    assert 5 < heights[inner].mean() < 10


def test_borders_are_strips_along_one_side_or_all():
    mask, _ = draw("border", num_images=500)
    kinds = {"all": 0, "top": 0, "bottom": 0, "left": 0, "right": 0}
    for one in mask[..., 0]:
        known = np.argwhere(one == 0)
        (top, left), (bottom, right) = known.min(axis=0), known.max(axis=0) + 1
        assert (one == 0).sum() == (bottom - top) * (right - left)
        widths = {"top": top, "bottom": 32 - bottom, "left": left, "right": 32 - right}
        some = [name for name, width in widths.items() if width]
        assert len(some) in (1, 4) and max(widths.values()) <= (4 if len(some) == 4 else 8)
        kinds[some[0] if len(some) == 1 else "all"] += 1
    assert all(60 < count < 140 for count in kinds.values())


def test_blobs_hang_together_and_are_neither_squares_nor_all_circles():
    from skimage import measure

    mask, _ = draw("blob", num_images=200)
    areas, fullness = [], []
    for one in mask[..., 0]:
        (region,) = measure.regionprops(measure.label(one.astype(int), connectivity=2))
        touches = one[0].any() or one[-1].any() or one[:, 0].any() or one[:, -1].any()
        if not touches and region.area > 40:
            areas.append(region.area)
            fullness.append(region.area / (np.pi / 4 * region.axis_major_length * region.axis_minor_length))
    assert len(areas) > 20 and max(areas) > 3 * min(areas)
    assert 0.8 < np.median(fullness) <= 1.01


def test_new_kinds_change_no_masks_of_the_others():
    """Figures of runs from before there were boxes."""
    mask, corner = draw("rectangle", "strokes", num_images=4)
    assert mask.sum(axis=(1, 2, 3)).astype(int).tolist() == [128, 226, 150, 159]
    assert corner.tolist() == [[2, 15], [9, 12], [9, 9], [11, 0]]


def nearest(start, end, pixel):
    """The distance of a pixel to a piece, from the middle of many points on it."""
    along = np.linspace(0, 1, 2001)[:, None]
    points = start + along * (end - start)
    return np.sqrt(((points - pixel) ** 2).sum(axis=1)).min()


def test_a_piece_covers_the_pixels_within_its_radius():
    random = np.random.default_rng(0)
    start, end = random.uniform(0, 20, (2, 2))
    found = masks._pieces(*(tf.constant(p[:, None, None], tf.float32) for p in (start, end)), tf.fill((1, 1), 3.0), 20)
    for row, column in np.ndindex(20, 20):
        distance = nearest(start, end, (row, column))
        if abs(distance - 3.0) > 0.01:
            assert found[0, row, column] == (distance < 3.0)


def test_wider_and_more_strokes_cover_more():
    few, wide, many = (
        draw("strokes", **changes)[0].mean()
        for changes in ({}, {"min_width": 8.0, "max_width": 9.0}, {"num_strokes": 9})
    )
    assert 0.02 < few < wide and few < many


def test_short_thin_strokes_stay_short_and_thin():
    mask, _ = draw("strokes", num_strokes=1, max_vertices=1, max_length=4.0, min_width=2.0, max_width=2.0)
    for one in mask:
        rows, columns = np.nonzero(one[..., 0])
        assert np.ptp(rows) <= 7 and np.ptp(columns) <= 7 and 1 <= len(rows) <= 24


def test_an_angle_of_nothing_draws_along_the_columns():
    mask, _ = draw("strokes", max_angle=0.0, num_strokes=1, min_width=2.0, max_width=2.0)
    assert max(np.ptp(np.nonzero(one[..., 0])[1]) for one in mask) <= 2


def test_each_image_takes_one_kind_at_random():
    mask, _ = draw("center", "strokes")
    centers = sum(np.array_equal(one, draw("center")[0][0]) for one in mask)
    assert 70 < centers < 130


def test_fixed_masks_are_the_same_however_many():
    for kind in KINDS:
        few, many = masks.fixed(CONFIG, kind, 32, 3), masks.fixed(CONFIG, kind, 32, 5)
        np.testing.assert_array_equal(many[:3], few)
    assert len({one.tobytes() for one in masks.fixed(CONFIG, "strokes", 32, 5).numpy()}) == 5


def write_masks(folder, *arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for index, array in enumerate(arrays):
        tf.io.write_file(str(folder / f"{index}.png"), tf.io.encode_png(array.astype(np.uint8)))


def test_masks_of_a_folder_are_used_as_they_are(tmp_path):
    left, top = np.zeros((2, 32, 32, 1))
    left[:, :10], top[:7] = 255, 200
    write_masks(tmp_path, left, top)
    folder = masks.load_folder(str(tmp_path), 32)
    np.testing.assert_array_equal(folder, np.stack([left, top]) > 127)
    mask, _ = draw("folder", folder=folder)
    seen = {one.tobytes() for one in mask}
    assert seen == {(one > 127).astype(np.float32).tobytes() for one in (left, top)}


@pytest.mark.parametrize("value, hides", [(0, "nothing"), (255, "everything")])
def test_masks_that_all_hide_all_or_nothing_are_an_error(tmp_path, value, hides):
    write_masks(tmp_path, *[np.full((32, 32, 1), value)] * 2)
    with pytest.raises(ValueError, match=rf"each of the 2 in `task.masks.path`, .*, the first {hides}"):
        masks.load_folder(str(tmp_path), 32)


def test_useless_masks_are_left_out_counted_and_named(tmp_path, caplog):
    good = np.zeros((32, 32, 1))
    good[:9] = 255
    write_masks(tmp_path, np.zeros((32, 32, 1)), good, np.full((32, 32, 1), 255), np.zeros((32, 32, 1)))
    with caplog.at_level(logging.WARNING, logger="absl"):
        folder = masks.load_folder(str(tmp_path), 32)
    np.testing.assert_array_equal(folder, [good > 127])
    (message,) = (record.getMessage() for record in caplog.records)
    assert "3 of 4 masks, 1 of which hide everything and 2 nothing" in message
    assert all(f"{tmp_path}/{number}.png" in message for number in (0, 2, 3))


def test_inverted_masks_miss_what_is_dark(tmp_path):
    mask = np.zeros((32, 32, 1))
    mask[:9] = 255
    write_masks(tmp_path, mask)
    np.testing.assert_array_equal(masks.load_folder(str(tmp_path), 32, invert=True), [mask < 128])


def test_alpha_of_masks_is_ignored(tmp_path):
    grey = np.zeros((32, 32, 1))
    grey[:9] = 255
    alpha = np.random.default_rng(0).integers(0, 256, (32, 32, 1))
    write_masks(tmp_path, np.concatenate([grey, grey, grey, alpha], axis=-1))
    np.testing.assert_array_equal(masks.load_folder(str(tmp_path), 32), [grey > 127])


def test_corrupt_mask_names_its_file_and_what_to_do(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no mask")
    message = f"^{tmp_path}/broken.png cannot be read and decoded.* Replace it, or take it out of `task.masks.path`.$"
    with pytest.raises(ValueError, match=message):
        masks.load_folder(str(tmp_path), 32)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        masks.load_folder(str(tmp_path / "none"), 32)
