"""Reads settings from YAML files and from `key=value` pairs, and merges them with OmegaConf.

OmegaConf checks types against the dataclasses of `schema`; its complaints become errors that name the key and the file
or flag at fault. Nothing is made of a value before its field is known: `007` and `2024-01-31` are text for a string,
and `010` is ten for a number.
"""

import dataclasses
import re
import typing

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from trainers.configs.explaining import ConfigError, keys_of, nearest, type_name

_NULL, _MERGE, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "merge", "float"))
_BRACKETS = {"[": "]", "{": "}"}
_NO_TEXT = r"|~|null|[-+]?\.(inf|nan)"


class _Loader(yaml.SafeLoader):
    """YAML that leaves scalars as text for OmegaConf to convert, and takes no key twice."""

    def construct_mapping(self, node, deep=False):
        lines = {}
        for key, _ in node.value:
            if key.tag != _MERGE and key.value in lines:
                raise yaml.YAMLError(
                    f"`{key.value}` stands twice in one group, in lines {lines[key.value]} and "
                    f"{key.start_mark.line + 1}. Write it once."
                )
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


_INFINITE = re.compile(r"[-+]?\.(inf|nan)$", re.IGNORECASE)  # which Python spells without the dot
_Loader.yaml_implicit_resolvers = {
    first: [
        *((tag, pattern) for tag, pattern in resolvers if tag in (_NULL, _MERGE)),
        *([(_FLOAT, _INFINITE)] if first and first in "-+." else []),
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path):
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, Loader=_Loader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} must be text in UTF-8. Received other bytes: {error.reason}") from error
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read the configuration in {path}: {error}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values. Received: {type(content).__name__}")
    return content or {}


def pairs_of(text):
    """The texts between the commas of `a.b=1,c.d=x`. Commas in quotes and brackets belong to a value.

    Raises:
        ConfigError: where a quote or a bracket is not closed.
    """
    pairs, closing, start, at_value = [], [], 0, False
    for index, letter in enumerate(text):
        if closing and closing[-1] in "'\"":
            closing = closing[:-1] if letter == closing[-1] else closing
        elif letter in "'\"" and at_value:  # elsewhere it is an apostrophe
            closing.append(letter)
        elif letter in _BRACKETS:
            closing.append(_BRACKETS[letter])
        elif closing and letter == closing[-1]:
            closing.pop()
        elif letter == "," and not closing:
            pairs.append(text[start:index].strip())
            start = index + 1
        at_value = letter in "=[{,:" or (at_value and letter == " ")
    if closing:
        raise ConfigError(
            f"A value has no closing {closing[-1]} in --params_override={text}. Write a text with brackets, commas or "
            "quotes in quotes."
        )
    return [*pairs, text[start:].strip()]


def merge_pairs(params, pairs, prefix=""):
    """Merges `key=value` texts into `params`; `prefix` stands before them in errors."""
    kinds, seen = keys_of(OmegaConf.get_type(params)()), {}
    for pair in pairs:
        key, equals, _ = pair.partition("=")
        key = key.strip()
        if not key or not equals:
            raise ConfigError(f"--params_override takes key=value pairs with commas between. Received: {pair!r}")
        if key in seen:
            raise ConfigError(f"`{key}` is given twice, as {seen[key]} and as {pair}. Give it once.")
        seen[key] = pair
        merge(params, lambda pair=pair: _from_pair(kinds, pair), f"{prefix}{pair}")


def merge(params, read, source):
    """Merges what `read` gives into `params`; `source` names it in errors."""
    config = OmegaConf.get_type(params)()
    try:
        content = read()
        _check_keys(config, content, source)
        params.merge_with(content)
    except ConfigKeyError as error:
        valid = keys_of(config)
        raise ConfigError(f"Unknown key `{error.full_key}` in {source}.{nearest(error.full_key, valid)}") from error
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        key = getattr(error, "full_key", None)
        wanted = f"`{key}` must be {type_name(config, key)}. " if key else ""
        raise ConfigError(f"{wanted}{str(error).splitlines()[0]} (in {source})") from error


def _from_pair(kinds, pair):
    """The nested mapping that `a.b=value` means. A key that is not in the schema is left for `merge` to find."""
    key, value = (part.strip() for part in pair.split("=", 1))
    is_indexed = re.fullmatch(r"([\w.]+)\[.*\]", key)
    if is_indexed:
        raise ConfigError(f"`{key}` is an element of a list, which is given whole: {is_indexed[1]}=[...]")
    kind = kinds.get(key)
    is_text = str in (kind, *typing.get_args(kind)) and typing.get_origin(kind) is not list
    closing = {"'": "'", '"': '"', **({} if is_text else _BRACKETS)}.get(value[:1])
    if closing and (len(value) < 2 or value[-1] != closing):
        raise ConfigError(f"The value must end with {closing}, as it begins. Received: {pair!r}")
    if closing or (kind is not str and re.fullmatch(_NO_TEXT, value, re.IGNORECASE)):
        value = yaml.load(value, Loader=_Loader)
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _check_keys(config, content, source):
    """What OmegaConf lets pass or does not name: dotted keys, a value in place of a group, a list in a list."""
    valid = keys_of(config)
    for key, value, name in _items(content):
        if "." in str(name):
            raise ConfigError(
                f"`{name}` in {source} has a dot: groups of a file are nested, as in `trainer: {{train_steps: 5}}`."
            )
        if dataclasses.is_dataclass(valid.get(key)) and not isinstance(value, dict):
            raise ConfigError(f"`{key}` must be a group of keys. Received: {value!r} (in {source})")
        if isinstance(value, list) and any(isinstance(element, (list, dict)) for element in value):
            raise ConfigError(f"`{key}` must be {type_name(config, key)}. Received: {value!r} (in {source})")


def _items(content, prefix=""):
    """Full key, value and last part of the key, of everything in a nested mapping."""
    for name, value in content.items():
        yield f"{prefix}{name}", value, name
        if isinstance(value, dict):
            yield from _items(value, f"{prefix}{name}.")
