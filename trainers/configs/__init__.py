"""Configurations: dataclasses, experiments, how a run's is resolved; nothing that reads images."""

from trainers.configs.checking import OPTIMIZERS, checked
from trainers.configs.explaining import ConfigError
from trainers.configs.resolve import PARAMS_FILE, dump, load_params, resolve, split
from trainers.configs.resuming import changes, nested_differences
from trainers.configs.schema import ExperimentConfig

__all__ = [
    "OPTIMIZERS",
    "PARAMS_FILE",
    "ConfigError",
    "ExperimentConfig",
    "changes",
    "checked",
    "dump",
    "load_params",
    "nested_differences",
    "resolve",
    "split",
]
