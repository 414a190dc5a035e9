"""What a run is: its configuration, command, versions, devices and networks, as texts; and its hyperparameters."""

import importlib.metadata
import platform
import shlex
import sys

import tensorflow as tf

import keras_an
from keras_an.backend import keras

_PACKAGES = ("tensorflow", "tensorboard", "numpy", "tensorflow-addons", "tensorflow-gan")
# Groups and settings that make one run differ from another in what it learns, and how fast.
_HYPERPARAMETERS = (
    "experiment",
    "task.model.",
    "task.losses.",
    "task.masks.",
    "task.augmentation",
    "task.train_data.dataset",
    "task.train_data.global_batch_size",
    "trainer.train_steps",
    "trainer.discriminator_steps",
    "trainer.gradient_accumulation_steps",
    "trainer.ema_decay",
    "trainer.pretrain_steps",
    "trainer.generator_optimizer.type",
    "trainer.generator_optimizer.learning_rate",
    "trainer.generator_optimizer.beta_1",
    "trainer.generator_optimizer.beta_2",
    "trainer.discriminator_optimizer.type",
    "trainer.discriminator_optimizer.learning_rate",
    "trainer.discriminator_optimizer.beta_1",
    "trainer.discriminator_optimizer.beta_2",
    "runtime.mixed_precision_dtype",
    "runtime.enable_xla",
    "runtime.seed",
)


def texts(configuration, networks, strategy):
    """Markdown by tag.

    Args:
        configuration: YAML.
        networks: Markdown table.
        strategy: `tf.distribute.Strategy`.
    """
    return {
        "run/1_command": _indented(shlex.join([sys.executable, *sys.argv])),
        "run/2_configuration": _indented(configuration),
        "run/3_networks": networks,
        "run/4_devices": _table(("device", "kind"), _devices(strategy)),
        "run/5_versions": _table(("package", "version"), _versions()),
    }


def hyperparameters(params):
    """What of a configuration, nested dictionaries, TensorBoard's page HParams compares: numbers and strings by key."""
    found = {}
    for key, value in _leaves(params):
        if key.startswith(_HYPERPARAMETERS) and value is not None:
            found[key] = value if isinstance(value, (bool, int, float, str)) else ", ".join(map(str, value))
    return found


def _leaves(group, prefix=""):
    for name, value in group.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _devices(strategy):
    rows = [("replicas", f"{strategy.num_replicas_in_sync} of {type(strategy).__name__}")]
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device) if device.device_type == "GPU" else {}
        rows.append((device.name, details.get("device_name", device.device_type)))
    return [*rows, ("host", f"{platform.system()} {platform.machine()}")]


def _versions():
    rows = [("python", platform.python_version()), ("keras_an", keras_an.__version__), ("keras", keras.__version__)]
    for name in _PACKAGES:
        try:
            rows.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return rows


def _table(head, rows):
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


def _indented(text):
    return "\n".join("    " + line for line in text.splitlines())
