"""Checks of constructor arguments: each names the rule and the value received."""

import numbers


def check_positive_integer(name, value):
    """Raises ValueError unless `value` is an integer of at least 1, NumPy's too, and returns it as Python's."""
    if not is_integer(value) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return int(value)


def is_integer(value):
    """Whether `value` is an integer of Python or NumPy."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def are_equal_where_known(sizes, others):
    """Whether sizes equal others, in turn, wherever neither is None."""
    return all(None in pair or pair[0] == pair[1] for pair in zip(sizes, others))


def check_positive(name, value):
    """Raises ValueError unless `value` is above 0."""
    if not value > 0:
        raise ValueError(f"`{name}` must be positive. Received: {name}={value!r}")


def check_one_of(name, value, choices):
    """Raises ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
