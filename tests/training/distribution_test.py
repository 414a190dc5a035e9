"""Strategies, precision and seeds."""

import ctypes
import json
import resource

import numpy as np
import pytest
import tensorflow as tf

from keras_an.backend import keras
from trainers.configs.schema import RuntimeConfig
from trainers.training import cluster_resolvers, devices, distribution
from trainers.training.workers import Workers


def test_off_is_the_default_strategy():
    strategy = distribution.get_strategy(RuntimeConfig(distribution_strategy="off"))
    assert not tf.distribute.has_strategy()
    assert strategy is tf.distribute.get_strategy() and strategy.num_replicas_in_sync == 1


def test_one_device_is_the_first_device():
    strategy = distribution.get_strategy(RuntimeConfig(distribution_strategy="one_device"))
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    assert strategy.extended.worker_devices == ("/job:localhost/replica:0/task:0/device:CPU:0",)


def test_mirrored_takes_every_cpu_device():
    strategy = distribution.get_strategy(RuntimeConfig(distribution_strategy="mirrored"))
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == len(tf.config.list_logical_devices("CPU")) == 2


def test_too_many_gpus_are_an_error():
    wanted = len(tf.config.list_physical_devices("GPU")) + 1
    with pytest.raises(ValueError, match=rf"`runtime.num_gpus` must not exceed .* {wanted - 1}\. Received: {wanted}"):
        distribution.set_up_runtime(RuntimeConfig(num_gpus=wanted))


@pytest.fixture
def four_gpus(monkeypatch):
    """TensorFlow's list of devices with four GPUs; returns what is made visible, and whose memory grows."""
    seen, growing = [], []
    gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU") for number in range(4)]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus if kind == "GPU" else [])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda found, kind: seen.append((found, kind)))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: growing.append((gpu, on)))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"device_name": f"H{gpu.name[-1]}"})
    return gpus, seen, growing


@pytest.mark.parametrize(
    "num_gpus, count, line",
    [
        (None, 4, "Devices: 4 of 4 GPUs: H0, H1, H2, H3"),
        (2, 2, "Devices: 2 of 4 GPUs: H0, H1"),
        (0, 0, "Devices: the CPU. 4 GPUs are left alone, since `runtime.num_gpus` is 0"),
    ],
)
def test_all_gpus_are_used_unless_fewer_are_wanted(four_gpus, caplog, num_gpus, count, line):
    gpus, seen, growing = four_gpus
    with caplog.at_level("INFO", logger="absl"):
        distribution.set_up_runtime(RuntimeConfig(num_gpus=num_gpus))
    assert seen == [(gpus[:count], "GPU")] and growing == [(gpu, True) for gpu in gpus[:count]]
    assert line in caplog.messages


@pytest.mark.parametrize(
    "hidden, has_cuda, has_driver, reason",
    [
        ("-1", True, True, "CUDA_VISIBLE_DEVICES='-1' hides it"),
        (None, False, True, "this TensorFlow is built without CUDA; on Linux, `pip install '.[train,gpu]'`"),
        (None, True, False, "its driver is not loaded: `nvidia-smi` must list it first"),
        (None, True, True, "TensorFlow does not find CUDA's libraries, or the driver is too old for them"),
    ],
)
def test_log_says_why_a_card_is_not_used(monkeypatch, caplog, hidden, has_cuda, has_driver, reason):
    monkeypatch.setattr(devices, "has_card", lambda: True)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: has_cuda)
    monkeypatch.setattr(devices.os.path, "exists", lambda path: has_driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with caplog.at_level("INFO", logger="absl"):
        distribution.set_up_runtime(RuntimeConfig())
    assert any(f"the CPU. An NVIDIA card is there that is not used: {reason}" in line for line in caplog.messages)
    with pytest.raises(ValueError, match="must not exceed .* An NVIDIA card is there that is not used"):
        distribution.set_up_runtime(RuntimeConfig(num_gpus=1))


def test_log_of_a_machine_without_a_card_says_the_cpu(monkeypatch, caplog):
    monkeypatch.setattr(devices, "has_card", lambda: False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with caplog.at_level("INFO", logger="absl"):
        distribution.set_up_runtime(RuntimeConfig())
    assert "Devices: the CPU" in caplog.messages


def test_freed_memory_is_kept_for_what_is_taken_next():
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("There is no glibc")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]

    def page_faults():
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        block = libc.malloc(2**26)  # above what glibc itself ever keeps
        ctypes.memset(block, 1, 2**26)
        libc.free(block)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

    distribution.set_up_runtime(RuntimeConfig())
    page_faults()
    assert page_faults() < 16  # of 32 pages of 2 MiB, or 16,384 of 4 KiB


@pytest.mark.parametrize(
    "algorithm, kind",
    [
        (None, tf.distribute.ReductionToOneDevice),
        ("one_device", tf.distribute.ReductionToOneDevice),
        ("hierarchical_copy", tf.distribute.HierarchicalCopyAllReduce),
        ("nccl", tf.distribute.NcclAllReduce),
    ],
)
def test_algorithm_adds_up_the_gradients_of_mirrored_replicas(monkeypatch, algorithm, kind):
    asked = {}
    monkeypatch.setattr(
        tf.distribute, "MirroredStrategy", lambda names, cross_device_ops: asked.update(it=cross_device_ops)
    )
    distribution.get_strategy(RuntimeConfig(distribution_strategy="mirrored", all_reduce_alg=algorithm))
    assert type(asked["it"]) is kind


def test_tpu_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="There is no TPU `runtime.tpu`, 'local'"):
        distribution.get_strategy(RuntimeConfig(distribution_strategy="tpu", tpu="local"))


TF_CONFIG = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}
SLURM = {
    "SLURM_PROCID": "1",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "node[9-10]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
}
KUBERNETES = {"JOB_COMPLETION_INDEX": "1", "WORKER_HOSTS": "an-0.an:2222,an-1.an:2222"}


@pytest.fixture
def bare(monkeypatch):
    for name in ("TF_CONFIG", *SLURM, *KUBERNETES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "cluster, environment, hosts",
    [
        ("tf_config", {"TF_CONFIG": json.dumps(TF_CONFIG)}, ["a:1", "b:2"]),
        ("slurm", SLURM, ["node9:8888", "node10:8888"]),
        ("kubernetes", KUBERNETES, ["an-0.an:2222", "an-1.an:2222"]),
    ],
)
@pytest.mark.parametrize("num_gpus", [0, 4])
def test_cluster_is_read_from_its_environment(bare, monkeypatch, cluster, environment, hosts, num_gpus):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    resolver = cluster_resolvers.cluster_resolver(RuntimeConfig(cluster=cluster, num_gpus=num_gpus))
    assert resolver.cluster_spec().as_dict() == {"worker": hosts}
    assert (resolver.task_type, resolver.task_id) == ("worker", 1)


@pytest.mark.parametrize(
    "cluster, environment, words",
    [
        ("tf_config", {}, "TF_CONFIG with `cluster` and `task`"),
        ("tf_config", {"TF_CONFIG": "{"}, "TF_CONFIG with `cluster` and `task`"),
        (
            "tf_config",
            {"TF_CONFIG": json.dumps({"cluster": TF_CONFIG["cluster"]})},
            "TF_CONFIG with `cluster` and `task`",
        ),
        ("slurm", {}, "what srun sets, SLURM_PROCID"),
        ("kubernetes", {"JOB_COMPLETION_INDEX": "0"}, "JOB_COMPLETION_INDEX and WORKER_HOSTS"),
        ("kubernetes", {**KUBERNETES, "JOB_COMPLETION_INDEX": "2"}, "worker 2 of 2, an-0.an:2222, an-1.an:2222"),
    ],
)
def test_missing_environment_is_an_error_that_names_it(bare, monkeypatch, cluster, environment, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=rf"`runtime.cluster` '{cluster}' needs .*{words}"):
        cluster_resolvers.cluster_resolver(RuntimeConfig(cluster=cluster))


def test_tasks_that_do_not_train_are_refused(bare, monkeypatch):
    content = {"cluster": {**TF_CONFIG["cluster"], "evaluator": ["c:3"]}, "task": {"type": "evaluator", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(content))
    with pytest.raises(ValueError, match="The chief and workers train.* Received: a task of type 'evaluator'"):
        cluster_resolvers.cluster_resolver(RuntimeConfig())


def test_one_process_is_its_own_chief(mirrored):
    workers = Workers(mirrored)
    assert (workers.count, workers.number, workers.is_chief) == (1, 0, True)
    assert workers.mean(1.0, 3) == [1.0, 3]


@pytest.mark.parametrize(
    "dtype, policy", [("float32", "float32"), ("bfloat16", "mixed_bfloat16"), ("float16", "mixed_float16")]
)
def test_mixed_precision_sets_the_policy(dtype, policy):
    distribution.set_up_runtime(RuntimeConfig(mixed_precision_dtype=dtype))
    layer = keras.layers.Dense(2)
    outputs = layer(tf.ones((1, 2)))
    assert keras.mixed_precision.global_policy().name == policy
    assert outputs.dtype.name == dtype
    assert all("float32" in str(weight.dtype) for weight in layer.weights)


def test_seed_decides_the_weights_that_are_drawn():
    def draw(seed):
        distribution.set_up_runtime(RuntimeConfig(seed=seed))
        layer = keras.layers.Dense(8)
        layer.build((None, 8))
        return layer.get_weights()[0]

    np.testing.assert_array_equal(draw(3), draw(3))
    assert not np.array_equal(draw(3), draw(4))


def test_determinism_is_asked_for_only_where_wanted(monkeypatch):
    asked = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    distribution.set_up_runtime(RuntimeConfig())
    assert not asked
    distribution.set_up_runtime(RuntimeConfig(deterministic=True))
    assert asked
