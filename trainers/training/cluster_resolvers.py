"""Where the workers of a cluster are: from TF_CONFIG, SLURM or Kubernetes."""

import json
import os

import tensorflow as tf

_SLURM_PORT = 8888


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
    gpus = max(len(tf.config.get_visible_devices("GPU")) if runtime.num_gpus is None else runtime.num_gpus, 1)
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
