"""Configurations: dataclasses, the named experiments, and how a run's configuration is resolved."""

from trainers.configs.resolve import OPTIMIZERS, ConfigError, dump, load_params, nested_differences, resolve
from trainers.configs.schema import ExperimentConfig

__all__ = ["OPTIMIZERS", "ConfigError", "ExperimentConfig", "dump", "load_params", "nested_differences", "resolve"]
