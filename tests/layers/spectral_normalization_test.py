"""Spectral normalisation against NumPy's singular values, and what it leaves alone.

The file is long because every kind of layer that can be wrapped is tried.
"""

import functools
import warnings

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import AttentiveNormalization, SelfAttention, SpectralNormalization
from layer_test_case import (
    BACKEND,
    array,
    check_layer_contract,
    compiled,
    dtype_of,
    gradients,
    per_replica,
    randomize_weights,
    tensors,
)

LAYERS = {
    "dense": (lambda: keras.layers.Dense(5), np.float32, (4, 6), "kernel"),
    "conv": (lambda: keras.layers.Conv2D(5, 3, strides=2), np.float32, (4, 6, 6, 3), "kernel"),
    "embedding": (lambda: keras.layers.Embedding(7, 5), np.int32, (4,), "embeddings"),
}


def inputs_for(name):
    _, dtype, shape, _ = LAYERS[name]
    return (np.random.default_rng(0).uniform(0, 7, size=shape)).astype(dtype)


def converged(name, calls=100):
    """A layer after many training calls, its inputs and its stored kernel."""
    make, _, _, attribute = LAYERS[name]
    layer = SpectralNormalization(make())
    x = tensors(inputs_for(name))
    layer(x)
    randomize_weights(layer)
    for _ in range(calls):
        layer(x, training=True)
    return layer, x, np.asarray(getattr(layer.layer, attribute), np.float64)


def largest_singular_value(kernel):
    return np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]


def vector_of(layer, name="kernel"):
    return np.asarray(getattr(layer, f"{name}_u"))


@pytest.mark.parametrize("name", LAYERS)
def test_contract(name):
    check_layer_contract(SpectralNormalization, {"layer": LAYERS[name][0](), "power_iterations": 2}, inputs_for(name))


@pytest.mark.parametrize("wrapped", [AttentiveNormalization(3, seed=1), SelfAttention()])
def test_contract_of_attention(wrapped):
    x = np.random.default_rng(0).normal(size=(4, 4, 4, 8)).astype(np.float32)
    check_layer_contract(SpectralNormalization, {"layer": wrapped}, x)


@pytest.mark.parametrize("name", LAYERS)
def test_kernel_is_divided_by_its_largest_singular_value(name):
    layer, x, kernel = converged(name)
    plain = LAYERS[name][0]()
    plain.build(x.shape)
    for mine, theirs in zip(plain.weights, layer.layer.weights):
        mine.assign(np.asarray(theirs))
    plain.weights[0].assign(kernel / largest_singular_value(kernel))
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("power_iterations", [1, 3, np.int64(2)])
def test_one_call_makes_that_many_power_iterations(power_iterations):
    layer = SpectralNormalization(keras.layers.Dense(5, use_bias=False), power_iterations)
    assert type(layer.get_config()["power_iterations"]) is int
    eye = np.eye(6, dtype=np.float32)
    layer(eye)
    kernel, u = np.asarray(layer.layer.kernel, np.float64), vector_of(layer)[0].astype(np.float64)
    for _ in range(power_iterations):
        v = kernel @ u / np.linalg.norm(kernel @ u)
        u = v @ kernel / np.linalg.norm(v @ kernel)
    np.testing.assert_allclose(layer(eye, training=True), kernel / (v @ kernel @ u), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(vector_of(layer)[0], u, rtol=1e-4, atol=1e-5)


def test_iterations_of_later_calls_go_on_from_the_last():
    layer, _, kernel = converged("dense", calls=50)
    _, _, rows = np.linalg.svd(kernel)
    assert abs(vector_of(layer)[0] @ rows[0]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_the_stored_kernel_is_never_changed(name):
    make, _, _, attribute = LAYERS[name]
    layer = SpectralNormalization(make())
    x = inputs_for(name)
    layer(x)
    weight = getattr(layer.layer, attribute)
    before = np.array(weight)
    calls = [layer, lambda x: layer(x, training=True)]
    if BACKEND != "torch":
        calls.append(compiled(calls[-1], layer))
    for call in calls:
        call(tensors(x))
        assert getattr(layer.layer, attribute) is weight
        np.testing.assert_array_equal(np.asarray(weight), before)


def test_the_stored_kernel_is_back_after_an_error():
    layer = SpectralNormalization(keras.layers.Dense(5))
    layer(np.ones((2, 6), np.float32))
    weight = layer.layer.kernel
    with pytest.raises(Exception, match=r"incompatible|shape|Matrix"):
        layer(np.ones((2, 7), np.float32))
    assert layer.layer.kernel is weight


def test_u_moves_in_training_alone():
    layer = SpectralNormalization(keras.layers.Dense(5))
    x = inputs_for("dense")
    layer(x)
    start = vector_of(layer)
    layer(x, training=False)
    np.testing.assert_array_equal(vector_of(layer), start)
    layer(x, training=True)
    assert np.abs(vector_of(layer) - start).max() > 1e-3


def test_only_the_wrapped_layers_weights_are_trained():
    layer = SpectralNormalization(keras.layers.Dense(5))
    layer(inputs_for("dense"))
    assert [tuple(weight.shape) for weight in layer.trainable_weights] == [(6, 5), (5,)]
    assert [tuple(weight.shape) for weight in layer.non_trainable_weights] == [(1, 5)]


@pytest.mark.parametrize("name", LAYERS)
def test_gradient_flows_through_sigma(name):
    """Against finite differences of `W -> loss(W / sigma(W))`, sigma the exact singular value.

    The plain layers are linear in W, so `loss(W) = sum(slope * W)`, slope their gradient.
    """
    layer, x, kernel = converged(name)
    plain = LAYERS[name][0]()
    weighting = tensors(np.random.default_rng(1).normal(size=plain(x).shape).astype(np.float32))

    def gradient_of(layer):
        (gradient,) = gradients(lambda: ops.sum(layer(x) * weighting), [], layer.trainable_weights[:1])
        return gradient.astype(np.float64)

    slope = gradient_of(plain)

    def value(kernel):
        return np.sum(slope * kernel) / largest_singular_value(kernel)

    expected = np.zeros(kernel.shape)
    for index in np.ndindex(*kernel.shape):
        step = np.zeros(kernel.shape)
        step[index] = 1e-5
        expected[index] = (value(kernel + step) - value(kernel - step)) / 2e-5
    np.testing.assert_allclose(gradient_of(layer), expected, rtol=1e-3, atol=1e-3)


def test_gradient_of_a_call_is_orthogonal_to_the_kernel():
    """W / sigma(W) does not change with the length of W, so no gradient points along W."""
    layer, x, kernel = converged("conv")
    (gradient,) = gradients(lambda: ops.sum(ops.square(layer(x, training=True))), [], layer.trainable_weights[:1])
    gradient = gradient.astype(np.float64)
    assert np.linalg.norm(gradient) > 1e-2
    assert abs(np.sum(gradient * kernel)) < 1e-4 * np.linalg.norm(gradient) * np.linalg.norm(kernel)


@pytest.mark.parametrize(
    "wrapped, names",
    [
        (AttentiveNormalization(3, value_projection=True), ["key_kernel", "query_kernel", "value_kernel"]),
        (SelfAttention(), ["key_kernel", "output_kernel", "query_kernel", "value_kernel"]),
    ],
)
def test_all_projections_of_attention_are_normalized(wrapped, names):
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype(np.float32)
    layer = SpectralNormalization(type(wrapped).from_config(wrapped.get_config()))
    layer(x)
    randomize_weights(layer)
    for _ in range(100):
        layer(x, training=True)
    plain = type(wrapped).from_config(wrapped.get_config())
    plain(x)
    for mine, theirs in zip(plain.weights, layer.layer.weights):
        mine.assign(np.asarray(theirs))
    for name in names:
        kernel = np.asarray(getattr(layer.layer, name), np.float64)
        assert vector_of(layer, name).shape == (1, kernel.shape[-1])
        getattr(plain, name).assign(kernel / largest_singular_value(kernel))
    assert len(layer.non_trainable_weights) - len(layer.layer.non_trainable_weights) == len(names)
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-3, atol=1e-4)


def test_training_reaches_the_wrapped_layer():
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)
    layer = SpectralNormalization(AttentiveNormalization(3))
    layer(x)
    randomize_weights(layer)
    first, second = (np.asarray(layer(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(layer(x, training=False), layer(x, training=False))


def test_further_arguments_reach_the_wrapped_layer():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype(np.float32)
    layer = SpectralNormalization(AttentiveNormalization(3))
    outputs, layout = layer(x, return_layout=True)
    assert tuple(outputs.shape) == x.shape and tuple(layout.shape) == (2, 4, 4, 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", LAYERS)
def test_mixed_precision_keeps_state_in_float32(name, dtype):
    keras.mixed_precision.set_global_policy(f"mixed_{dtype}")
    make, _, _, attribute = LAYERS[name]
    layer = SpectralNormalization(make())
    x = inputs_for(name)
    assert dtype_of(layer(x, training=True)) == dtype
    assert {dtype_of(weight) for weight in layer.weights} == {"float32"}
    assert np.isfinite(vector_of(layer, attribute)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("policy_of", ["both", "wrapped"])
def test_mixed_precision_keeps_kernels_of_attentive_normalization_in_float32(policy_of, dtype):
    """That layer computes in float32 whatever its policy is; its kernels must not be rounded, nor refused."""
    if policy_of == "both":
        keras.mixed_precision.set_global_policy(f"mixed_{dtype}")
    wrapped = AttentiveNormalization(3, value_projection=True, seed=1, dtype=f"mixed_{dtype}")
    layer = SpectralNormalization(wrapped)
    x = tensors(np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype(np.float32))
    assert dtype_of(layer(x, training=True)) == dtype
    kernel = np.asarray(wrapped.value_kernel)
    normalized = layer._normalized_kernel("value_kernel", training=False)
    assert dtype_of(normalized) == "float32"
    ratio = kernel / np.asarray(normalized)
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-5)


def test_u_is_equal_on_replicas_with_jit(tf, mirrored):
    with mirrored.scope():
        layer = SpectralNormalization(keras.layers.Dense(5))
        layer.build(tf.TensorShape((None, 6)))
    start, kernel = vector_of(layer), np.asarray(layer.layer.kernel, np.float64)
    inner = tf.function(lambda x: layer(x, training=True), jit_compile=True)

    @tf.function
    def run(x):
        # Passed as it is, the strategy would place the compiled function on the first device.
        return mirrored.run(lambda x: inner(x), args=(x,))

    for seed in range(3):
        run(per_replica(mirrored, np.random.default_rng(seed).normal(size=(2, 4, 6)).astype(np.float32)))
    read = mirrored.run(tf.function(lambda: tf.convert_to_tensor(layer.kernel_u)))
    first, second = mirrored.experimental_local_results(read)
    np.testing.assert_array_equal(first, second)
    expected = start.astype(np.float64)
    for _ in range(3):
        expected = expected @ kernel.T @ kernel
    np.testing.assert_allclose(first, expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_power_iterations_must_be_positive(value):
    message = rf"`power_iterations` must be a positive integer\. Received: power_iterations={value!r}"
    with pytest.raises(ValueError, match=message):
        SpectralNormalization(keras.layers.Dense(5), power_iterations=value)


def test_a_layer_without_kernel_is_an_error():
    with pytest.raises(ValueError, match=r"Received: layer='activation' of type ReLU"):
        SpectralNormalization(keras.layers.ReLU(name="activation"))(np.ones((2, 6), np.float32))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_kernel_of_zeros_gives_zeros_and_trains(name, training):
    make, _, _, attribute = LAYERS[name]
    layer, x = SpectralNormalization(make()), tensors(inputs_for(name))
    layer(x)
    weight, start = getattr(layer.layer, attribute), vector_of(layer, attribute)
    weight.assign(np.zeros(weight.shape))
    np.testing.assert_array_equal(array(layer(x, training=training)), 0)
    np.testing.assert_array_equal(vector_of(layer, attribute), start)
    (gradient,) = gradients(lambda: ops.sum(layer(x, training=training)), [], [weight])
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0.1
    weight.assign(-0.01 * gradient)
    outputs = array(layer(x, training=training))
    assert np.isfinite(outputs).all() and np.abs(outputs).max() > 0.01


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("name", LAYERS)
def test_the_scale_of_a_kernel_plays_no_part(name, scale):
    layer, x, kernel = converged(name)
    expected = array(layer(x))
    getattr(layer.layer, LAYERS[name][3]).assign(scale * kernel)
    np.testing.assert_allclose(array(layer(x)), expected, rtol=1e-4, atol=1e-5)


def test_training_is_handed_to_layers_that_take_it_alone():
    seen = []

    class Plain(keras.layers.Dense):
        def __call__(self, inputs, **kwargs):
            seen.append(kwargs)
            return super().__call__(inputs, **kwargs)

    class Doubled(Plain):
        def call(self, inputs):
            training = 2.0
            return super().call(training * inputs)

    class Decorated(Plain):
        @functools.wraps(lambda self, inputs, training=None: None)
        def call(self, *args, **kwargs):
            return keras.layers.Dense.call(self, args[0])

    for layer in (Doubled(5), Decorated(5)):
        SpectralNormalization(layer)(inputs_for("dense"), training=False)
    assert seen == [{}, {"training": False}]


def quantizable(layer):
    """A model of a wrapped layer and a plain one, and its inputs."""
    if not hasattr(keras.Model, "quantize"):
        pytest.skip("Keras 2 quantises no models")
    model = keras.Sequential([keras.Input((6,)), SpectralNormalization(layer), keras.layers.Dense(4, name="plain")])
    return model, np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)


def test_quantization_leaves_wrapped_layers_as_they_are():
    model, x = quantizable(keras.layers.Dense(5))
    hidden, expected = array(model.layers[0](x)), array(model(x))
    with pytest.warns(UserWarning, match=r"`quantize` would change the kernel .* Received: layer='dense"):
        model.quantize("int8")
    np.testing.assert_array_equal(array(model.layers[0](x)), hidden)
    np.testing.assert_allclose(array(model(x)), expected, atol=0.1)
    assert model.get_layer("plain").quantization_mode == "int8"


def test_lora_is_refused():
    model, x = quantizable(keras.layers.Dense(5))
    expected = array(model(x))
    with pytest.raises(NotImplementedError, match=r"`enable_lora` would change the kernel .* Received: layer='dense"):
        model.layers[0].layer.enable_lora(2)
    np.testing.assert_array_equal(array(model(x)), expected)


@pytest.mark.parametrize("change", [lambda layer: layer.quantize("int8"), lambda layer: layer.enable_lora(2)])
def test_a_layer_that_was_changed_before_is_an_error(change):
    layer = keras.layers.Dense(5, name="dense")
    layer.build((None, 6))
    if not hasattr(layer, "quantize"):
        pytest.skip("Keras 2 has neither quantisation nor LoRA")
    change(layer)
    with pytest.raises(ValueError, match=r"is not quantised and has no LoRA enabled\. Received: layer='dense'"):
        SpectralNormalization(layer)(inputs_for("dense"))


@pytest.mark.parametrize("num_frames", [3, None])
@pytest.mark.parametrize("name", LAYERS)
def test_time_distributed_takes_every_frame_alone(name, num_frames):
    make, dtype, shape, _ = LAYERS[name]
    shape = (*shape, 2) if name == "embedding" else shape
    frames = np.random.default_rng(0).uniform(0, 7, size=(2, 3, *shape[1:])).astype(dtype)
    layer = SpectralNormalization(make())
    inputs = keras.Input((num_frames, *shape[1:]), dtype=dtype.__name__)
    model = keras.Model(inputs, keras.layers.TimeDistributed(layer)(inputs))
    randomize_weights(layer)
    assert tuple(model.output.shape)[2:] == tuple(layer(frames[:, 0]).shape)[1:]
    for training in (False, True):
        outputs = array(model(tensors(frames), training=training))
    assert np.isfinite(outputs).all()
    outputs = array(model(tensors(frames), training=False))
    for index in range(3):
        np.testing.assert_allclose(outputs[:, index], array(layer(frames[:, index])), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_output_shape_is_the_wrapped_layers(name):
    make, _, shape, _ = LAYERS[name]
    layer = SpectralNormalization(make())
    layer.build(shape)
    assert tuple(layer.compute_output_shape((None, *shape[1:]))) == (None, *array(layer(inputs_for(name))).shape[1:])


def test_symbolic_outputs_have_the_wrapped_layers_dtype():
    layer = SpectralNormalization(keras.layers.Dense(5, dtype="mixed_bfloat16"))
    assert dtype_of(layer(keras.Input((6,)))) == dtype_of(layer(inputs_for("dense"))) == "bfloat16"


def test_symbolic_outputs_are_as_many_as_the_wrapped_layers():
    outputs, layout = SpectralNormalization(AttentiveNormalization(3))(keras.Input((4, 4, 8)), return_layout=True)
    assert tuple(outputs.shape) == (None, 4, 4, 8) and tuple(layout.shape) == (None, 4, 4, 3)


def test_a_wrong_number_of_channels_is_an_error():
    layer = SpectralNormalization(keras.layers.Dense(5), name="wrapper")
    layer(inputs_for("dense"))
    with pytest.raises(ValueError, match=r"layer .wrapper. is incompatible .* expected axis -1 .* value 6"):
        layer(np.ones((2, 7), np.float32))


def test_a_wrong_rank_is_an_error_before_anything_is_built():
    layer = SpectralNormalization(keras.layers.Conv2D(5, 3), name="wrapper")
    with pytest.raises(ValueError, match=r"layer .wrapper. is incompatible .* expected min_ndim=4"):
        layer(np.ones((2, 6, 3), np.float32))
    assert not layer.layer.built
    assert tuple(layer(np.ones((2, 6, 6, 3), np.float32)).shape) == (2, 4, 4, 5)


def test_masks_go_through_where_the_wrapped_layer_lets_them():
    """Steps of padding change nothing of what a recurrent layer makes of the others, and no warning is given."""
    tokens = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]], np.int32)
    embed = SpectralNormalization(keras.layers.Embedding(7, 4, mask_zero=True))
    dense, last = SpectralNormalization(keras.layers.Dense(4)), keras.layers.LSTM(3)
    inputs = keras.Input((5,), dtype="int32")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*mask")
        model = keras.Model(inputs, last(dense(embed(inputs))))
        randomize_weights(model)
        outputs = array(model(tensors(tokens)))
    assert not SpectralNormalization(keras.layers.Conv2D(5, 3)).supports_masking
    for row, length in enumerate((3, 2)):
        expected = array(last(dense(embed(tensors(tokens[row : row + 1, :length])))))
        np.testing.assert_allclose(outputs[row : row + 1], expected, rtol=1e-4, atol=1e-5)
