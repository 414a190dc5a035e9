"""Moments of soft regions and their normalisation (paper, Eq. 4 and 5), each in O(entities * positions * channels).

Values are float tensors `(batch, positions, channels)` and layouts `(batch, positions, entities)`. All is computed, and
returned, in the wider of float32 and the arguments' dtype.
"""

import math
from typing import Optional

from keras_an.backend import (
    Tensor,
    branch,
    compiles_for_cpu,
    custom_gradient,
    fuses_elementwise,
    ops,
    wide_dtype,
    widen,
)
from keras_an.ops.products import entity_products, mix, region_sums

# Where the squared mean of a region is so many times its variance, their difference errs by up to a few per cent.
DIGITS_LOST_AT = 2.0**12


def center(values: Tensor) -> Tensor:
    """Subtracts a mean of every channel, so that moments of features far from 0 lose no digits.

    Regional normalisation gives the same for any shift. The shift only has to lie among the values: it is the mean of
    64 positions, evenly spread.

    Args:
        values: float32 `(batch, positions, channels)`.

    Returns:
        The centred values, float32 `(batch, positions, channels)`.
    """
    (values,) = widen(values)
    return values - _spread_moments(values)[0]


def fill_padding(values: Tensor, valid: Tensor) -> Tensor:
    """Replaces padding by the mean of an image's valid positions, so that it costs no digits.

    Args:
        values: float32 `(batch, positions, channels)`.
        valid: boolean `(batch, positions, 1)`, False at padding.

    Returns:
        float32 `(batch, positions, channels)`; an image of padding alone becomes 0.
    """
    total = ops.sum(ops.where(valid, values, ops.zeros_like(values)), axis=1, keepdims=True)
    count = ops.sum(ops.cast(valid, values.dtype), axis=1, keepdims=True)
    return ops.where(valid, values, total / ops.clip(count, 1.0, math.inf))


def region_moments(values: Tensor, layout: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance of every region: `sum_p S v / sum_p S` and `sum_p S (v - mean)^2 / sum_p S`.

    The variance is accurate however far regions lie from each other and from 0.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`, at least 0.

    Returns:
        Mean and variance, float32 `(batch, entities, channels)`; a region without mass has both 0.
    """
    values, layout = widen(values, layout)
    mass = _region_mass(layout)
    mean = region_sums(values, layout) / mass
    return mean, _region_variance(values, None, layout, mass, mean, 1e-12)


def released_region_moments(
    values: Tensor, layout: Tensor, epsilon: float = 1e-7, num_positions: Optional[Tensor] = None
) -> tuple[Tensor, Tensor]:
    """The statistics of the authors' released TensorFlow layer, which differ from the paper's Eq. 4.

    The mean is `mean_p(S v) / (sum_p S + epsilon)`, which divides by the number of positions once too often. The
    deviation, of the product `S v`, is `sqrt(sum_p (S v - mean)^2 / (sum_p S + epsilon))`. Weights trained with that
    layer need them. They factorise as `sum_p (S v - mean)^2 = sum S^2 v^2 - 2 mean sum S v + positions * mean^2`.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`.
        epsilon: float, added to a region's mass. Defaults to 1e-7.
        num_positions: float32 `(batch, 1, 1)`, the number of positions that are not padding. None, the default, counts
            all.

    Returns:
        Mean and deviation, float32 `(batch, entities, channels)`.
    """
    values, layout = widen(values, layout)
    if num_positions is None:
        num_positions = ops.cast(ops.shape(values)[1], values.dtype)
    mass = ops.sum(layout, axis=1)[:, :, None] + epsilon  # (batch, entities, 1)
    values = ops.clip(values, -1e13, 1e13)  # beyond, squares and their sums over many positions are infinite
    total = region_sums(values, layout)
    mean = total / ops.clip(num_positions, 1.0, math.inf) / mass
    squares = region_sums(ops.square(values), ops.square(layout))
    deviation = (squares - 2.0 * mean * total + num_positions * ops.square(mean)) / mass
    # The root's gradient at 0 is infinite; a region of no deviation has none to give.
    return mean, ops.sqrt(ops.clip(deviation, 1e-24, math.inf))


def normalize_regions(values: Tensor, layout: Tensor, mean: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Normalises every region by its own moments: `sum_i S_i * ((v - mean_i) * scale_i + offset_i)` (paper, Eq. 5).

    It is computed as `v * (S scale) + S (offset - mean * scale)`: two products of inner size `entities`.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`.
        mean: float32 `(batch, entities, channels)`.
        scale: float32 `(batch, entities, channels)`, `beta / sqrt(variance + epsilon)`.
        offset: float32 `(entities, channels)`, the paper's alpha.

    Returns:
        float32 `(batch, positions, channels)`.
    """
    values, layout, mean, scale, offset = widen(values, layout, mean, scale, offset)
    return values * mix(layout, scale) + mix(layout, offset - mean * scale)


def regional_normalization(
    values: Tensor, layout: Tensor, beta: Tensor, alpha: Tensor, epsilon: float, is_centered: bool = False
) -> Tensor:
    """The paper's Eq. 4 and 5 in one: `sum_i S_i * ((v - mean_i) / sqrt(variance_i + epsilon) * beta_i + alpha_i)`.

    It is `normalize_regions` with the `region_moments` of the centred values. Its gradient is derived by hand: it
    passes over the values fewer times and keeps less than automatic differentiation. It may be differentiated again.

    In float32 the result errs by less than 0.02 for values of deviation 1 about their region's mean, up to 1e5 from 0,
    with regions up to 1e4 from each other. The rounding of inputs in half precision comes on top.

    Args:
        values: float32 `(batch, positions, channels)`. Where a layout is 0 in all regions, as at padding, their squares
            must be finite.
        layout: float32 `(batch, positions, entities)`, at least 0, of sum 1 or 0.
        beta: float32 `(entities, channels)`.
        alpha: float32 `(entities, channels)`.
        epsilon: positive float.
        is_centered: whether the values went through `center`, or are linear in such values. Defaults to False.

    Returns:
        float32 `(batch, positions, channels)`.
    """
    values, layout, beta, alpha = widen(values, layout, beta, alpha)
    # XLA subtracts within its loops, so that centred values need not be stored.
    in_loops = not is_centered and compiles_for_cpu(values)
    if not (is_centered or in_loops):
        values = center(values)

    def moments(values, layout, known_variance=None):
        """What to subtract from the values, and mass, mean and variance of every region of the rest."""
        mass = _region_mass(layout)
        if in_loops:
            shift, variance = _spread_moments(values)
            # Products are no loops; they take the values as they are unless those are so far from 0 that digits are
            # lost.
            is_near = ops.all(ops.square(shift) <= 16.0 * (variance + epsilon))
            sums = branch(
                is_near,
                lambda: region_sums(values, layout) - mass * shift,
                lambda: region_sums(values - shift, layout),
            )
        else:
            shift, sums = None, region_sums(values, layout)
        mean = sums / mass
        return shift, mass, mean, _region_variance(values, shift, layout, mass, mean, epsilon, known_variance)

    def square_products(centered, weights, are_finite):
        """`entity_products` of the squares."""
        if fuses_elementwise(centered):
            return entity_products(_bounded_squares(centered), weights)
        squares, largest = ops.square(centered), _largest(centered)
        return branch(
            are_finite,
            lambda: entity_products(squares, weights),
            lambda: entity_products(ops.clip(squares, 0.0, largest), weights),
        )

    def forward(values, layout, beta, alpha):
        shift, _, mean, variance = moments(values, layout)
        scale = beta * ops.rsqrt(variance + epsilon)
        return normalize_regions(_less(values, shift), layout, mean, scale, alpha), variance

    def backward(values, layout, beta, alpha, upstream, variance):
        # XLA has once what is computed again; a graph too, but for what hangs on a conditional: that is handed over.
        shift, mass, mean, variance = moments(values, layout, None if fuses_elementwise(values) else variance)
        centered = _less(values, shift)
        inverse = ops.rsqrt(variance + epsilon)
        scale = beta * inverse
        # What the output owes to each region's offset and scale, (batch, entities, channels).
        by_offset = region_sums(upstream, layout)
        weighted = upstream * centered
        by_scale = region_sums(weighted, layout) - mean * by_offset
        # Through variance and mean: every value of region i adds `(slope_i * v + level_i) * S_i` to its gradient.
        slope = -by_scale * scale * ops.square(inverse) / mass
        by_mean = -by_offset * scale / mass
        level = by_mean - slope * mean
        values_gradient = (
            upstream * mix(layout, scale) + centered * mix(layout, slope) + mix(layout, level)
        )  # (batch, positions, channels)
        # A position's shares of all regions add up to 1: this is the sum of all squares.
        are_finite = ops.sum(mass * (variance + ops.square(mean))) < _largest(values)
        constant = ops.sum(
            0.5 * (slope * mean * mean - slope * variance) - by_mean * mean, axis=-1
        )  # (batch, entities)
        layout_gradient = (
            entity_products(weighted, scale)
            + entity_products(upstream, alpha - mean * scale)
            + entity_products(values, level, shift)
            + square_products(centered, 0.5 * slope, are_finite)
            + constant[:, None]
        )  # (batch, positions, entities)
        return values_gradient, layout_gradient, ops.sum(by_scale * inverse, axis=0), ops.sum(by_offset, axis=0)

    return custom_gradient(forward, backward, keeps=True)(values, layout, beta, alpha)


def _spread_moments(values, num_positions=64):
    """Mean and variance of every channel over some positions: `(batch, 1, channels)` each."""
    if values.shape[1] == 0:
        zeros = ops.zeros((ops.shape(values)[0], 1, values.shape[-1]), dtype=values.dtype)
        return zeros, zeros
    spread = ops.arange(num_positions, dtype="int32") * ops.shape(values)[1] // num_positions
    some = ops.stop_gradient(ops.take(values, spread, axis=1))
    mean = ops.sum(some, axis=1, keepdims=True) / num_positions
    return mean, ops.sum(ops.square(some - mean), axis=1, keepdims=True) / num_positions


def _less(values, shift):
    return values if shift is None else values - shift


def _region_mass(layout):
    return ops.clip(ops.sum(layout, axis=1), 1e-12, math.inf)[:, :, None]  # (batch, entities, 1)


def _region_variance(values, shift, layout, mass, mean, epsilon, known=None):
    """`sum_p S (v - shift - mean)^2 / sum_p S`: `(batch, entities, channels)`; or what is `known`, with its derivative.

    `E[v^2] - mean^2` is one product. It loses digits, or overflows, where a region's mean is large beside its
    deviation, as where regions lie far from each other: there the squares are taken anew about the mean of each region
    in turn.
    """
    # In a program that XLA compiles, the gradient's squares are the same ones, made once.
    squares = (_bounded_squares if fuses_elementwise(values) else ops.square)(_less(values, shift))
    variance = region_sums(squares, layout) / mass - ops.square(mean)
    variance = ops.clip(variance, 0.0, _largest(values))
    if known is not None:
        variance = ops.where(variance == variance, variance, ops.zeros_like(variance))  # squares may be infinite
        return variance + ops.stop_gradient(known - variance)
    # A region of next to no mass counts as little in the output. What is not a number is not below the limit either.
    limit = DIGITS_LOST_AT * (variance + epsilon)
    holds = ops.all(ops.square(mean) * ops.clip(mass, 0.0, 1.0) <= limit)

    def about_each_mean():
        centered = _less(values, shift)
        squares = [
            region_sums(_bounded_squares(centered - mean[:, i : i + 1]), layout[:, :, i : i + 1])
            for i in range(layout.shape[-1])
        ]
        return ops.concatenate(squares, axis=1) / mass

    return branch(holds, lambda: variance, about_each_mean)


def _bounded_squares(values):
    """At most what may still be added up over many positions, where the squares themselves are infinite."""
    return ops.clip(ops.square(values), 0.0, _largest(values))


def _largest(values):
    return 1e30 if wide_dtype(values.dtype) == "float32" else 1e300
