"""Means over seeds, and differences between arms with their intervals."""

import dataclasses
import math
from typing import Optional

import numpy as np
from scipy import special

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and standard deviation over seeds; the latter is None for one seed."""

    mean: float
    deviation: Optional[float]
    count: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mean difference over common seeds with the ends of its interval, None for one seed."""

    mean: float
    low: Optional[float]
    high: Optional[float]
    seeds: tuple

    @property
    def is_clear(self):
        """Whether the interval leaves 0 out."""
        return self.low is not None and (self.low > 0.0 or self.high < 0.0)


def summary(values):
    """`Summary` of a sequence of floats, at least one."""
    values = np.asarray(values, np.float64)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(float(np.mean(values)), deviation, len(values))


def paired_difference(values, others):
    """`values` minus `others`, seed by seed, with the interval of Student's t for paired samples.

    Args:
        values: floats by seed.
        others: floats by seed; seeds that one of both lacks are left out.

    Returns:
        `Difference`, or None without a common seed.
    """
    seeds = tuple(sorted(set(values) & set(others)))
    if not seeds:
        return None
    differences = summary([values[seed] - others[seed] for seed in seeds])
    if differences.count == 1:
        return Difference(differences.mean, None, None, seeds)
    quantile = float(special.stdtrit(differences.count - 1, 0.5 + CONFIDENCE / 2))
    half = quantile * differences.deviation / math.sqrt(differences.count)
    return Difference(differences.mean, differences.mean - half, differences.mean + half, seeds)


def at_step(curve, name, step):
    """The score of a name at a step of a curve, a list of points by name, or None."""
    return next((point[name] for point in curve if point["step"] == step and name in point), None)


def at_seconds(curve, name, seconds):
    """The score at a time of training, in a line between the evaluations around it, or None outside of them."""
    points = [(point["seconds"], point[name]) for point in curve if name in point]
    times, values = zip(*points) if points else ((), ())
    if not times or not times[0] <= seconds <= times[-1]:
        return None
    return float(np.interp(seconds, times, values))
