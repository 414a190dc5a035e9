"""Reads settings from YAML files and from `key=value` pairs, and merges them with OmegaConf.

OmegaConf checks types against the dataclasses of `schema`; its complaints become errors that name the key and the file
or flag at fault.
"""

import dataclasses

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from trainers.configs.explaining import ConfigError, keys_of, nearest, type_name


class _Loader(yaml.SafeLoader):
    """YAML whose booleans are `true` and `false` alone: `off` is a distribution strategy."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def from_pair(pair):
    key, value = pair.split("=", 1)
    config = OmegaConf.create()
    OmegaConf.update(config, key, yaml.load(value, Loader=_Loader))
    return config


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
    return OmegaConf.create(content or {})


def merge(params, read, source):
    config = OmegaConf.get_type(params)()
    try:
        content = read()
        _check_groups(config, content, source)
        return OmegaConf.merge(params, content)
    except ConfigKeyError as error:
        valid = keys_of(config)
        raise ConfigError(f"Unknown key `{error.full_key}` in {source}.{nearest(error.full_key, valid)}") from error
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        key = getattr(error, "full_key", None)
        wanted = f"`{key}` must be {type_name(config, key)}. " if key else ""
        raise ConfigError(f"{wanted}{str(error).splitlines()[0]} (in {source})") from error


def _check_groups(config, content, source):
    """OmegaConf does not name the key where a group is given a value of its own."""
    for key, kind in keys_of(config).items():
        value = OmegaConf.select(content, key) if dataclasses.is_dataclass(kind) else None
        if value is not None and not OmegaConf.is_dict(value):
            raise ConfigError(f"`{key}` must be a group of keys. Received: {value!r} (in {source})")
