"""Strategies of `tf.distribute`, precision and seeds, from the `runtime` group."""

import tensorflow as tf

from keras_an.backend import keras


def set_up_runtime(runtime):
    """Sets the precision policy, the seeds and determinism of the process. Call before anything is built.

    Args:
        runtime: `schema.RuntimeConfig`.
    """
    policy = "float32" if runtime.mixed_precision_dtype == "float32" else f"mixed_{runtime.mixed_precision_dtype}"
    keras.mixed_precision.set_global_policy(policy)
    keras.utils.set_random_seed(runtime.seed)
    if runtime.deterministic:
        tf.config.experimental.enable_op_determinism()


def get_strategy(runtime):
    """The strategy that `runtime.distribution_strategy` names, on `runtime.num_gpus` GPUs or on the CPU devices.

    Args:
        runtime: `schema.RuntimeConfig`.

    Returns:
        `tf.distribute.Strategy`.

    Raises:
        ValueError: where more GPUs are wanted than there are.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if runtime.num_gpus > len(gpus):
        raise ValueError(
            f"`runtime.num_gpus` must not exceed the GPUs that TensorFlow sees, {len(gpus)}. "
            f"Received: {runtime.num_gpus}"
        )
    devices = gpus[: runtime.num_gpus] or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    if runtime.distribution_strategy == "off":
        return tf.distribute.get_strategy()
    if runtime.distribution_strategy == "one_device":
        return tf.distribute.OneDeviceStrategy(names[0])
    # On CPUs collectives of two strategies in a process disturb each other; reduction to one device does not.
    cross_device_ops = None if runtime.num_gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(names, cross_device_ops=cross_device_ops)
