"""Strategies, precision and seeds."""

import numpy as np
import pytest
import tensorflow as tf

from keras_an.backend import keras
from trainers import distribution
from trainers.configs.schema import RuntimeConfig


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
    wanted = len(tf.config.list_logical_devices("GPU")) + 1
    with pytest.raises(ValueError, match=rf"`runtime.num_gpus` must not exceed .* {wanted - 1}\. Received: {wanted}"):
        distribution.get_strategy(RuntimeConfig(num_gpus=wanted))


@pytest.mark.parametrize("dtype, policy", [("float32", "float32"), ("bfloat16", "mixed_bfloat16")])
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
