"""Two logical CPU devices for every test, seeds, float32 after each, and one strategy over both devices."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow as tf

from keras_an.backend import keras
from layer_test_case import mirrored_strategy

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="session")
def mirrored():
    """The one `MirroredStrategy` of the process: two replicas on the CPU."""
    return mirrored_strategy()
