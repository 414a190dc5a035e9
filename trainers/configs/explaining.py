"""What is wrong with a configuration, in words: the key, the nearest valid one, the type wanted."""

import dataclasses
import difflib
import re
import typing


class ConfigError(ValueError):
    """The configuration breaks a rule that the message names."""


def keys_of(config, prefix=""):
    keys = {}
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        keys[key] = field.type
        if dataclasses.is_dataclass(value):
            keys.update(keys_of(value, f"{key}."))
    return keys


def type_name(config, key):
    kind = keys_of(config).get(re.sub(r"\[.*", "", key))
    if kind is None:
        return "another type"
    is_class = isinstance(kind, type) and not typing.get_origin(kind)  # `list[int]` is a type on Python 3.9 and 3.10
    return f"of type {kind.__name__ if is_class else kind}"


def nearest(name, valid):
    if not isinstance(name, str):
        return ""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" Did you mean `{matches[0]}`?" if matches else ""
