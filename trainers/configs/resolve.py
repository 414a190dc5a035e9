"""Resolves a run's configuration: experiment < config files < override, as in Model Garden."""

import dataclasses

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainers.configs import schema
from trainers.configs.checking import check_addons, check_choice, checked
from trainers.configs.experiments import EXPERIMENTS
from trainers.configs.explaining import ConfigError, nearest
from trainers.configs.reading import merge, merge_pairs, pairs_of, read_yaml

PARAMS_FILE = "params.yaml"  # of a run's folder


def resolve(experiment, config_files=(), params_override=()):
    """The configuration of a run.

    Args:
        experiment: a name in `EXPERIMENTS`.
        config_files: paths of YAML files, each over the ones before.
        params_override: `"a.b=1,c.d=x"`, or a list of such, over all files.

    Returns:
        `schema.ExperimentConfig` or `schema.InpaintingConfig`, checked.

    Raises:
        ConfigError: for an unknown experiment or key, a key given twice, a value of another type or out of range, an
            unreadable file.
    """
    if experiment not in EXPERIMENTS:
        raise ConfigError(
            f"--experiment must be one of {sorted(EXPERIMENTS)}.{nearest(experiment, EXPERIMENTS)} "
            f"Received: {experiment!r}"
        )
    params = OmegaConf.structured(EXPERIMENTS[experiment]())
    params.experiment = experiment
    for path in config_files:
        merge(params, lambda path=path: read_yaml(path), f"config file {path}")
    merge_pairs(params, split(params_override), "--params_override=")
    params = checked(_object(params))
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
    params = OmegaConf.structured(schema.APPLICATIONS[application]())
    merge(params, lambda: content, f"file {path}")
    merge_pairs(params, overrides)
    return checked(_object(params))


def split(params_override):
    """The `key=value` pairs of `"a.b=1,c.d=x"`, or of a list of such."""
    texts = [params_override] if isinstance(params_override, str) else params_override
    return [pair for text in texts if text for pair in pairs_of(text)]


def _object(params):
    try:
        return OmegaConf.to_object(params)
    except OmegaConfBaseException as error:  # `${...}` that leads nowhere, or `???`
        raise ConfigError(f"`{error.full_key}` has no value: {str(error).splitlines()[0]}") from error


def dump(params):
    """The configuration as YAML text, in the order of the dataclasses."""
    return yaml.safe_dump(dataclasses.asdict(params), sort_keys=False)
