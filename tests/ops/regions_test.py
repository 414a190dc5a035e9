"""Moments and normalisation of regions against float64 loops."""

import numpy as np
import pytest

from keras_an.backend import ops
from keras_an.ops import (
    center,
    fill_padding,
    normalize_regions,
    region_moments,
    regional_normalization,
    released_region_moments,
)
from layer_test_case import array, compiled, differentiate, dtype_of, gradients, tensors

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
    mean, variance = region_moments(tensors(values), tensors(layout))
    np.testing.assert_allclose(mean, each_region(values, layout, mean_of), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, each_region(values, layout, variance_of), rtol=1e-4, atol=1e-6)


def test_moments_of_hard_regions_are_those_of_their_positions(values):
    owner = np.arange(POSITIONS) % ENTITIES
    layout = np.tile(np.eye(ENTITIES, dtype=np.float32)[owner], (BATCH, 1, 1))
    mean, variance = region_moments(tensors(values), tensors(layout))
    for entity in range(ENTITIES):
        region = values[:, owner == entity]
        np.testing.assert_allclose(mean[:, entity], region.mean(1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(variance[:, entity], region.var(1), rtol=1e-4, atol=1e-6)


def test_hard_regions_are_instance_normalized_alone(values):
    owner = np.random.default_rng(2).permutation(POSITIONS) % ENTITIES
    layout = tensors(np.tile(np.eye(ENTITIES, dtype=np.float32)[owner], (BATCH, 1, 1)))
    one, zero = np.ones((ENTITIES, CHANNELS), np.float32), np.zeros((ENTITIES, CHANNELS), np.float32)
    outputs = np.asarray(regional_normalization(tensors(values), layout, *tensors([one, zero]), 1e-5))
    for entity in range(ENTITIES):
        region = values[:, owner == entity].astype(np.float64)
        expected = (region - region.mean(1, keepdims=True)) / np.sqrt(region.var(1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(outputs[:, owner == entity], expected, rtol=1e-4, atol=1e-5)


def test_a_region_without_mass_has_no_moments(values, layout):
    layout[..., 1] = 0.0
    mean, variance = region_moments(tensors(values), tensors(layout))
    assert (np.asarray(mean)[:, 1] == 0).all() and (np.asarray(variance)[:, 1] == 0).all()
    assert np.isfinite(mean).all() and np.isfinite(variance).all()


def test_variance_of_a_constant_is_zero_and_never_negative(layout):
    constant = np.full((BATCH, POSITIONS, CHANNELS), 0.3, np.float32)
    _, variance = region_moments(tensors(constant), tensors(layout))
    assert np.asarray(variance).min() >= 0
    np.testing.assert_allclose(variance, 0.0, atol=1e-6)


def test_released_moments_are_those_of_the_product(values, layout):
    def released_mean(v, s):
        return np.mean(s * v, axis=0) / (sum(s) + 1e-7)

    def released_deviation(v, s):
        return np.sqrt(sum((s * v - released_mean(v, s)) ** 2) / (sum(s) + 1e-7))

    mean, deviation = released_region_moments(tensors(values), tensors(layout))
    np.testing.assert_allclose(mean, each_region(values, layout, released_mean), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(deviation, each_region(values, layout, released_deviation), rtol=1e-4, atol=1e-6)


def test_released_moments_count_the_positions_that_are_told(values, layout):
    layout[:, 7:] = 0.0
    expected = released_region_moments(tensors(values[:, :7]), tensors(layout[:, :7]))
    num_positions = tensors(np.full((BATCH, 1, 1), 7, np.float32))
    found = released_region_moments(tensors(values), tensors(layout), num_positions=num_positions)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_padding_is_filled_with_the_mean_of_the_rest(values):
    valid = np.random.default_rng(2).uniform(size=(BATCH, POSITIONS, 1)) > 0.4
    valid[1] = False
    mean = values[0][valid[0, :, 0]].mean(axis=0)
    expected = np.stack([np.where(valid[0], values[0], mean), np.zeros_like(values[1])])
    values = np.where(valid, values, np.float32("nan"))
    np.testing.assert_allclose(fill_padding(tensors(values), tensors(valid)), expected, rtol=1e-5, atol=1e-6)


def test_released_moments_of_zeros_have_finite_gradients(layout):
    zeros = np.zeros((BATCH, POSITIONS, CHANNELS), np.float32)
    (gradient,) = gradients(lambda values: ops.sum(released_region_moments(values, tensors(layout))[1]), [zeros], [])
    np.testing.assert_array_equal(gradient, zeros)


def test_normalization_sums_over_regions(values, layout):
    rng = np.random.default_rng(3)
    mean, scale = rng.normal(size=(2, BATCH, ENTITIES, CHANNELS)).astype(np.float32)
    offset = rng.normal(size=(ENTITIES, CHANNELS)).astype(np.float32)
    expected = np.zeros_like(values, np.float64)
    for image, position, entity in np.ndindex(BATCH, POSITIONS, ENTITIES):
        region = (values[image, position] - mean[image, entity]) * scale[image, entity]
        expected[image, position] += layout[image, position, entity] * (region + offset[entity])
    outputs = normalize_regions(*tensors([values, layout, mean, scale, offset]))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def automatic(values, layout, beta, alpha, epsilon):
    """`regional_normalization` without a gradient of its own."""
    mean, variance = region_moments(values, layout)
    return normalize_regions(values, layout, mean, beta * ops.rsqrt(variance + epsilon), alpha)


@pytest.fixture
def arguments(values, layout):
    rng = np.random.default_rng(4)
    beta, alpha = rng.normal(size=(2, ENTITIES, CHANNELS)).astype(np.float32)
    return [values, layout, beta, alpha]


@pytest.mark.parametrize("jit", [False, True])
def test_gradient_by_hand_is_the_automatic_one(arguments, jit):
    weighting = np.random.default_rng(5).normal(size=arguments[0].shape).astype(np.float32)

    def loss_of(function):
        return lambda *tensors_: ops.sum(function(*tensors_, 1e-3) * tensors(weighting))

    found = gradients(loss_of(regional_normalization), arguments, [], jit=jit)
    for ours, expected in zip(found, gradients(loss_of(automatic), arguments, [], jit=jit)):
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_gradient_by_hand_may_be_differentiated_again(arguments, jit):
    """As a gradient penalty does: of the squared gradient in the values."""
    found = gradients(penalty_of(regional_normalization), arguments, [], jit=jit)
    for ours, expected in zip(found, gradients(penalty_of(automatic), arguments, [], jit=jit)):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("mean, deviation", [(1000.0, 1.0), (3.0, 1.0), (0.0, 0.0), (-5.0, 0.0)])
@pytest.mark.parametrize("positions", [37, 4096])
def test_values_far_from_zero_lose_no_digits(positions, mean, deviation, jit):
    rng = np.random.default_rng(7)
    values = rng.normal(mean, deviation, size=(BATCH, positions, CHANNELS)).astype(np.float32)
    layout = rng.dirichlet([0.3] * ENTITIES, size=(BATCH, positions)).astype(np.float32)
    one, zero = np.ones((ENTITIES, CHANNELS), np.float32), np.zeros((ENTITIES, CHANNELS), np.float32)
    centers = each_region(values, layout, mean_of)
    variances = each_region(values, layout, variance_of)
    expected = sum(
        layout[:, :, [i]] * (values - centers[:, [i]]) / np.sqrt(variances[:, [i]] + 1e-5) for i in range(ENTITIES)
    )

    def call(values, layout):
        return regional_normalization(values, layout, *tensors([one, zero]), 1e-5)

    found = (compiled(call) if jit else call)(*tensors([values, layout]))
    np.testing.assert_allclose(found, expected, atol=5e-5)


def penalty_of(function):
    return lambda *tensors_: ops.sum(
        ops.square(
            differentiate(lambda values: ops.sum(ops.square(function(values, *tensors_[1:], 1e-2))), tensors_[0])
        )
    )


def test_centered_values_lie_about_zero_and_keep_their_differences():
    values = np.random.default_rng(6).normal(1000.0, 1.0, size=(2, 1000, 3)).astype(np.float32)
    centered = np.asarray(center(tensors(values)))
    np.testing.assert_array_less(np.abs(centered.mean(axis=1)), 0.5)
    np.testing.assert_allclose(np.diff(centered, axis=1), np.diff(values, axis=1), atol=1e-4)


@pytest.mark.parametrize("positions", [1, 3, 64, 65])
def test_centering_takes_any_number_of_positions(positions):
    values = np.full((2, positions, 3), 7.0, np.float32)
    np.testing.assert_array_equal(center(tensors(values)), np.zeros_like(values))


# Regions far from each other, and from 0.

DEVIATION_LIMIT = 0.02  # of an output of deviation 1


def far_regions(distance, offset=0.0, positions=512, softness=0.0):
    """Values of deviation 1 about the region's own mean, `distance` above or below the offset, and a layout."""
    rng = np.random.default_rng(8)
    owner = np.arange(positions) % ENTITIES
    means = offset + distance * np.linspace(-1, 1, ENTITIES)[owner]
    values = rng.normal(size=(BATCH, positions, CHANNELS)) + means[:, None]
    layout = np.tile((1 - softness) * np.eye(ENTITIES)[owner] + softness / ENTITIES, (BATCH, 1, 1))
    return values.astype(np.float32), layout.astype(np.float32)


def expected_output(values, layout):
    centers, variances = each_region(values, layout, mean_of), each_region(values, layout, variance_of)
    return sum(
        layout[:, :, [i]] * (values - centers[:, [i]]) / np.sqrt(variances[:, [i]] + 1e-5) for i in range(ENTITIES)
    )


def plain_normalization(values, layout):
    one, zero = np.ones((ENTITIES, CHANNELS), np.float32), np.zeros((ENTITIES, CHANNELS), np.float32)
    return regional_normalization(values, layout, *tensors([one, zero]), 1e-5)


@pytest.mark.parametrize("softness, jit", [(0.0, True), (1e-6, False), (1e-6, True), (1e-2, False)])
@pytest.mark.parametrize("distance", [0.0, 20.0, 300.0, 10000.0])
def test_regions_far_from_each_other_keep_their_deviations(distance, softness, jit):
    values, layout = far_regions(distance, softness=softness)
    found = (compiled(plain_normalization) if jit else plain_normalization)(*tensors([values, layout]))
    np.testing.assert_allclose(found, expected_output(values, layout), rtol=0, atol=DEVIATION_LIMIT)
    mean, variance = region_moments(*tensors([values, layout]))
    np.testing.assert_allclose(mean, each_region(values, layout, mean_of), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(variance, each_region(values, layout, variance_of), rtol=DEVIATION_LIMIT)


@pytest.mark.parametrize("offset, distance", [(1e5, 0.0), (1e5, 3000.0), (-1e4, 300.0)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_documented_accuracy_holds_in_every_dtype(dtype, offset, distance):
    """Of the values as that dtype has rounded them, whose steps are far larger than a deviation of 1 in the halves."""
    step = {"float32": 1.0, "bfloat16": 2.0**-8, "float16": 2.0**-4}[dtype]  # 1e5 is beyond float16
    values, layout = far_regions(distance * step, offset * step)
    values = ops.cast(tensors(values), dtype)
    rounded = np.asarray(array(ops.cast(values, "float32")))
    found = plain_normalization(values, tensors(layout))
    assert dtype_of(found) == "float32"
    np.testing.assert_allclose(found, expected_output(rounded, layout), rtol=0, atol=DEVIATION_LIMIT)


def explicit(values, layout, beta, alpha, epsilon):
    """The equations with a tensor of (batch, positions, entities, channels), and automatic gradients."""
    shares = layout[:, :, :, None]
    mass = ops.sum(shares, axis=1, keepdims=True)
    centered = values[:, :, None] - ops.sum(shares * values[:, :, None], axis=1, keepdims=True) / mass
    variance = ops.sum(shares * ops.square(centered), axis=1, keepdims=True) / mass
    return ops.sum(shares * (centered * ops.rsqrt(variance + epsilon) * beta + alpha), axis=2)


@pytest.mark.parametrize("jit", [False, True])
def test_gradients_of_far_regions_are_the_automatic_ones(jit):
    rng = np.random.default_rng(9)
    values, layout = far_regions(300.0, positions=48, softness=1e-6)
    beta, alpha = rng.normal(size=(2, ENTITIES, CHANNELS)).astype(np.float32)
    weighting = tensors(rng.normal(size=values.shape).astype(np.float32))

    def loss_of(function):
        return lambda *arguments: ops.sum(function(*arguments, 1e-3) * weighting)

    arguments = [values, layout, beta, alpha]
    found = gradients(loss_of(regional_normalization), arguments, [], jit=jit)
    for ours, expected in zip(found, gradients(loss_of(explicit), arguments, [], jit=jit)):
        np.testing.assert_allclose(ours, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("jit", [False, True])
def test_one_infinite_square_in_an_ordinary_map_leaves_gradients_finite(arguments, jit):
    values, layout, beta, alpha = (np.array(argument) for argument in arguments)
    values[0, 3, 1] = 1e20
    weighting = tensors(np.random.default_rng(4).normal(size=values.shape).astype(np.float32))
    found = gradients(
        lambda *arguments: ops.sum(regional_normalization(*arguments, 1e-3) * weighting),
        [values, layout, beta, alpha],
        [],
        jit=jit,
    )
    assert all(np.isfinite(gradient).all() for gradient in found) and np.abs(found[1]).max() > 0
