"""What every layer of the package keeps, whatever it computes."""

import copy
import functools
import inspect
import json
import os
import tempfile

import numpy as np
import tensorflow as tf

from keras_an.backend import keras


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
    actual, expected = tf.nest.flatten(actual), tf.nest.flatten(expected)
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), **tolerance)


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
    call(tf.nest.map_structure(tf.constant, inputs))
    randomize_weights(layer)
    expected = call(tf.nest.map_structure(tf.constant, inputs))

    _check_config(layer, make(), config)
    _check_jit(call, inputs, expected)
    _check_replicas(layer, make, call_kwargs or {}, inputs, expected)
    model = _model(call, inputs)
    _check_symbolic_shape(model, expected)
    with tempfile.TemporaryDirectory() as folder:
        _check_keras_file(model, os.path.join(folder, "model.keras"), inputs, expected)
        twin = _model(functools.partial(make(), **(call_kwargs or {})), inputs)
        _check_weights_file(model, twin, os.path.join(folder, "model.weights.h5"), inputs, expected)
        _check_saved_model(layer, call, os.path.join(folder, "saved_model"), inputs, expected)


def _model(call, inputs):
    symbolic = tf.nest.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), inputs)
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


def _check_jit(call, inputs, expected):
    compiled = tf.function(call, jit_compile=True)
    assert_close(compiled(tf.nest.map_structure(tf.constant, inputs)), expected, rtol=1e-5, atol=1e-5)


def _check_replicas(layer, make, call_kwargs, inputs, expected):
    strategy = mirrored_strategy()
    halves = [tf.nest.map_structure(lambda x, part=part: np.split(x, 2)[part], inputs) for part in (0, 1)]
    with strategy.scope():
        twin = make()
        twin.build(tf.nest.map_structure(lambda x: tf.TensorShape(x.shape), inputs))
    for mine, theirs in zip(twin.weights, layer.weights):
        mine.assign(np.asarray(theirs))

    @tf.function
    def run(values):
        return strategy.run(lambda x: tf.nest.flatten(twin(x, **call_kwargs)), args=(values,))

    outputs = run(per_replica(strategy, halves))
    outputs = [tf.concat(strategy.experimental_local_results(parts), 0) for parts in outputs]
    assert_close(outputs, expected, rtol=1e-5, atol=1e-5)


def _check_symbolic_shape(model, expected):
    for symbolic, real in zip(model.outputs, tf.nest.flatten(expected)):
        assert tuple(symbolic.shape) == (None, *real.shape[1:])
        assert tf.as_dtype(symbolic.dtype) == real.dtype


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
    signature = tf.nest.map_structure(lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), inputs)
    module.serve = tf.function(call, input_signature=[signature])
    tf.saved_model.save(module, path)
    reloaded = tf.saved_model.load(path)
    assert_close(reloaded.serve(tf.nest.map_structure(tf.constant, inputs)), expected, rtol=1e-5, atol=1e-6)
