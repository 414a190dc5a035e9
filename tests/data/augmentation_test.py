"""Differentiable augmentation."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.data import augmentation
from trainers.data.augmentation import POLICIES

KEY = tf.constant([3, 4], tf.int64)


def augment(images, policy, key):
    return augmentation.augment(images, policy, augmentation.draw(policy, 64, key))


@pytest.fixture
def images():
    return tf.constant(np.random.default_rng(0).uniform(0.1, 1, (64, 16, 16, 3)), tf.float32)


@pytest.mark.parametrize("name", POLICIES)
def test_changes_each_image_in_its_own_way_and_again_the_same(images, name):
    same = tf.tile(images[:1], (64, 1, 1, 1))
    changed = augment(same, [name], KEY).numpy()
    assert changed.shape == same.shape
    assert len({image.tobytes() for image in changed}) > 10
    np.testing.assert_array_equal(augment(same, [name], KEY), changed)
    assert not np.array_equal(augment(same, [name], KEY + 1), changed)


def test_no_policy_changes_nothing(images):
    assert augment(images, [], KEY) is images


def test_color_keeps_what_lies_between_pixels_in_proportion(images):
    """Brightness, saturation and contrast are affine in the pixels: the grey of each image keeps its pattern."""
    grey = images.numpy().mean(-1).reshape(64, -1)
    changed = augment(images, ["color"], KEY).numpy().mean(-1).reshape(64, -1)
    centered, moved = grey - grey.mean(1, keepdims=True), changed - changed.mean(1, keepdims=True)
    contrast = (moved * centered).sum(1) / (centered**2).sum(1)
    np.testing.assert_allclose(moved, contrast[:, None] * centered, atol=1e-5)
    assert contrast.min() >= 0.5 - 1e-4 and contrast.max() <= 1.5 + 1e-4 and np.ptp(contrast) > 0.7
    brightness = changed.mean(1) - grey.mean(1)
    assert np.abs(brightness).max() <= 0.5 and np.ptp(brightness) > 0.7


def test_translation_moves_by_an_eighth_at_most_and_fills_with_zeros(images):
    changed = augment(images, ["translation"], KEY).numpy()
    padded = np.pad(images.numpy(), [(0, 0), (2, 2), (2, 2), (0, 0)])
    moves = set()
    for before, after in zip(padded, changed):
        found = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(before[row : row + 16, column : column + 16], after)
        ]
        assert len(found) == 1
        moves.update(found)
    assert {row for row, _ in moves} == {column for _, column in moves} == set(range(5))


def test_cutout_sets_one_square_to_zero_and_leaves_the_rest(images):
    changed, before = augment(images, ["cutout"], KEY).numpy(), images.numpy()
    hidden = (changed == 0).all(-1)
    np.testing.assert_array_equal(changed[~hidden], before[~hidden])
    for mask in hidden:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)
        assert 4 <= len(rows) <= 8 and 4 <= len(columns) <= 8
        assert np.ptp(rows) == len(rows) - 1 and np.ptp(columns) == len(columns) - 1
    assert hidden.sum(axis=(1, 2)).max() == 64


@pytest.mark.parametrize("name", POLICIES)
def test_gradients_flow_and_xla_gives_the_same(images, name):
    weighting = tf.constant(np.random.default_rng(1).normal(size=images.shape), tf.float32)

    draws = augmentation.draw([name], 64, KEY)

    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(augmentation.augment(images, [name], draws) * weighting)
        return tape.gradient(total, images)

    found = gradient(images)
    assert np.abs(found).max(axis=(1, 2, 3)).min() > 0.1
    np.testing.assert_allclose(tf.function(gradient, jit_compile=True)(images), found, atol=1e-5)
