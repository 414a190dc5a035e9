"""The soft layout, and the positions that self-sampling draws."""

import numpy as np
import pytest

from keras_an.backend import SeedGenerator, ops
from keras_an.ops import sample_positions, sample_valid_windows, soft_layout, window_positions
from layer_test_case import compiled, differentiate, gradients, tensors


def draws(batch_size, num_positions, num_samples, seed=1):
    return np.asarray(sample_positions(batch_size, num_positions, num_samples, SeedGenerator(seed)))


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_layout_is_the_softmax_of_the_scaled_logits(per_image, with_bias, jit):
    rng = np.random.default_rng(0)
    features, filters, bias = (rng.normal(size=shape) for shape in ((2, 5, 4), (2, 3, 4), (2, 1, 3)))
    if not per_image:
        filters = filters[0]
    expected = np.zeros((2, 5, 3))
    for image, position in np.ndindex(2, 5):
        logits = (filters[image] if per_image else filters) @ features[image, position]
        weights = np.exp(0.3 * (logits + (bias[image, 0] if with_bias else 0)))
        expected[image, position] = weights / sum(weights)
    features, filters, bias = tensors([value.astype(np.float32) for value in (features, filters, bias)])

    def call(features):
        return soft_layout(features, filters, bias if with_bias else None, temperature=0.3)

    np.testing.assert_allclose((compiled(call) if jit else call)(features), expected, rtol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_layout_of_huge_logits_sums_to_one(jit):
    features = np.float32(1e6) * np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)

    def call(features):
        return soft_layout(features, ops.ones((3, 4)))

    layout = np.asarray((compiled(call) if jit else call)(tensors(features)))
    np.testing.assert_allclose(layout.sum(-1), 1.0, rtol=1e-5)


def plain_layout(features, filters, bias, temperature):
    """`soft_layout` without a gradient of its own."""
    logits = ops.matmul(features, ops.transpose(filters)) + bias
    return ops.softmax(temperature * logits, axis=-1)


def penalty_of(function):
    """A function of the squared gradient in the features, as a gradient penalty is."""

    def penalty(features, *others):
        def energy(features):
            return ops.sum(ops.square(function(features, *others, 0.3)))

        return ops.sum(ops.square(differentiate(energy, features)))

    return penalty


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_gradient_of_the_layout_is_the_automatic_one(twice, jit):
    rng = np.random.default_rng(1)
    arguments = [rng.normal(size=shape).astype(np.float32) for shape in ((2, 5, 4), (3, 4), (2, 1, 3), (2, 5, 3))]

    def loss_of(function):
        if twice:
            return lambda *tensors_: penalty_of(function)(*tensors_[:3])
        return lambda features, filters, bias, weighting: ops.sum(function(features, filters, bias, 0.3) * weighting)

    found = gradients(loss_of(soft_layout), arguments, [], jit=jit)
    for ours, expected in zip(found[:3], gradients(loss_of(plain_layout), arguments, [], jit=jit)):
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("jit", [False, True])
def test_gradient_of_filters_of_each_image_is_the_automatic_one(jit):
    rng = np.random.default_rng(2)
    arguments = [rng.normal(size=shape).astype(np.float32) for shape in ((2, 5, 4), (2, 3, 4), (2, 5, 3))]

    def plain(features, filters, weighting):
        return ops.sum(ops.softmax(ops.einsum("bpc,bnc->bpn", features, filters), axis=-1) * weighting)

    def ours(features, filters, weighting):
        return ops.sum(soft_layout(features, filters, temperature=1.0) * weighting)

    for one, other in zip(gradients(ours, arguments, [], jit=jit), gradients(plain, arguments, [], jit=jit)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_positions, num_samples", [(1, 1), (64, 16), (37, 16), (16, 16), (17, 16), (1000, 3)])
def test_draws_are_in_range_and_distinct(num_positions, num_samples):
    positions = draws(500, num_positions, num_samples)
    assert positions.dtype == np.int32 and positions.shape == (500, num_samples)
    assert positions.min() >= 0 and positions.max() < num_positions
    assert all(len(set(row)) == num_samples for row in positions)


@pytest.mark.parametrize("num_positions, num_samples", [(1, 5), (3, 16), (15, 16), (8, 16)])
def test_fewer_positions_than_draws_repeat_evenly(num_positions, num_samples):
    positions = draws(500, num_positions, num_samples)
    assert positions.shape == (500, num_samples)
    for row in positions:
        counts = np.bincount(row, minlength=num_positions)
        assert len(counts) == num_positions and counts.max() - counts.min() <= 1


@pytest.mark.parametrize("num_positions, num_samples", [(24, 6), (23, 6), (7, 5), (5, 4), (3, 5)])
def test_every_draw_is_uniform_over_all_positions(num_positions, num_samples):
    batch_size = 20_000
    positions = draws(batch_size, num_positions, num_samples)
    expected = batch_size / num_positions
    for column in positions.T:
        statistic = np.sum((np.bincount(column, minlength=num_positions) - expected) ** 2) / expected
        freedom = num_positions - 1  # mean of the chi-square, and half of its variance
        assert statistic < freedom + 6 * np.sqrt(2 * freedom)


def test_one_draw_falls_into_each_stratum():
    """Of 8 strata of 4 positions: neighbours are 1 to 7 positions apart, and all of these occur."""
    positions = np.sort(draws(500, 32, 8), axis=-1)
    gaps = np.diff(np.concatenate([positions, positions[:, :1] + 32], axis=-1))
    assert set(gaps.ravel()) == set(range(1, 8))


def test_images_and_calls_draw_apart():
    generator = SeedGenerator(1)
    first, second = (np.asarray(sample_positions(50, 1000, 8, generator)) for _ in range(2))
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 100


def test_equal_seeds_draw_alike():
    np.testing.assert_array_equal(draws(50, 1000, 8, seed=3), draws(50, 1000, 8, seed=3))
    assert not np.array_equal(draws(50, 1000, 8, seed=3), draws(50, 1000, 8, seed=4))


def test_sizes_may_be_tensors():
    batch_size, num_positions = ops.convert_to_tensor(50), ops.convert_to_tensor(1000)
    np.testing.assert_array_equal(draws(batch_size, num_positions, 8), draws(50, 1000, 8))


@pytest.mark.parametrize("pool_size", [1, 2, 3])
@pytest.mark.parametrize("spatial", [(7,), (4, 5), (4, 3, 6)], ids=["1d", "2d", "3d"])
def test_windows_hold_the_positions_that_pooling_joins(spatial, pool_size):
    grid = [size // pool_size for size in spatial]
    windows = np.arange(np.prod(grid), dtype=np.int32)[None]
    positions = np.asarray(window_positions(ops.convert_to_tensor(windows), grid, spatial, pool_size))
    assert positions.shape == (1, windows.size, pool_size ** len(spatial))
    for corner, found in zip(np.ndindex(*grid), positions[0]):
        members = [
            position
            for position, place in enumerate(np.ndindex(*spatial))
            if all(coordinate // pool_size == first for coordinate, first in zip(place, corner))
        ]
        assert sorted(found) == members


def test_a_map_narrower_than_a_window_is_one_window():
    positions = window_positions(ops.convert_to_tensor([[0, 1]]), (1, 2), (1, 4), 2)
    assert [set(window) for window in np.asarray(positions)[0]] == [{0, 1}, {2, 3}]


@pytest.mark.parametrize("num_samples", [1, 3, 7])
def test_windows_without_padding_are_drawn_uniformly(num_samples):
    valid = np.ones((2, 6, 8), bool)
    valid[0, 1, 2] = valid[0, 5, 7] = valid[1, :, 3:] = False
    grid, spatial, num_images = [3, 4], [6, 8], 4000
    allowed = [{0, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {0, 4, 8}]
    for image, windows in zip(valid, allowed):
        many = tensors(np.tile(image.ravel(), (num_images, 1)))
        drawn = np.asarray(sample_valid_windows(many, grid, spatial, 2, num_samples, SeedGenerator(1)))
        assert drawn.shape == (num_images, num_samples) and set(drawn.ravel()) == windows
        if num_samples <= len(windows):
            assert all(len(set(row)) == num_samples for row in drawn)
        shares = np.bincount(drawn.ravel(), minlength=12)[sorted(windows)] / drawn.size
        np.testing.assert_allclose(shares, 1 / len(windows), rtol=0, atol=0.03)


def test_windows_that_hold_more_than_padding_are_drawn_where_no_other_is():
    valid = np.zeros((3, 6), bool)
    valid[0, 1] = valid[0, 5] = valid[1, 2] = True
    drawn = np.asarray(sample_valid_windows(tensors(valid), [3], [6], 2, 8, SeedGenerator(1)))
    assert set(drawn[0]) == {0, 2} and set(drawn[1]) == {1}
    assert ((drawn[2] >= 0) & (drawn[2] < 3)).all()
