"""What tests of the layer package share on every Keras, and what every layer keeps, whatever it computes.

Needs no TensorFlow; what only TensorFlow can do is left out on JAX and PyTorch.
"""

import contextlib
import copy
import functools
import inspect
import json
import os
import tempfile

import numpy as np
import pytest

from keras_an.backend import keras, ops

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
else:
    import torch


def record_gradients(wanted):
    """A context in which PyTorch records what gradients need, or does not: NumPy takes no tensor that is recorded."""
    return torch.set_grad_enabled(wanted) if BACKEND == "torch" else contextlib.nullcontext()


def map_nest(function, values):
    """`function` of every leaf of a list or tuple, as a list, or of what is neither."""
    return [map_nest(function, value) for value in values] if isinstance(values, (list, tuple)) else function(values)


def flatten(values):
    """The leaves of a list or tuple, or of what is neither, as a list."""
    return [leaf for value in values for leaf in flatten(value)] if isinstance(values, (list, tuple)) else [values]


def tensors(values):
    """NumPy arrays, or lists of them, as tensors of the backend that runs."""
    return map_nest(ops.convert_to_tensor, values)


def array(tensor):
    """A tensor or variable of any backend as a NumPy array."""
    return keras.ops.convert_to_numpy(tensor) if hasattr(keras, "ops") else np.asarray(tf.convert_to_tensor(tensor))


def dtype_of(tensor):
    """The name of the dtype of a tensor or variable."""
    return getattr(tensor.dtype, "name", str(tensor.dtype)).split(".")[-1]


def gradients(loss, inputs, variables, jit=BACKEND == "jax"):
    """Gradients of a scalar on every backend, for tests.

    Args:
        loss: function of tensors that gives a scalar.
        inputs: list of NumPy arrays, what `loss` is called with.
        variables: list of Keras variables that `loss` reads.
        jit: whether XLA compiles loss and gradients; skips the test on PyTorch, which has none. JAX does unless told
            otherwise: compiling each operation of a gradient on its own takes much longer.

    Returns:
        NumPy arrays for the inputs, then for the variables; zeros where `loss` does not depend on one.
    """
    if BACKEND == "tensorflow":

        def differentiate(values):
            with tf.GradientTape() as tape:
                tape.watch(values)
                result = loss(*values)
            sources = [*values, *variables]
            found = tape.gradient(result, sources)
            return [tf.zeros(at.shape) if one is None else tf.convert_to_tensor(one) for one, at in zip(found, sources)]

        differentiate = tf.function(differentiate, jit_compile=True) if jit else differentiate
        return [array(gradient) for gradient in differentiate(tensors(inputs))]
    if BACKEND == "jax":

        def pure(values, weights):
            with keras.StatelessScope(state_mapping=zip(variables, weights)):
                return loss(*values)

        differentiate = jax.grad(pure, argnums=(0, 1))
        differentiate = jax.jit(differentiate) if jit else differentiate
        found = differentiate(tensors(inputs), [variable.value for variable in variables])
        return [array(gradient) for gradient in flatten(found)]
    if jit:
        pytest.skip("PyTorch has no XLA")
    with record_gradients(True):
        values = [tensor.requires_grad_() for tensor in tensors(inputs)]
        sources = [*values, *(variable.value for variable in variables)]
        found = torch.autograd.grad(loss(*values), sources, allow_unused=True, materialize_grads=True)
    return [array(gradient) for gradient in found]


def differentiate(loss, tensor):
    """The gradient of a scalar function at a tensor, itself a tensor that may be differentiated."""
    if BACKEND == "jax":
        return jax.grad(loss)(tensor)
    if BACKEND == "torch":
        return torch.autograd.grad(loss(tensor), tensor, create_graph=True)[0]
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        result = loss(tensor)
    return tape.gradient(result, tensor)


def compiled(call, layer=None):
    """`call`, a function of tensors that may call `layer`, under XLA; skips the test on PyTorch, which has none."""
    if BACKEND == "jax" and layer is None:
        return jax.jit(call)
    if BACKEND == "torch":
        pytest.skip("PyTorch has no XLA")
    if BACKEND == "tensorflow":
        return tf.function(call, jit_compile=True)

    @jax.jit
    def pure(values, *inputs):
        with keras.StatelessScope(state_mapping=zip(layer.variables, values)) as scope:
            outputs = call(*inputs)
        return outputs, [scope.get_current_value(variable) for variable in layer.variables]

    def run(*inputs):
        outputs, values = pure([variable.value for variable in layer.variables], *inputs)
        for variable, value in zip(layer.variables, values):
            variable.assign(value)
        return outputs

    return run


@functools.lru_cache(maxsize=1)
def mirrored_strategy():
    """Two replicas on two logical CPUs: one object a process, since collectives of two would disturb each other."""
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


def randomize_weights(layer, seed=0):
    """Gives all weights values that they do not start at; what a layer keeps beside them stays positive."""
    rng = np.random.default_rng(seed)
    trainable = {id(weight) for weight in layer.trainable_weights}
    for weight in layer.weights:
        if id(weight) in trainable:
            weight.assign(rng.normal(size=weight.shape))
        elif "float" in str(weight.dtype):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))


def per_replica(strategy, values):
    """Gives replica r the r-th of `values`, numpy arrays or lists of them."""
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.nest.map_structure(tf.constant, values[context.replica_id_in_sync_group])
    )


def assert_close(actual, expected, **tolerance):
    """`np.testing.assert_allclose` on tensors, or on nests of them."""
    actual, expected = flatten(actual), flatten(expected)
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        np.testing.assert_allclose(array(one), array(other), **tolerance)


def check_layer_contract(layer_class, init_kwargs, inputs, call_kwargs=None):
    """Checks a layer at inference: its configuration, its saved forms, jit, two replicas, and its symbolic shape.

    Args:
        layer_class: the class.
        init_kwargs: arguments of its constructor.
        inputs: numpy array, or list of them, of an even batch size.
        call_kwargs: further arguments of each call, or None.
    """
    config = layer_class(**init_kwargs).get_config()

    def make():
        return layer_class.from_config(copy.deepcopy(config))

    layer = make()
    call = functools.partial(layer, **(call_kwargs or {}))
    call(tensors(inputs))
    randomize_weights(layer)
    expected = call(tensors(inputs))

    _check_config(layer, make(), config)
    if BACKEND != "torch":
        assert_close(compiled(call, layer)(tensors(inputs)), expected, rtol=1e-5, atol=1e-5)
    if BACKEND == "tensorflow":
        _check_replicas(layer, make, call_kwargs or {}, inputs, expected)
    model = _model(call, inputs)
    _check_symbolic_shape(model, expected)
    with tempfile.TemporaryDirectory() as folder:
        _check_keras_file(model, os.path.join(folder, "model.keras"), inputs, expected)
        twin = _model(functools.partial(make(), **(call_kwargs or {})), inputs)
        _check_weights_file(model, twin, os.path.join(folder, "model.weights.h5"), inputs, expected)
        if BACKEND == "tensorflow":
            _check_saved_model(layer, call, os.path.join(folder, "saved_model"), inputs, expected)


def _model(call, inputs):
    symbolic = map_nest(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), inputs)
    return keras.Model(symbolic, call(symbolic))


def _arguments(config):
    """`config` without what Keras adds to a layer inside of it once that is built."""
    if isinstance(config, dict):
        return {key: _arguments(value) for key, value in config.items() if key != "build_config"}
    return config


def _check_config(layer, unbuilt, config):
    names = set(inspect.signature(type(layer).__init__).parameters) - {"self", "kwargs"}
    assert names <= set(config), f"no argument of the constructor is missing in the configuration: {names}"
    assert unbuilt.get_config() == config
    assert _arguments(layer.get_config()) == _arguments(config)
    assert _arguments(type(layer).from_config(layer.get_config()).get_config()) == _arguments(config)
    assert json.loads(json.dumps(config))["name"] == layer.name


def _check_replicas(layer, make, call_kwargs, inputs, expected):
    strategy = mirrored_strategy()
    halves = [map_nest(lambda x, part=part: np.split(x, 2)[part], inputs) for part in (0, 1)]
    with strategy.scope():
        twin = make()
        twin.build(map_nest(lambda x: tf.TensorShape(x.shape), inputs))
    for mine, theirs in zip(twin.weights, layer.weights):
        mine.assign(np.asarray(theirs))

    @tf.function
    def run(values):
        return strategy.run(lambda x: tf.nest.flatten(twin(x, **call_kwargs)), args=(values,))

    outputs = run(per_replica(strategy, halves))
    outputs = [tf.concat(strategy.experimental_local_results(parts), 0) for parts in outputs]
    assert_close(outputs, expected, rtol=1e-5, atol=1e-5)


def _check_symbolic_shape(model, expected):
    for symbolic, real in zip(model.outputs, flatten(expected)):
        assert tuple(symbolic.shape) == (None, *real.shape[1:])
        assert dtype_of(symbolic) == dtype_of(real)


def _check_keras_file(model, path, inputs, expected):
    model.save(path)
    assert_close(keras.models.load_model(path)(inputs), expected, rtol=1e-6, atol=1e-6)


def _check_weights_file(model, twin, path, inputs, expected):
    model.save_weights(path)
    twin.load_weights(path)
    for mine, theirs in zip(twin.weights, model.weights):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
    assert_close(twin(inputs), expected, rtol=1e-6, atol=1e-6)


def _check_saved_model(layer, call, path, inputs, expected):
    module = tf.Module()
    module.layer = layer
    signature = map_nest(lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), inputs)
    module.serve = tf.function(call, input_signature=[signature])
    tf.saved_model.save(module, path)
    reloaded = tf.saved_model.load(path)
    assert_close(reloaded.serve(tensors(inputs)), expected, rtol=1e-5, atol=1e-6)
