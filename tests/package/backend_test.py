"""The seam: the same functions on every Keras."""

import ast
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_an import backend
from keras_an.backend import SeedGenerator, add_replica_state, keras, ops, random_uniform, take_rows
from layer_test_case import differentiate, dtype_of, gradients, per_replica, tensors

PACKAGE = pathlib.Path(backend.__file__).parent
X = np.array([[0.5, -1.5, 2.0], [3.0, 0.25, -0.75]], np.float32)
POSITIVE = np.abs(X)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


CONVOLVED = np.array([np.sum(X[:, i : i + 2] * X[:, :2]) for i in (0, 1)]).reshape(1, 1, 2, 1)
VALUES = {
    "abs": ((X,), {}, np.abs(X)),
    "all": ((X < 2.5,), {}, False),
    "arange": ((4,), {}, np.arange(4)),
    "average_pool": ((X[:, :2].reshape(1, 2, 2, 1), 2, 2, "valid", "channels_last"), {}, [[[[0.5625]]]]),
    "broadcast_to": ((X[:1], (4, 3)), {}, np.broadcast_to(X[:1], (4, 3))),
    "cast": ((X, "int32"), {}, X.astype(np.int32)),
    "clip": ((X, 0.0, 1.0), {}, np.clip(X, 0, 1)),
    "concatenate": (([X, X], -1), {}, np.concatenate([X, X], -1)),
    "cond": ((X[0, 0] > 0, lambda: X, lambda: -X), {}, X),
    "conv": ((X.reshape(1, 2, 3, 1), X[:, :2].reshape(2, 2, 1, 1), 1, "valid", "channels_last"), {}, CONVOLVED),
    "conv_transpose": (
        (X[:, :2].reshape(1, 2, 2, 1), X[:, :2].reshape(2, 2, 1, 1), 2, "same"),
        {"data_format": "channels_last"},
        np.kron(X[:, :2], X[:, :2]).reshape(1, 4, 4, 1),
    ),
    "convert_to_tensor": ((X,), {}, X),
    "cumsum": ((X,), {"axis": -1}, np.cumsum(X, -1)),
    "einsum": (("ij,kj->ik", X, X), {}, X @ X.T),
    "exp": ((X,), {}, np.exp(X)),
    "eye": ((3,), {"dtype": "float32"}, np.eye(3)),
    "log": ((POSITIVE,), {}, np.log(POSITIVE)),
    "matmul": ((X, X.T), {}, X @ X.T),
    "max": ((X,), {"axis": -1}, X.max(-1)),
    "maximum": ((X, 0.0), {}, np.maximum(X, 0)),
    "max_pool": ((X[:, :2].reshape(1, 2, 2, 1), 2, 2, "valid", "channels_last"), {}, [[[[3.0]]]]),
    "mean": ((X,), {"axis": 1, "keepdims": True}, X.mean(1, keepdims=True)),
    "minimum": ((X, 0.0), {}, np.minimum(X, 0)),
    "mod": ((np.array([5, 7]), 3), {}, [2, 1]),
    "moveaxis": ((X[None], 1, -1), {}, np.moveaxis(X[None], 1, -1)),
    "ones": (((2, 3),), {}, np.ones((2, 3))),
    "ones_like": ((X,), {}, np.ones((2, 3))),
    "relu": ((X,), {}, np.maximum(X, 0)),
    "reshape": ((X, (3, 2)), {}, X.reshape(3, 2)),
    "rsqrt": ((POSITIVE,), {}, POSITIVE**-0.5),
    "shape": ((X,), {}, (2, 3)),
    "softmax": ((X,), {"axis": -1}, softmax(X)),
    "sqrt": ((POSITIVE,), {}, np.sqrt(POSITIVE)),
    "square": ((X,), {}, X**2),
    "stop_gradient": ((X,), {}, X),
    "sum": ((X,), {"axis": -1}, X.sum(-1)),
    "take": ((X, np.array([1, 0, 1])), {"axis": 0}, X[[1, 0, 1]]),
    "transpose": ((X,), {}, X.T),
    "where": ((X > 0, X, 0.0), {}, np.maximum(X, 0)),
    "zeros": (((2, 3),), {}, np.zeros((2, 3))),
    "zeros_like": ((X,), {}, np.zeros((2, 3))),
}


def test_every_function_that_the_package_uses_is_here_and_tried():
    used = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ops":
                used.add(node.attr)
    assert "softmax" in used
    assert used <= set(VALUES)
    assert all(hasattr(ops, name) for name in used)


def test_tensorflow_is_imported_where_keras_2_runs_alone():
    """On Keras 3 the package itself imports none; which backend runs is Keras's choice."""

    def imports_tensorflow(node):
        imports = (child for child in ast.walk(node) if isinstance(child, ast.Import))
        return any(alias.name == "tensorflow" for child in imports for alias in child.names)

    body = ast.parse(pathlib.Path(backend.__file__).read_text(encoding="utf-8")).body
    (branch,) = (node for node in body if imports_tensorflow(node))
    assert isinstance(branch, ast.If) and ast.unparse(branch.test) == "IS_KERAS_3"
    assert not any(imports_tensorflow(node) for node in branch.body)


@pytest.mark.parametrize("name", VALUES)
def test_ops_compute_what_numpy_does(name):
    args, kwargs, expected = VALUES[name]
    args = [tensors(value) if isinstance(value, np.ndarray) else value for value in args]
    np.testing.assert_allclose(getattr(ops, name)(*args, **kwargs), expected, rtol=1e-5, atol=1e-6)


def test_shape_gives_what_is_unknown_as_a_tensor(tf):
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def run(x):
        shapes.append(ops.shape(x))
        return ops.shape(x)[0]

    assert int(run(tf.zeros((5, 3)))) == 5
    assert tf.is_tensor(shapes[0][0]) and shapes[0][1] == 3


def test_random_numbers_are_uniform_and_go_on():
    generator = SeedGenerator(3)
    first, second = (np.asarray(random_uniform((4000,), generator)) for _ in range(2))
    assert first.dtype == np.float32 and first.min() >= 0 and first.max() < 1
    assert abs(first.mean() - 0.5) < 0.03 and abs(first.var() - 1 / 12) < 0.01
    assert not np.array_equal(first, second)
    twin = SeedGenerator(3)
    np.testing.assert_array_equal(random_uniform((4000,), twin), first)
    assert not np.array_equal(random_uniform((4000,), SeedGenerator(4)), first)


def test_generators_without_a_seed_draw_apart():
    first, second = (np.asarray(random_uniform((8,), SeedGenerator())) for _ in range(2))
    assert not np.array_equal(first, second)


def test_random_numbers_go_on_inside_a_compiled_function(tf):
    generator = SeedGenerator(3)
    expected = [np.asarray(random_uniform((8,), generator)) for _ in range(2)]
    twin = SeedGenerator(3)
    draw = tf.function(lambda: random_uniform((8,), twin))
    np.testing.assert_array_equal([np.asarray(draw()) for _ in range(2)], expected)


ROWS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
INDICES = np.array([[4, 1, 1], [0, 4, 1]], np.int32)  # some twice and thrice, 2 and 3 never


def cubes(rows):
    """Of all rows, and of some that are taken, of which each counts double."""
    rows, taken = take_rows(rows, tensors(INDICES))
    return ops.sum(rows * ops.square(rows)) + 2.0 * ops.sum(taken * ops.square(taken))


def test_taken_rows_are_those_of_the_indices():
    rows, taken = take_rows(tensors(ROWS), tensors(INDICES))
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(taken, ROWS[INDICES])


@pytest.mark.parametrize("jit", [False, True])
def test_gradient_of_taken_rows_adds_to_that_of_all_rows(jit):
    """The first, and the gradient of its square, as a gradient penalty needs it."""
    times = 1.0 + 2.0 * np.bincount(INDICES.ravel(), minlength=5)[:, None]
    (first,) = gradients(cubes, [ROWS], [], jit=jit)
    np.testing.assert_allclose(first, times * 3.0 * ROWS**2, rtol=1e-5)
    (second,) = gradients(lambda rows: ops.sum(ops.square(differentiate(cubes, rows))), [ROWS], [], jit=jit)
    np.testing.assert_allclose(second, times**2 * 36.0 * ROWS**3, rtol=1e-5)


class Counter(keras.layers.Layer):
    """Counts its calls, on each replica."""

    def build(self, input_shape):
        self.count = add_replica_state(self, "count", (1,), "zeros")
        self.built = True

    def call(self, inputs):
        count = ops.convert_to_tensor(self.count) + 1.0
        self.count.assign(count)
        return inputs + ops.cast(count, inputs.dtype)


def test_replica_state_is_float32_and_not_trained():
    layer = Counter(dtype="mixed_bfloat16")
    assert dtype_of(layer(np.zeros((1, 1), np.float32))) == "bfloat16"
    assert not layer.trainable_weights
    assert [dtype_of(weight) for weight in layer.non_trainable_weights] == ["float32"]
    np.testing.assert_array_equal(layer.count, [1.0])


def test_replica_state_moves_inside_a_compiled_function_on_replicas(tf, mirrored):
    with mirrored.scope():
        layer = Counter()
        layer.build((None, 1))
    inner = tf.function(lambda x: layer(x), jit_compile=True)

    @tf.function
    def run(x):
        # Passed as it is, the strategy would place the compiled function on the first device.
        return mirrored.run(lambda x: inner(x), args=(x,))

    values = per_replica(mirrored, np.zeros((2, 1, 1), np.float32))
    run(values)
    first, second = mirrored.experimental_local_results(run(values))
    assert float(first[0, 0]) == float(second[0, 0]) == 2.0
    np.testing.assert_array_equal(layer.count, [2.0])


LEGACY = """
import numpy as np
import tensorflow as tf
import keras_an
from keras_an.backend import keras

assert keras is tf.keras or keras.__name__ == "tf_keras", keras
inputs = keras.Input((8, 8, 4))
layer = keras_an.layers.SpectralNormalization(keras_an.AttentiveNormalization(3, seed=1))
model = keras.Model(inputs, layer(inputs))
for weight in model.trainable_weights:
    if "residual_weight" in weight.name:
        weight.assign(1.0)
x = tf.random.stateless_normal((2, 8, 8, 4), (1, 2))
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(model(x, training=True) ** 2)
assert all(gradient is not None for gradient in tape.gradient(loss, model.trainable_weights))
model.save("model.keras")
np.testing.assert_allclose(keras.models.load_model("model.keras")(x), model(x), rtol=1e-5)
"""


def test_the_package_runs_on_tf_keras_where_asked(tmp_path):
    pytest.importorskip("tf_keras")
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", LEGACY]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
