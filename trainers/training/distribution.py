"""Devices, strategies of `tf.distribute`, precision and seeds, from the `runtime` group."""

import tensorflow as tf
from absl import logging

from keras_an.backend import keras
from trainers import cpu
from trainers.configs import schema
from trainers.training import devices
from trainers.training.cluster_resolvers import cluster_resolver
from trainers.training.workers import has_several_workers


def set_up_runtime(runtime):
    """Sets devices, the precision policy, the seeds and determinism of the process. Call before anything is built.

    GPUs beyond `runtime.num_gpus` are hidden, and the others' memory is taken as it is needed; without any,
    `keep_freed_memory`. The log says which devices are used, and where a card is not, why.

    Args:
        runtime: `schema.RuntimeConfig`.

    Raises:
        ValueError: where more GPUs are wanted than there are.
    """
    gpus = tf.config.list_physical_devices("GPU")
    used = gpus[: runtime.num_gpus]  # None is all
    if runtime.num_gpus is not None and runtime.num_gpus > len(gpus):
        raise ValueError(
            f"`runtime.num_gpus` must not exceed the GPUs that TensorFlow sees, {len(gpus)}. "
            f"Received: {runtime.num_gpus}. {devices.why_not_used()}".rstrip()
        )
    if gpus:
        tf.config.set_visible_devices(used, "GPU")
    for gpu in used:
        tf.config.experimental.set_memory_growth(gpu, True)
    if runtime.distribution_strategy != "tpu":
        logging.info("Devices: %s", devices.description(used, gpus))
    keep_freed_memory()
    policy = "float32" if runtime.mixed_precision_dtype == "float32" else f"mixed_{runtime.mixed_precision_dtype}"
    keras.mixed_precision.set_global_policy(policy)
    keras.utils.set_random_seed(runtime.seed)
    if runtime.deterministic:
        tf.config.experimental.enable_op_determinism()


def keep_freed_memory():
    """`cpu.keep_freed_memory` where this process computes on the CPU; does nothing with GPUs."""
    if not tf.config.get_visible_devices("GPU"):
        cpu.keep_freed_memory()


def get_strategy(runtime):
    """The strategy that `runtime.distribution_strategy` names, after `set_up_runtime`.

    Args:
        runtime: `schema.RuntimeConfig`.

    Returns:
        `tf.distribute.Strategy`, on the GPUs of this process, or on its CPU devices where there are none.

    Raises:
        ValueError: where the environment does not describe the cluster, or there is no such TPU.
    """
    name = runtime.distribution_strategy
    if name == "off":
        return tf.distribute.get_strategy()
    if name == "tpu":
        return _tpu_strategy(runtime.tpu)
    if name == "multi_worker_mirrored":
        kind = schema.ALL_REDUCE[name][runtime.all_reduce_alg] if runtime.all_reduce_alg else "AUTO"
        implementation = tf.distribute.experimental.CommunicationImplementation[kind]
        options = tf.distribute.experimental.CommunicationOptions(implementation=implementation)
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver(runtime), options)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy(names[0])
    return mirrored_strategy(names, runtime.all_reduce_alg)


def mirrored_strategy(names, algorithm=None):
    """`tf.distribute.MirroredStrategy` over devices.

    Args:
        names: of the devices, all GPUs or all CPUs.
        algorithm: as `runtime.all_reduce_alg`.
    """
    # On CPUs collectives of two strategies in a process disturb each other; reduction to one device does not.
    algorithm = algorithm or ("one_device" if "CPU" in names[0] else None)
    operations = algorithm and getattr(tf.distribute, schema.ALL_REDUCE["mirrored"][algorithm])()
    return tf.distribute.MirroredStrategy(names, cross_device_ops=operations)


def evaluation_strategy(strategy):
    """The strategy of an evaluation; of several workers the chief alone evaluates, under TensorFlow's default."""
    return tf.distribute.get_strategy() if has_several_workers(strategy) else strategy


def _tpu_strategy(name):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, OSError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(f"There is no TPU `runtime.tpu`, {name!r}: {error}") from error
    return tf.distribute.TPUStrategy(resolver)
