"""The one place that knows which Keras runs: it exports `keras` and `ops`.

`keras` is Keras 3, Keras 2 (TensorFlow 2.15) or tf-keras, the last where `TF_USE_LEGACY_KERAS=1` asks for it, as
TensorFlow itself does. `ops` is `keras.ops` on Keras 3; on Keras 2 it holds the same functions, as far as this
package uses them, on TensorFlow. No other module asks which Keras it runs on.

The file is long because every difference between the Kerases stands in it.
"""

import functools
import math
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
        return optimizer.scale_loss(ops.ones((), dtype="float32"))

    def is_whole_in_graphs(item):
        """Whether `tf.train.Checkpoint` finds all of an object inside a `tf.function` too."""
        return True

    def apply_scaled_gradients(optimizer, gradients, variables):
        """Applies gradients of a loss times `loss_scale`; skips them and halves the scale where one is not finite."""
        optimizer.apply_gradients(zip(gradients, variables))

    def to_numpy(tensor):
        """A tensor or variable as a NumPy array."""
        return keras.ops.convert_to_numpy(tensor)

    def adam_slots(optimizer, variable):
        """The running means that Adam keeps of a variable's gradients and of their squares, `tf.Variable`s."""
        index = optimizer._get_variable_index(variable)
        return optimizer._momentums[index].value, optimizer._velocities[index].value

    def add_bias(outputs, bias):
        """A map with its channels last, plus a number for each channel."""
        return keras.ops.add(outputs, bias)

    def tensor_spec(shape, dtype):
        """What `compute_output_spec` gives for a tensor."""
        return keras.KerasTensor(shape, dtype=dtype)

    def random_uniform(shape, seed_generator):
        """Draws float32 numbers in [0, 1) of `shape` from a `SeedGenerator`."""
        return keras.random.uniform(shape, dtype="float32", seed=seed_generator)

    def fused_batch_norm(inputs, axis, scale, offset, epsilon):
        """Batch norm in training by TensorFlow's kernel for it.

        Args:
            inputs: float `(batch, height, width, channels)`.
            axis: of the channels.
            scale: float32 `(channels,)`, or None for 1.
            offset: float32 `(channels,)`, or None for 0.
            epsilon: added to the variance.

        Returns:
            The normalised inputs, in their dtype, and mean and variance, float32 `(channels,)`; or None where there is
            no such kernel: on other backends, for other shapes and dtypes.
        """
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        is_map = len(inputs.shape) == 4 and axis in (-1, 3)
        if keras.backend.backend() != "tensorflow" or not is_map or dtype not in ("float32", "bfloat16"):
            return None
        from tensorflow import raw_ops

        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.ones(channels) if scale is None else ops.convert_to_tensor(scale),
            offset=ops.zeros(channels) if offset is None else ops.convert_to_tensor(offset),
            mean=[],
            variance=[],
            epsilon=epsilon,
            is_training=True,
        )
        # The kernel divides by one position less than there are.
        positions = ops.cast(math.prod(ops.shape(inputs)[:3]), "float32")
        return outputs, mean, variance * (1.0 - 1.0 / positions)

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

    if keras.backend.backend() == "torch":
        import torch

        class _TorchCustomGradient(torch.autograd.Function):
            """`forward` and `backward` of `custom_gradient` for autograd and its forward mode."""

            @staticmethod
            def forward(ctx, forward, backward, *arguments):
                ctx.forward_function, ctx.backward_function = forward, backward
                ctx.save_for_backward(*arguments)
                output = forward(*arguments)
                ctx.save_for_forward(*arguments, output)
                return output

            @staticmethod
            def backward(ctx, upstream):
                return (None, None, *ctx.backward_function(*ctx.saved_tensors, upstream))

            @staticmethod
            def jvp(ctx, _, __, *tangents):
                # PyTorch has no forward mode inside of another, but `backward` is the transpose of what is wanted.
                *arguments, output = ctx.saved_tensors
                _, transpose = torch.func.vjp(
                    lambda upstream: ctx.backward_function(*arguments, upstream), torch.zeros_like(output)
                )
                return transpose(tangents)[0]

    def branch(predicate, true_function, false_function):
        """The tensor of one of two functions without arguments; both are computed where the program cannot branch."""
        if keras.backend.backend() == "torch" and not _torch_branches_on(predicate):
            return keras.ops.where(predicate, true_function(), false_function())
        return keras.ops.cond(predicate, true_function, false_function)

else:
    import tensorflow as tf

    register_serializable = keras.utils.register_keras_serializable
    NO_AUTOCAST = {"experimental_autocast": False}

    class SeedGenerator:  # type: ignore[no-redef]
        """`keras.random.SeedGenerator` for Keras 2: a seed and a counter, kept in a variable that is no layer's weight.

        Args:
            seed: integer, or None for one drawn from Python's `random`, as Keras 3 does.
        """

        def __init__(self, seed=None):
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

    def is_whole_in_graphs(item):
        return not isinstance(
            item, keras.mixed_precision.LossScaleOptimizer
        )  # whose scale is of the graph it is made in

    def apply_scaled_gradients(optimizer, gradients, variables):
        optimizer.apply_gradients(zip(optimizer.get_unscaled_gradients(gradients), variables))

    def to_numpy(tensor):
        return tf.convert_to_tensor(tensor).numpy()

    def adam_slots(optimizer, variable):
        index = optimizer._index_dict[optimizer._var_key(variable)]
        return optimizer._momentums[index], optimizer._velocities[index]

    add_bias = tf.nn.bias_add

    def tensor_spec(shape, dtype):
        return tf.TensorSpec(shape, dtype)

    def random_uniform(shape, seed_generator):
        seed = tf.identity(seed_generator.state)
        seed_generator.state.assign(seed + tf.constant([0, 1], tf.int64))
        return tf.random.stateless_uniform(shape, seed, alg="philox")

    def fused_batch_norm(inputs, axis, scale, offset, epsilon):
        return None  # Keras 2's own layer calls the kernel

    def fuses_elementwise(tensor):
        return _traces_for_xla()

    def compiles_for_cpu(tensor):
        return _traces_for_xla() and _only_cpus()

    branch = tf.cond

    def _shape(tensor):
        tensor = tf.convert_to_tensor(tensor)
        dynamic = tf.shape(tensor)
        return tuple(dynamic[i] if size is None else size for i, size in enumerate(tensor.shape))

    def _moveaxis(tensor, source, destination):
        axes = list(range(len(tensor.shape)))
        axes.insert(destination % len(axes), axes.pop(source))
        return tf.transpose(tensor, axes)

    def _max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
        return tf.nn.max_pool(inputs, pool_size, strides or pool_size, padding.upper())

    def _average_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
        return tf.nn.avg_pool(inputs, pool_size, strides or pool_size, padding.upper())

    def _conv(inputs, kernel, strides=1, padding="valid", data_format=None):
        return tf.nn.conv2d(inputs, kernel, strides, padding.upper())

    def _conv_transpose(inputs, kernel, strides=1, padding="valid", data_format=None):
        batch_size, height, width, _ = _shape(inputs)  # of "same" alone
        output_shape = (batch_size, strides * height, strides * width, kernel.shape[2])
        return tf.nn.conv2d_transpose(inputs, kernel, output_shape, strides, padding.upper())

    ops = types.SimpleNamespace(
        abs=tf.abs,
        all=tf.reduce_all,
        arange=tf.range,
        average_pool=_average_pool,
        broadcast_to=tf.broadcast_to,
        cast=tf.cast,
        clip=tf.clip_by_value,
        concatenate=tf.concat,
        cond=tf.cond,
        conv=_conv,
        conv_transpose=_conv_transpose,
        convert_to_tensor=tf.convert_to_tensor,
        cumsum=tf.cumsum,
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
        moveaxis=_moveaxis,
        ones=tf.ones,
        ones_like=tf.ones_like,
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


def is_functional(model):
    """Whether a layer or model is a graph of calls: a functional model, or a built sequential one."""
    return hasattr(_graph(model), "_nodes_by_depth")


def calls_of(model):
    """The calls of which a functional model is made.

    Args:
        model: `is_functional`.

    Yields:
        For each call, from the inputs on, the layer and lists of the tensors that it took and gave.
    """
    for _, nodes in sorted(_graph(model)._nodes_by_depth.items(), reverse=True):
        for node in nodes:
            if not node.is_input:
                given = [node.outputs] if hasattr(node.outputs, "shape") else list(node.outputs)
                if IS_KERAS_3:
                    yield node.operation, node.input_tensors, given
                else:
                    yield node.layer, node.keras_inputs, given


def outputs_of(model):
    """What a functional model gives, in the structure in which it gives it; `output` may be that of a later call."""
    return _graph(model)._outputs_struct if IS_KERAS_3 else model._nested_outputs


def _graph(model):
    return getattr(model, "_functional", None) or model  # of Keras 3's `Sequential`


def wide_dtype(*dtypes):
    """The dtype to compute in: float64 where one of `dtypes` is float64, and float32 otherwise."""
    return "float64" if any("float64" in str(dtype) for dtype in dtypes) else "float32"


def widen(*tensors):
    """The tensors in the `wide_dtype` of all of them, as a list."""
    # JAX makes float32 of NumPy's float64; a symbolic tensor is no array to convert.
    arrays = [not hasattr(one, "dtype") or type(one).__module__ == "numpy" for one in tensors]
    tensors = [ops.convert_to_tensor(one) if is_array else one for one, is_array in zip(tensors, arrays)]
    dtype = wide_dtype(*(one.dtype for one in tensors))
    return [ops.cast(one, dtype) for one in tensors]


def custom_gradient(forward, backward, keeps=False):
    """A function with a gradient of its own, which may be differentiated again, and in forward mode.

    Args:
        forward: function of tensors that returns one tensor.
        backward: function of the same tensors and the gradient of the result, that returns theirs as a tuple. It must
            be linear in that gradient.
        keeps: whether `forward` returns a second tensor, which `backward` gets after the gradient: a constant, or None
            where the backend computes `backward` apart from `forward`.

    Returns:
        A function of the same tensors.
    """
    if keeps and keras.backend.backend() != "tensorflow":
        return custom_gradient(lambda *arguments: forward(*arguments)[0], lambda *known: backward(*known, None))
    if keras.backend.backend() == "jax":
        return _jax_custom_gradient(forward, backward)
    if keras.backend.backend() == "torch":
        return _torch_custom_gradient(forward, backward)
    from tensorflow import custom_gradient as tensorflow_custom_gradient

    def function(*arguments):
        result, *kept = forward(*arguments) if keeps else [forward(*arguments)]
        return result, lambda upstream: backward(*arguments, upstream, *kept)

    return tensorflow_custom_gradient(function)


def _jax_custom_gradient(forward, backward):
    import jax

    function = jax.custom_jvp(lambda *arguments: forward(*arguments))

    @function.defjvp
    def push_forward(arguments, tangents):
        # `backward` is the transpose of what carries tangents on; JAX transposes it once more for the reverse mode.
        outputs = function(*arguments)
        (tangent,) = jax.linear_transpose(lambda upstream: backward(*arguments, upstream), outputs)(tuple(tangents))
        return outputs, tangent

    return function


def _torch_custom_gradient(forward, backward):
    import torch

    # Transforms of `torch.func` differentiate what they are given. In a function of autograd they lose the second
    # derivative of two forward modes without a word.
    if torch._C._are_functorch_transforms_active():
        return forward
    return functools.partial(_TorchCustomGradient.apply, forward, backward)


def softmax(logits):
    """The softmax over the last axis, without Keras's warning where that has one element."""
    return ops.exp(logits - logits) if logits.shape[-1] == 1 else ops.softmax(logits, axis=-1)


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
    from tensorflow import custom_gradient, gather, tensor_scatter_nd_add

    def take(rows):
        def gradient(by_rows, by_taken):
            return tensor_scatter_nd_add(by_rows, indices[..., None], by_taken)

        return (rows, gather(rows, indices)), gradient

    return custom_gradient(take)(rows)


def _torch_branches_on(predicate):
    """Whether Python may ask for the value of `predicate`: not while a graph is made, nor where examples differ."""
    import torch

    wrapped = predicate
    while torch._C._functorch.is_functorch_wrapped_tensor(wrapped):
        if torch._C._functorch.is_batchedtensor(wrapped):
            return False
        wrapped = torch._C._functorch.get_unwrapped(wrapped)
    return not torch.compiler.is_compiling()


def _only_cpus():
    from tensorflow import config

    return all(device.device_type == "CPU" for device in config.list_logical_devices())


def _traces_for_xla():
    from tensorflow.python.framework.ops import get_default_graph
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return GraphOrParentsInXlaContext(get_default_graph())
