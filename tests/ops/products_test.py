"""The products against NumPy's einsum in float64."""

import numpy as np
import pytest

from keras_an.backend import ops
from keras_an.layers import AttentiveNormalization, SelfAttention
from keras_an.ops.products import entity_products, mix, project, region_sums
from layer_test_case import BACKEND, compiled, gradients, tensors

SHAPES = {"values": (2, 7, 5), "layout": (2, 7, 3), "table": (2, 3, 5), "shared": (3, 5), "shift": (2, 1, 5)}


@pytest.fixture
def given():
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def check(function, arguments, expected, jit):
    found = (compiled(function) if jit else function)(*tensors(arguments))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_region_sums(given, jit):
    values, layout = (given[name].astype(np.float64) for name in ("values", "layout"))
    expected = np.einsum("bpn,bpc->bnc", layout, values)
    check(region_sums, [given["values"], given["layout"]], expected, jit)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("table, rule", [("table", "bpc,bnc->bpn"), ("shared", "bpc,nc->bpn")])
def test_entity_products(given, table, rule, jit):
    values, shift = (given[name].astype(np.float64) for name in ("values", "shift"))
    arguments = [given["values"], given[table]]
    check(entity_products, arguments, np.einsum(rule, values, given[table]), jit)
    check(entity_products, [*arguments, given["shift"]], np.einsum(rule, values - shift, given[table]), jit)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("table, rule", [("table", "bpn,bnc->bpc"), ("shared", "bpn,nc->bpc")])
def test_mix(given, table, rule, jit):
    check(mix, [given["layout"], given[table]], np.einsum(rule, given["layout"].astype(np.float64), given[table]), jit)


def test_project():
    """The gradient by the kernel is a sum over all rows; on TensorFlow none of each image or row of one is stored."""
    random = np.random.default_rng(1)
    features, kernel = random.normal(size=(2, 4, 7, 5)), random.normal(size=(5, 3))
    upstream = random.normal(size=(2, 4, 7, 3)).astype("float32")
    arguments = [features.astype("float32"), kernel.astype("float32")]
    check(project, arguments, features @ kernel, jit=True)
    found = gradients(lambda *taken: ops.sum(project(*taken) * tensors([upstream])[0]), arguments, [])
    np.testing.assert_allclose(found[0], upstream @ kernel.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], np.einsum("bhwi,bhwo->io", features, upstream), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="looks at TensorFlow's graph")
@pytest.mark.parametrize("make", [lambda: AttentiveNormalization(4, value_projection=True), SelfAttention])
def test_no_layer_stores_a_gradient_for_each_image(make):
    import tensorflow as tf

    layer, inputs = make(), tf.zeros((6, 8, 8, 5))
    layer(inputs)

    @tf.function
    def slopes(inputs):
        with tf.GradientTape() as tape:
            outputs = layer(inputs, training=True)
        return tape.gradient(outputs, layer.trainable_variables)

    kernels = {tuple(variable.shape) for variable in layer.trainable_variables if len(variable.shape) == 2}
    graph = slopes.get_concrete_function(inputs).graph
    shapes = {
        tuple(output.shape) for operation in graph.get_operations() for output in operation.outputs if output.shape.rank
    }
    assert not {shape for shape in shapes if len(shape) > 2 and shape[0] == 6 and shape[-2:] in kernels - {(4, 5)}}
