"""Configurations: dataclasses, the named experiments, and how a run's configuration is resolved."""

from trainers.configs.checking import OPTIMIZERS, checked
from trainers.configs.explaining import ConfigError
from trainers.configs.resolve import dump, load_params, nested_differences, resolve
from trainers.configs.schema import ExperimentConfig

__all__ = [
    "OPTIMIZERS",
    "ConfigError",
    "ExperimentConfig",
    "checked",
    "dump",
    "load_params",
    "nested_differences",
    "resolve",
]
