"""Checks of constructor arguments: each names the rule and the value received."""


def check_positive_integer(name, value):
    """Raises ValueError unless `value` is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")


def check_positive(name, value):
    """Raises ValueError unless `value` is above 0."""
    if not value > 0:
        raise ValueError(f"`{name}` must be positive. Received: {name}={value!r}")


def check_one_of(name, value, choices):
    """Raises ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
