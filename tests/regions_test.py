"""Moments and normalisation of regions against float64 loops."""

import numpy as np
import pytest
import tensorflow as tf

from keras_an.backend import ops
from keras_an.ops import normalize_regions, region_moments, released_region_moments

BATCH, POSITIONS, CHANNELS, ENTITIES = 2, 12, 5, 3


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(BATCH, POSITIONS, CHANNELS)).astype(np.float32)


@pytest.fixture
def layout():
    return np.random.default_rng(1).dirichlet([0.5] * ENTITIES, size=(BATCH, POSITIONS)).astype(np.float32)


def each_region(values, layout, function):
    """Stacks `function(values of an image, shares of a region)` over images and regions, in float64."""
    values, layout = values.astype(np.float64), layout.astype(np.float64)
    return np.array([[function(v, s[:, [i]]) for i in range(ENTITIES)] for v, s in zip(values, layout)])


def mean_of(v, s):
    return sum(s * v) / sum(s)


def variance_of(v, s):
    return sum(s * (v - mean_of(v, s)) ** 2) / sum(s)


def test_moments_are_weighted(values, layout):
    mean, variance = region_moments(tf.constant(values), tf.constant(layout))
    np.testing.assert_allclose(mean, each_region(values, layout, mean_of), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, each_region(values, layout, variance_of), rtol=1e-4, atol=1e-6)


def test_moments_of_hard_regions_are_those_of_their_positions(values):
    owner = np.arange(POSITIONS) % ENTITIES
    layout = np.tile(np.eye(ENTITIES, dtype=np.float32)[owner], (BATCH, 1, 1))
    mean, variance = region_moments(tf.constant(values), tf.constant(layout))
    for entity in range(ENTITIES):
        region = values[:, owner == entity]
        np.testing.assert_allclose(mean[:, entity], region.mean(1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(variance[:, entity], region.var(1), rtol=1e-4, atol=1e-6)


def test_hard_regions_are_instance_normalized_alone(values):
    owner = np.random.default_rng(2).permutation(POSITIONS) % ENTITIES
    layout = tf.constant(np.tile(np.eye(ENTITIES, dtype=np.float32)[owner], (BATCH, 1, 1)))
    mean, variance = region_moments(tf.constant(values), layout)
    outputs = np.asarray(normalize_regions(tf.constant(values), layout, mean, ops.rsqrt(variance + 1e-5)))
    for entity in range(ENTITIES):
        region = values[:, owner == entity].astype(np.float64)
        expected = (region - region.mean(1, keepdims=True)) / np.sqrt(region.var(1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(outputs[:, owner == entity], expected, rtol=1e-4, atol=1e-5)


def test_a_region_without_mass_has_no_moments(values, layout):
    layout[..., 1] = 0.0
    mean, variance = region_moments(tf.constant(values), tf.constant(layout))
    assert (np.asarray(mean)[:, 1] == 0).all() and (np.asarray(variance)[:, 1] == 0).all()
    assert np.isfinite(mean).all() and np.isfinite(variance).all()


def test_variance_of_a_constant_is_zero_and_never_negative(layout):
    constant = np.full((BATCH, POSITIONS, CHANNELS), 0.3, np.float32)
    _, variance = region_moments(tf.constant(constant), tf.constant(layout))
    assert np.min(variance) >= 0
    np.testing.assert_allclose(variance, 0.0, atol=1e-6)


def test_released_moments_are_those_of_the_product(values, layout):
    def released_mean(v, s):
        return np.mean(s * v, axis=0) / (sum(s) + 1e-7)

    def released_deviation(v, s):
        return np.sqrt(sum((s * v - released_mean(v, s)) ** 2) / (sum(s) + 1e-7))

    mean, deviation = released_region_moments(tf.constant(values), tf.constant(layout))
    np.testing.assert_allclose(mean, each_region(values, layout, released_mean), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(deviation, each_region(values, layout, released_deviation), rtol=1e-4, atol=1e-6)


def test_released_moments_of_zeros_have_finite_gradients(layout):
    zeros = tf.zeros((BATCH, POSITIONS, CHANNELS))
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        _, deviation = released_region_moments(zeros, tf.constant(layout))
        total = tf.reduce_sum(deviation)
    np.testing.assert_array_equal(tape.gradient(total, zeros), np.zeros_like(zeros))


@pytest.mark.parametrize("with_offset", [False, True])
def test_normalization_sums_over_regions(values, layout, with_offset):
    rng = np.random.default_rng(3)
    mean, scale = rng.normal(size=(2, BATCH, ENTITIES, CHANNELS)).astype(np.float32)
    offset = rng.normal(size=(ENTITIES, CHANNELS)).astype(np.float32) if with_offset else None
    expected = np.zeros_like(values, np.float64)
    for image, position, entity in np.ndindex(BATCH, POSITIONS, ENTITIES):
        region = (values[image, position] - mean[image, entity]) * scale[image, entity]
        expected[image, position] += layout[image, position, entity] * (region + (offset[entity] if with_offset else 0))
    outputs = normalize_regions(*map(tf.constant, (values, layout, mean, scale)), offset)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
