"""What the mains of the tools share: everything is a flag, and what cannot be done is one line and exit code 2."""

import os
import sys

from absl import app, flags, logging

# They log through absl too; a tool's log is the tool's.
_OTHERS = ("tensorflow", "tensorboard", "tf2onnx", "httpx")


class ToolError(ValueError):
    """What a tool was asked for cannot be done; the message says why."""


def define_flags():
    """Defines `--device` as a flag of the main that calls."""
    flags.disclaim_key_flags()
    flags.DEFINE_enum("device", "auto", ["auto", "cpu"], "auto takes a GPU where there is one.")


def take_device():
    """Hides the GPUs where `--device` says so; else takes their memory as it is needed. Call before TensorFlow runs."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if flags.FLAGS.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)


def positive_integers(name):
    """The values of a flag that lists them.

    Raises:
        ToolError: where one is anything else, or there is none.
    """
    values = flags.FLAGS[name].value
    if not values or not all(value.isdecimal() and int(value) for value in values):
        raise ToolError(f"--{name} must be positive integers. Received: --{name}={','.join(values)}")
    return [int(value) for value in values]


def run(argv, action, *errors):
    """Runs a tool.

    Args:
        argv: of the main.
        action: function without arguments.
        *errors: classes of what it raises, beside OSError and ToolError, where it cannot be done; anything else is a
            bug.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Everything is a flag. Received: {argv[1:]}")
    folders = [f"{os.sep}{name}{os.sep}" for name in _OTHERS]
    logging.get_absl_handler().addFilter(lambda record: not any(folder in record.pathname for folder in folders))
    _expand_home_folders()
    try:
        action()
    except (*errors, ToolError, OSError) as error:
        logging.error("%s", " ".join(str(error).split()))
        sys.exit(2)


def _expand_home_folders():
    """Puts the home folder for `~` in the flags: no shell does behind a `=`."""
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, str) and value.startswith("~"):
            flags.FLAGS[name].value = os.path.expanduser(value)
