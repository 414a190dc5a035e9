"""Resolves a run's configuration: experiment < config files < override, as in Model Garden."""

import dataclasses
import re

import yaml
from omegaconf import OmegaConf

from trainers.configs import schema
from trainers.configs.checking import check_addons, check_choice, checked
from trainers.configs.experiments import EXPERIMENTS
from trainers.configs.explaining import ConfigError, nearest
from trainers.configs.reading import from_pair, merge, read_yaml


def resolve(experiment, config_files=(), params_override=""):
    """The configuration of a run.

    Args:
        experiment: a name in `EXPERIMENTS`.
        config_files: paths of YAML files, each over the ones before.
        params_override: `"a.b=1,c.d=x"`, over all files.

    Returns:
        `schema.ExperimentConfig` or `schema.InpaintingConfig`, checked.

    Raises:
        ConfigError: for an unknown experiment or key, a value of another type or out of range, an unreadable file.
    """
    if experiment not in EXPERIMENTS:
        raise ConfigError(
            f"--experiment must be one of {sorted(EXPERIMENTS)}.{nearest(experiment, EXPERIMENTS)} "
            f"Received: {experiment!r}"
        )
    params = OmegaConf.structured(EXPERIMENTS[experiment]())
    params.experiment = experiment
    for path in config_files:
        params = merge(params, lambda path=path: read_yaml(path), f"config file {path}")
    # Commas inside brackets belong to a list.
    for pair in re.split(r",(?![^\[{]*[\]}])", params_override) if params_override else ():
        if not pair.partition("=")[0] or "=" not in pair:
            raise ConfigError(f"--params_override takes key=value pairs with commas between. Received: {pair!r}")
        params = merge(params, lambda pair=pair: from_pair(pair), f"--params_override={pair}")
    params = checked(OmegaConf.to_object(params))
    check_addons(params.trainer)
    return params


def load_params(path, overrides=()):
    """Reads the `params.yaml` of a run.

    Args:
        path: of the file.
        overrides: strings `key=value` over it.

    Raises:
        ConfigError: where the file is missing, or is no configuration of this version, or an override does not fit.
    """
    content = read_yaml(path)
    # Runs of before there was more than one application do not name it.
    application = content.get("application", "gan")
    check_choice("application", application, tuple(schema.APPLICATIONS))
    params = merge(OmegaConf.structured(schema.APPLICATIONS[application]()), lambda: content, f"file {path}")
    for pair in overrides:
        params = merge(params, lambda pair=pair: from_pair(pair), pair)
    return checked(OmegaConf.to_object(params))


def dump(params):
    """The configuration as YAML text, in the order of the dataclasses."""
    return yaml.safe_dump(dataclasses.asdict(params), sort_keys=False)


def nested_differences(old, new, prefix=""):
    """Lines `key: old -> new` for every value that differs between two configurations."""
    if not dataclasses.is_dataclass(old):
        return [] if old == new else [f"{prefix}: {old!r} -> {new!r}"]
    lines = []
    for field in dataclasses.fields(old):
        key = f"{prefix}.{field.name}" if prefix else field.name
        lines += nested_differences(getattr(old, field.name), getattr(new, field.name), key)
    return lines
