"""The kernel of a wrapped layer is its variable at every instant, whoever looks at it and whoever calls."""

import threading

import numpy as np
import pytest

from keras_an.backend import keras
from keras_an.layers import SpectralNormalization
from layer_test_case import array, compiled, randomize_weights, tensors

FEATURES = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)


def interrupted(between):
    """A wrapped dense layer in the midst of whose calls `between(wrapper)` runs, and `FEATURES` times its kernel."""

    class Interrupted(keras.layers.Dense):
        def call(self, inputs):
            between(layer)
            return super().call(inputs)

    layer = SpectralNormalization(Interrupted(5, use_bias=False, name="dense"))
    layer.build(FEATURES.shape)
    randomize_weights(layer)
    for _ in range(50):
        layer._normalized_kernel("kernel", training=True)
    kernel = np.asarray(layer.layer.kernel, np.float64)
    return layer, FEATURES @ kernel / np.linalg.svd(kernel, compute_uv=False)[0]


@pytest.mark.parametrize("jit", [False, True])
def test_the_kernel_is_a_variable_in_the_midst_of_a_call(jit):
    seen = []
    layer, expected = interrupted(lambda layer: seen.append(layer.layer.kernel))
    weight = layer.layer.kernel
    outputs = (compiled(layer, layer) if jit else layer)(tensors(FEATURES))
    assert seen and all(kernel is weight for kernel in seen)
    np.testing.assert_allclose(array(outputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_another_thread_may_call_in_the_midst_of_a_call(jit):
    outputs = []

    def call_in_another_thread(layer):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: outputs.append(call(layer)(tensors(FEATURES))))
            thread.start()
            thread.join()

    def call(layer):
        return compiled(layer, layer) if jit else layer

    layer, expected = interrupted(call_in_another_thread)
    outputs.append(call(layer)(tensors(FEATURES)))
    assert len(outputs) >= 2
    for one in outputs:
        np.testing.assert_allclose(array(one), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_four_threads_may_call_one_model(training):
    model = keras.Sequential([keras.Input((6, 6, 3))])
    for _ in range(4):
        model.add(SpectralNormalization(keras.layers.Conv2D(4, 3, padding="same"), power_iterations=2))
    images = tensors(np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32))
    randomize_weights(model)
    for _ in range(50):
        expected = array(model(images, training=True))
    weights = model.trainable_weights
    start, outputs = threading.Barrier(4), []

    def call():
        start.wait()
        outputs.extend(array(model(images, training=training)) for _ in range(15))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outputs) == 60
    for one in outputs:
        np.testing.assert_allclose(one, expected, rtol=1e-3, atol=1e-4)
    assert len(weights) == 8 and all(one is other for one, other in zip(model.trainable_weights, weights))


def test_what_a_call_sets_on_itself_it_sets_on_the_layer():
    class Counting(keras.layers.Dense):
        def call(self, inputs):
            self.number_of_calls = getattr(self, "number_of_calls", 0) + 1
            return super().call(inputs)

    layer = SpectralNormalization(Counting(5))
    layer(FEATURES)
    before = layer.layer.number_of_calls
    layer(FEATURES)
    assert layer.layer.number_of_calls == before + 1
