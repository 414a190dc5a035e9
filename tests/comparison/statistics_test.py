"""Intervals against SciPy's own paired test, and curves at steps and seconds."""

import numpy as np
import pytest
from scipy import stats

from trainers.comparison import statistics


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_interval_is_that_of_scipy(count):
    random = np.random.default_rng(count)
    first, second = random.normal(3.0, 1.0, count), random.normal(1.0, 1.0, count)
    found = statistics.paired_difference(dict(enumerate(first)), dict(enumerate(second)))
    expected = stats.ttest_rel(first, second)
    low, high = expected.confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.is_clear == (expected.pvalue < 0.05)


def test_seeds_that_one_lacks_are_left_out():
    found = statistics.paired_difference({1: 5.0, 2: 7.0, 3: 100.0}, {2: 4.0, 1: 1.0, 4: -100.0})
    assert found.seeds == (1, 2) and found.mean == 3.5
    assert statistics.paired_difference({1: 5.0}, {2: 4.0}) is None


def test_one_seed_has_no_interval_and_claims_nothing():
    found = statistics.paired_difference({1: 5.0}, {1: 1.0})
    assert (found.mean, found.low, found.is_clear) == (4.0, None, False)
    assert statistics.summary([2.0]).deviation is None
    assert statistics.summary([2.0, 4.0]) == statistics.Summary(3.0, pytest.approx(2.0**0.5), 2)


def test_curves_are_read_at_steps_and_between_seconds():
    curve = [{"step": 10, "seconds": 5.0, "a": 1.0}, {"step": 20, "seconds": 10.0, "a": 3.0}, {"step": 30, "b": 0.0}]
    assert statistics.at_step(curve, "a", 20) == 3.0 and statistics.at_step(curve, "a", 30) is None
    assert statistics.at_seconds(curve, "a", 7.5) == 2.0
    assert statistics.at_seconds(curve, "a", 4.9) is None and statistics.at_seconds(curve, "a", 10.1) is None
