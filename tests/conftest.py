"""Seeds, float32 after each test; on TensorFlow two logical CPU devices, and one strategy over both of them."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if os.environ.get("KERAS_BACKEND") == "jax":
    # JAX compiles each operation for each shape, which is what its tests spend their time on.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
else:
    # Tests compile a step to take it twice.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import pytest
from absl import flags

from keras_an.backend import keras
from layer_test_case import BACKEND, mirrored_strategy, record_gradients

# Tracing makes millions of objects that stay; to look for garbage among them so often takes a tenth of the tests' time.
gc.set_threshold(50_000)

if BACKEND == "tensorflow":
    import tensorflow

    tensorflow.config.set_logical_device_configuration(
        tensorflow.config.list_physical_devices("CPU")[0], [tensorflow.config.LogicalDeviceConfiguration()] * 2
    )


def pytest_configure(config):
    # Keras 3's variables and PyTorch's tensors under NumPy 2: neither tells us anything.
    for message in ("__array__ implementation", "__array_wrap__ must accept"):
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
    with record_gradients(False):
        yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def parsed_flags():
    """Without a command line; other modules' required flags may be missing."""
    was_parsed = flags.FLAGS.is_parsed()
    flags.FLAGS.mark_as_parsed()
    yield
    if not was_parsed:
        flags.FLAGS.unparse_flags()


@pytest.fixture
def tf():
    """TensorFlow; a test that takes it is skipped where Keras runs on something else."""
    if BACKEND != "tensorflow":
        pytest.skip("needs TensorFlow")
    return tensorflow


@pytest.fixture(scope="session")
def mirrored():
    """The one `MirroredStrategy` of the process: two replicas on the CPU."""
    if BACKEND != "tensorflow":
        pytest.skip("needs TensorFlow")
    return mirrored_strategy()


@pytest.fixture
def eager():
    """For single steps: they need no trace then, which takes far longer than the step."""
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)
