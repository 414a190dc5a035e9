"""The one place that knows which Keras runs: it exports `keras` and `ops`.

`keras` is Keras 3, Keras 2 (TensorFlow 2.15) or tf-keras, the last where `TF_USE_LEGACY_KERAS=1` asks for it, as
TensorFlow itself does. `ops` is `keras.ops` on Keras 3; on Keras 2 it holds the same functions, as far as this
package uses them, on TensorFlow. No other module asks which Keras it runs on.
"""

import os
import types
from collections.abc import Sequence
from typing import Any, Callable, Optional, Union

if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
    import tf_keras as keras
else:
    import keras

IS_KERAS_3 = keras.__version__.startswith("3.")

# Types of the public signatures. Every backend has tensors of its own, and Keras has symbolic ones: no class is common
# to them.
Tensor = Any
Shape = Sequence[Optional[int]]
# What `keras.initializers.get`, `keras.regularizers.get` and `keras.constraints.get` take.
Identifier = Union[str, dict[str, Any], Callable[..., Any]]

if IS_KERAS_3:
    ops = keras.ops
    register_serializable = keras.saving.register_keras_serializable
    SeedGenerator = keras.random.SeedGenerator

    # Keyword arguments of `Layer.add_weight` that keep a weight in its own dtype under a mixed precision policy.
    NO_AUTOCAST = {"autocast": False}

    def add_replica_state(layer, name, shape, initializer):
        """Adds a float32 state that each replica updates alike and only the first replica's copy is saved.

        Args:
            layer: the layer that owns the state; assign the result to an attribute of it.
            name: the state's name.
            shape: its shape.
            initializer: a Keras initializer.

        Returns:
            A variable that is not trainable and may be assigned inside a compiled function under `tf.distribute`.
        """
        return keras.Variable(
            keras.initializers.get(initializer),
            shape=shape,
            dtype="float32",
            trainable=False,
            autocast=False,
            synchronization="on_read",
            aggregation="only_first_replica",
            name=name,
        )

    def dtype_when_read(variable, compute_dtype):
        """The dtype in which a layer of `compute_dtype` reads its floating-point `variable`."""
        return compute_dtype if variable._autocast else variable.dtype

    def loss_scale(optimizer):
        """The factor by which a `LossScaleOptimizer` wants its loss, a float32 scalar."""
        return optimizer.scale_loss(ops.ones(()))

    def apply_scaled_gradients(optimizer, gradients, variables):
        """Applies gradients of a loss times `loss_scale`; skips them and halves the scale where one is not finite."""
        optimizer.apply_gradients(zip(gradients, variables))

    def random_uniform(shape, seed_generator):
        """Draws float32 numbers in [0, 1) of `shape` from a `SeedGenerator`."""
        return keras.random.uniform(shape, dtype="float32", seed=seed_generator)

    def fuses_elementwise(tensor):
        """Whether `tensor` is part of a program that XLA compiles, which makes one loop of elementwise operations."""
        if keras.backend.backend() == "jax":
            import jax

            return isinstance(tensor, jax.core.Tracer)
        return keras.backend.backend() == "tensorflow" and _traces_for_xla()

    def compiles_for_cpu(tensor):
        """Whether `tensor` is part of a program that XLA compiles, on a machine without accelerators."""
        if keras.backend.backend() == "jax":
            import jax

            return fuses_elementwise(tensor) and jax.default_backend() == "cpu"
        return fuses_elementwise(tensor) and _only_cpus()

    _custom_gradient = keras.ops.custom_gradient

else:
    import tensorflow as tf

    register_serializable = keras.utils.register_keras_serializable
    NO_AUTOCAST = {"experimental_autocast": False}

    class SeedGenerator(tf.Module):  # type: ignore[no-redef]
        """`keras.random.SeedGenerator` for Keras 2: a seed and a counter, kept in a variable of the layer.

        Args:
            seed: integer, or None for one drawn from Python's `random`, as Keras 3 does.
        """

        def __init__(self, seed=None):
            super().__init__()
            import random

            self.state = tf.Variable(
                [random.randint(1, 10**9) if seed is None else seed, 0],
                dtype=tf.int64,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                name="seed_generator_state",
            )

    def add_replica_state(layer, name, shape, initializer):
        return layer.add_weight(
            name=name,
            shape=shape,
            dtype="float32",
            initializer=initializer,
            trainable=False,
            experimental_autocast=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def dtype_when_read(variable, compute_dtype):
        return compute_dtype if hasattr(variable, "true_dtype") else variable.dtype

    def loss_scale(optimizer):
        return optimizer.get_scaled_loss(tf.constant(1.0))

    def apply_scaled_gradients(optimizer, gradients, variables):
        optimizer.apply_gradients(zip(optimizer.get_unscaled_gradients(gradients), variables))

    def random_uniform(shape, seed_generator):
        seed = tf.identity(seed_generator.state)
        seed_generator.state.assign(seed + tf.constant([0, 1], tf.int64))
        return tf.random.stateless_uniform(shape, seed, alg="philox")

    def fuses_elementwise(tensor):
        return _traces_for_xla()

    def compiles_for_cpu(tensor):
        return _traces_for_xla() and _only_cpus()

    _custom_gradient = tf.custom_gradient

    def _shape(tensor):
        tensor = tf.convert_to_tensor(tensor)
        dynamic = tf.shape(tensor)
        return tuple(dynamic[i] if size is None else size for i, size in enumerate(tensor.shape))

    def _max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
        return tf.nn.max_pool(inputs, pool_size, strides or pool_size, padding.upper())

    ops = types.SimpleNamespace(
        abs=tf.abs,
        all=tf.reduce_all,
        arange=tf.range,
        cast=tf.cast,
        clip=tf.clip_by_value,
        concatenate=tf.concat,
        cond=tf.cond,
        convert_to_tensor=tf.convert_to_tensor,
        einsum=tf.einsum,
        exp=tf.exp,
        eye=tf.eye,
        log=tf.math.log,
        matmul=tf.matmul,
        max=tf.reduce_max,
        maximum=tf.maximum,
        max_pool=_max_pool,
        mean=lambda x, axis=None, keepdims=False: tf.reduce_mean(x, axis, keepdims),
        minimum=tf.minimum,
        mod=tf.math.floormod,
        ones=tf.ones,
        relu=tf.nn.relu,
        reshape=tf.reshape,
        rsqrt=tf.math.rsqrt,
        shape=_shape,
        softmax=tf.nn.softmax,
        sqrt=tf.sqrt,
        square=tf.square,
        stop_gradient=tf.stop_gradient,
        sum=lambda x, axis=None, keepdims=False: tf.reduce_sum(x, axis, keepdims),
        take=tf.gather,
        transpose=tf.transpose,
        where=tf.where,
        zeros=tf.zeros,
        zeros_like=tf.zeros_like,
    )


def custom_gradient(forward, backward):
    """A function with a gradient of its own, which may be differentiated again.

    Args:
        forward: function of tensors that returns one tensor.
        backward: function of the same tensors and the gradient of the result, that returns theirs as a tuple.

    Returns:
        A function of the same tensors.
    """

    def function(*arguments):
        def gradient(*received, upstream=None):
            # PyTorch hands the arguments back, and only what is computed from those can be differentiated again.
            return backward(
                *(arguments if upstream is None else received), received[0] if upstream is None else upstream
            )

        return forward(*arguments), gradient

    return _custom_gradient(function)


def take_rows(rows, indices):
    """Some rows of a matrix, and the matrix itself for whatever else needs it.

    On TensorFlow the gradient of a gather is a matrix of zeros but for a few rows, to be added to the gradient of all
    else. Here those few rows alone are added to it.

    Args:
        rows: `(rows, channels)`.
        indices: int32 of any shape.

    Returns:
        `rows`, and `(*indices.shape, channels)`.
    """
    if keras.backend.backend() != "tensorflow":
        return rows, ops.take(rows, indices, axis=0)
    from tensorflow import gather, tensor_scatter_nd_add

    def take(rows):
        def gradient(by_rows, by_taken):
            return tensor_scatter_nd_add(by_rows, indices[..., None], by_taken)

        return (rows, gather(rows, indices)), gradient

    return _custom_gradient(take)(rows)


def _only_cpus():
    from tensorflow import config

    return all(device.device_type == "CPU" for device in config.list_logical_devices())


def _traces_for_xla():
    from tensorflow.python.framework.ops import get_default_graph
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return GraphOrParentsInXlaContext(get_default_graph())
