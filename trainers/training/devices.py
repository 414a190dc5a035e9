"""What a run computes on, in words, and why a card that is there is not used."""

import glob
import os

import tensorflow as tf

_DRIVER = "/proc/driver/nvidia/version"


def description(used, gpus):
    """One line about the devices of a process.

    Args:
        used: the physical GPUs that are used.
        gpus: all that TensorFlow sees.
    """
    if used:
        return f"{len(used)} of {len(gpus)} GPUs: {', '.join(map(_name, used))}"
    if gpus:
        return f"the CPU. {len(gpus)} GPUs are left alone, since `runtime.num_gpus` is 0"
    reason = why_not_used()
    return f"the CPU. {reason}" if reason else "the CPU"


def why_not_used():
    """Why TensorFlow sees no GPU where the machine has an NVIDIA card; "" where it has none, or TensorFlow sees it."""
    if tf.config.list_physical_devices("GPU") or not has_card():
        return ""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        reason = f"CUDA_VISIBLE_DEVICES={hidden!r} hides it"
    elif not tf.test.is_built_with_cuda():
        reason = "this TensorFlow is built without CUDA; on Linux, `pip install '.[train,gpu]'` brings one with it"
    elif not os.path.exists(_DRIVER):
        reason = "its driver is not loaded: `nvidia-smi` must list it first"
    else:
        reason = (
            "TensorFlow does not find CUDA's libraries, or the driver is too old for them: `pip install "
            "'.[train,gpu]'` brings the libraries, and TF_CPP_MIN_LOG_LEVEL=0 shows what is missing"
        )
    return f"An NVIDIA card is there that is not used: {reason}"


def has_card():
    """Whether the machine has an NVIDIA card, whatever TensorFlow sees."""
    return bool(glob.glob("/dev/nvidia[0-9]*"))


def _name(gpu):
    try:
        details = tf.config.experimental.get_device_details(gpu)
    except (ValueError, tf.errors.OpError):
        details = {}
    return details.get("device_name", gpu.name)
