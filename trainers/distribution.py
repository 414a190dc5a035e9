"""Strategies of `tf.distribute`, the workers of a cluster, precision and seeds, from the `runtime` group."""

import ctypes
import json
import os

import tensorflow as tf

from keras_an.backend import keras

_SLURM_PORT = 8888
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_ALL_REDUCE = {
    "nccl": tf.distribute.NcclAllReduce,
    "hierarchical_copy": tf.distribute.HierarchicalCopyAllReduce,
    "one_device": tf.distribute.ReductionToOneDevice,
}


def set_up_runtime(runtime):
    """Sets devices, the precision policy, the seeds and determinism of the process. Call before anything is built.

    GPUs beyond `runtime.num_gpus` are hidden, and the others' memory is taken as it is needed; without any,
    `keep_freed_memory`.

    Args:
        runtime: `schema.RuntimeConfig`.

    Raises:
        ValueError: where more GPUs are wanted than there are.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if runtime.num_gpus > len(gpus):
        raise ValueError(
            f"`runtime.num_gpus` must not exceed the GPUs that TensorFlow sees, {len(gpus)}. "
            f"Received: {runtime.num_gpus}"
        )
    if gpus:
        tf.config.set_visible_devices(gpus[: runtime.num_gpus], "GPU")
    for gpu in gpus[: runtime.num_gpus]:
        tf.config.experimental.set_memory_growth(gpu, True)
    keep_freed_memory()
    policy = "float32" if runtime.mixed_precision_dtype == "float32" else f"mixed_{runtime.mixed_precision_dtype}"
    keras.mixed_precision.set_global_policy(policy)
    keras.utils.set_random_seed(runtime.seed)
    if runtime.deterministic:
        tf.config.experimental.enable_op_determinism()


def keep_freed_memory():
    """Has glibc keep what this process frees for what it takes next; does nothing with GPUs, or without glibc.

    It would give blocks of the size of feature maps back to the system at once. That the system clears the pages of the
    next ones took an eighth of the training of digits on two cores.
    """
    mallopt = getattr(ctypes.CDLL(None) if os.name == "posix" else None, "mallopt", None)
    if mallopt and not tf.config.get_visible_devices("GPU"):
        mallopt(_M_MMAP_MAX, 0)  # no block is the system's own
        mallopt(_M_TRIM_THRESHOLD, -1)  # and the heap never shrinks


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
        kind = {"ring": "RING", "nccl": "NCCL", None: "AUTO"}[runtime.all_reduce_alg]
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
    return tf.distribute.MirroredStrategy(names, cross_device_ops=algorithm and _ALL_REDUCE[algorithm]())


def cluster_resolver(runtime):
    """Where the workers are and which this process is, as `runtime.cluster` says.

    "tf_config" reads the environment variable TF_CONFIG; "slurm" what `srun` sets; "kubernetes" JOB_COMPLETION_INDEX,
    which a Job with indexed completion sets, and WORKER_HOSTS, `host:port` of all workers with commas between.

    Args:
        runtime: `schema.RuntimeConfig`.

    Returns:
        `tf.distribute.cluster_resolver.ClusterResolver` of workers, of which number 0, or the chief, writes.

    Raises:
        ValueError: where the environment does not say, or this process is not one that trains.
    """
    reader = {"tf_config": _from_tf_config, "slurm": _from_slurm, "kubernetes": _from_kubernetes}[runtime.cluster]
    try:
        resolver = reader(runtime)
        cluster = resolver.cluster_spec().as_dict()
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"`runtime.cluster` {runtime.cluster!r} needs {_NEEDED[runtime.cluster]}; see docs/clusters.md. "
            f"Received: {error}"
        ) from error
    if resolver.task_type not in ("chief", "worker"):
        raise ValueError(
            "The chief and workers train, and there are no other tasks: the chief evaluates. "
            f"Received: a task of type {resolver.task_type!r} of {sorted(cluster)}"
        )
    return resolver


_NEEDED = {
    "tf_config": "the environment variable TF_CONFIG with `cluster` and `task`",
    "slurm": "what srun sets, SLURM_PROCID, SLURM_STEP_NODELIST and SLURM_STEP_TASKS_PER_NODE",
    "kubernetes": "the environment variables JOB_COMPLETION_INDEX and WORKER_HOSTS",
}


def _from_tf_config(runtime):
    del runtime
    text = os.environ.get("TF_CONFIG", "")
    content = json.loads(text) if text else {}
    if not content.get("cluster") or not content.get("task"):
        raise ValueError(repr(text))
    return tf.distribute.cluster_resolver.TFConfigClusterResolver()


def _from_slurm(runtime):
    # srun itself gives each task its GPUs; the resolver only wants to know how many there could be.
    gpus = max(runtime.num_gpus, 1)
    slurm = tf.distribute.cluster_resolver.SlurmClusterResolver(
        gpus_per_node=gpus * int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)), gpus_per_task=gpus, auto_set_gpu=False
    )
    # It sorts hosts as text, node10 before node9; SLURM numbers its tasks in the order of the node list.
    hosts = [
        f"{host}:{_SLURM_PORT + task}" for host, tasks in slurm._task_configuration.items() for task in range(tasks)
    ]
    return _worker_of(hosts, slurm._resolve_own_rank())


def _from_kubernetes(runtime):
    del runtime
    return _worker_of(os.environ["WORKER_HOSTS"].split(","), int(os.environ["JOB_COMPLETION_INDEX"]))


def _worker_of(hosts, index):
    if not 0 <= index < len(hosts):
        raise ValueError(f"worker {index} of {len(hosts)}, {', '.join(hosts)}")
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": hosts}), task_type="worker", task_id=index, rpc_layer="grpc"
    )


def _tpu_strategy(name):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, OSError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(f"There is no TPU `runtime.tpu`, {name!r}: {error}") from error
    return tf.distribute.TPUStrategy(resolver)


class Workers:
    """The processes that train together.

    Args:
        strategy: `tf.distribute.Strategy`.

    Attributes:
        count: integer.
        number: integer, of this process.
        is_chief: whether this process writes checkpoints, summaries and pictures.
    """

    def __init__(self, strategy):
        self.count, self.number = 1, 0
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            tasks = resolver.cluster_spec().as_dict()
            self.count = sum(len(tasks.get(kind, ())) for kind in ("chief", "worker"))
            chiefs = len(tasks.get("chief", ()))
            self.number = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
        self.is_chief = self.number == 0
        self._mean = tf.function(
            lambda values: strategy.reduce("mean", strategy.run(tf.identity, args=(values,)), axis=None)
        )

    def mean(self, *values):
        """The means of numbers over all workers, as a list; every worker must call it."""
        if self.count == 1:
            return list(values)
        return self._mean(tf.constant(values, tf.float64)).numpy().tolist()
