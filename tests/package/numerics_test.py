"""What numbers the layers and losses take on every Keras: dtypes, extremes, nothing at all, and forward mode.

The file is long because each kind of number is tried on every layer and loss.
"""

import contextlib

import numpy as np
import pytest

from attentive_normalization_test_case import reference, weights_of
from keras_an import AttentiveNormalization, layers, losses, models
from keras_an.backend import IS_KERAS_3, keras, ops
from layer_test_case import BACKEND, array, compiled, dtype_of, gradients, randomize_weights, record_gradients, tensors

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
else:
    import torch

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(2, 4, 6, 8))
IMAGES = RNG.uniform(-1, 1, size=(2, 4, 6, 3))
MASKS = (RNG.uniform(size=(2, 4, 6, 1)) > 0.5).astype("float64")
SCORES = RNG.normal(size=(6, 1))
REAL = (np.arange(6)[:, None] % 2).astype("float64")

LAYERS = {
    "attentive_normalization": lambda: AttentiveNormalization(3, seed=1),
    "attentive_normalization_value": lambda: AttentiveNormalization(3, value_projection=True, seed=1),
    "attentive_normalization_released": lambda: AttentiveNormalization(3, statistics="released", seed=1),
    "nearest_upsampling": layers.NearestUpsampling,
    "conv2d": lambda: layers.Conv2D(3, 3, "up"),
    "self_attention": layers.SelfAttention,
    "spectral_normalization": lambda: layers.SpectralNormalization(keras.layers.Dense(4)),
    "known_pixels": layers.KnownPixels,
    "diffusion_fill": lambda: layers.DiffusionFill(smoothing_steps=2, num_levels=2, dtype=keras.backend.floatx()),
    "masked_mean": lambda: layers.MaskedMean(dtype=keras.backend.floatx()),
    "conditional_batch_normalization": lambda: layers.ConditionalBatchNormalization(3),
}
PAIRED_WITH = {
    "known_pixels": MASKS,
    "diffusion_fill": MASKS,
    "masked_mean": MASKS,
    "conditional_batch_normalization": np.array([2, 0], "int32"),
}
LOSSES = {
    "discriminator_hinge_loss": (
        lambda real, fake: losses.discriminator_hinge_loss(real, fake_logits=fake),
        [SCORES, SCORES[::-1].copy()],
    ),
    "generator_hinge_loss": (losses.generator_hinge_loss, [SCORES]),
    "critic_wasserstein_loss": (
        lambda real, fake: losses.critic_wasserstein_loss(real, fake_scores=fake),
        [SCORES, 2 * SCORES],
    ),
    "generator_wasserstein_loss": (losses.generator_wasserstein_loss, [SCORES]),
    "gradient_penalty": (lambda found, mask: losses.gradient_penalty(found, mask=mask), [IMAGES, MASKS]),
    "l1_loss": (losses.l1_loss, [IMAGES, IMAGES[::-1].copy(), MASKS]),
    "id_mrf_loss": (losses.id_mrf_loss, [FEATURES, FEATURES[::-1].copy()]),
    "discriminator_hinge_loss_of_fit": (
        lambda *args: ops.sum(losses.DiscriminatorHingeLoss().call(*args)),
        [REAL, SCORES],
    ),
    "critic_wasserstein_loss_of_fit": (
        lambda *args: ops.sum(losses.CriticWassersteinLoss().call(*args)),
        [REAL, SCORES],
    ),
}


@contextlib.contextmanager
def floatx(dtype):
    """Keras's default dtype; on JAX with the 64 bits that it otherwise leaves out."""
    before, policy = keras.backend.floatx(), keras.mixed_precision.global_policy()
    keras.backend.set_floatx(dtype)
    keras.mixed_precision.set_global_policy(dtype)
    if BACKEND == "jax":
        jax.config.update("jax_enable_x64", dtype == "float64")
    try:
        yield
    finally:
        keras.backend.set_floatx(before)
        keras.mixed_precision.set_global_policy(policy)
        if BACKEND == "jax":
            jax.config.update("jax_enable_x64", False)


def inputs_of(name, features, dtype):
    features = features.astype(dtype) if dtype != "bfloat16" else array(ops.cast(features.astype("float32"), dtype))
    if name not in PAIRED_WITH:
        return tensors(features)
    return tensors([features, PAIRED_WITH[name][: len(features)]])


# Dtypes.


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_layers_train_in_any_floatx(name, dtype):
    with floatx(dtype):
        layer = LAYERS[name]()
        outputs = layer(inputs_of(name, FEATURES, dtype), **training_of(layer))
        assert dtype_of(outputs) == (
            "float32" if dtype == "float16" and name in ("masked_mean", "diffusion_fill") else dtype
        )
        assert np.isfinite(array(ops.cast(outputs, "float32"))).all()


def training_of(layer):
    return {"training": True} if "training" in type(layer).call.__code__.co_varnames else {}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("through", ["floatx", "dtype"])
def test_layers_compute_in_float64(name, through):
    """A difference over a step that float32 does not see at all is the slope."""
    if BACKEND != "tensorflow" and name in ("conditional_batch_normalization", "spectral_normalization"):
        pytest.skip("Keras's own layers compute float64 in float32 on JAX and PyTorch")
    if through == "dtype" and (BACKEND == "jax" or name == "spectral_normalization"):
        pytest.skip("JAX has 64 bits in the whole process alone; a wrapper's dtype is not the wrapped layer's")
    with floatx("float64") if through == "floatx" else contextlib.nullcontext():
        layer = LAYERS[name]()
        if through == "dtype":
            layer = type(layer).from_config({**layer.get_config(), "dtype": "float64"})
        outputs = array(layer(inputs_of(name, FEATURES, "float64")))
        randomize_weights(layer)
        rng = np.random.default_rng(1)
        direction, weighting = rng.normal(size=FEATURES.shape), rng.normal(size=outputs.shape)

        def value(features):
            paired = [] if name not in PAIRED_WITH else tensors([PAIRED_WITH[name]])
            return ops.sum(layer([features, *paired] if paired else features) * tensors(weighting))

        (found,) = gradients(value, [FEATURES], [])
        ahead, behind = (float(value(tensors(FEATURES + step * direction))) for step in (1e-6, -1e-6))
    assert outputs.dtype == found.dtype == np.float64
    np.testing.assert_allclose((ahead - behind) / 2e-6, np.sum(found * direction), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"value_projection": True}, {"affine": False}], ids=str)
def test_float64_is_the_papers_to_its_last_digits(options):
    with floatx("float64"):
        layer = AttentiveNormalization(3, **options)
        layer(tensors(FEATURES))
        randomize_weights(layer)
        outputs, layout = layer(tensors(FEATURES), return_layout=True)
        expected = reference(FEATURES, weights_of(layer))
    assert dtype_of(outputs) == dtype_of(layout) == "float64"
    assert {dtype_of(weight) for weight in layer.trainable_weights} == {"float64"}
    np.testing.assert_allclose(array(outputs), expected[0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(array(layout), expected[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_compute_in_float64(name):
    loss, arguments = LOSSES[name]
    moved = 1 if name in ("l1_loss", "id_mrf_loss") or name.endswith("_of_fit") else 0
    direction = np.random.default_rng(1).normal(size=arguments[moved].shape)
    with floatx("float64"):

        def value(moving):
            return loss(*tensors(arguments[:moved]), moving, *tensors(arguments[moved + 1 :]))

        (found,) = gradients(value, [arguments[moved]], [])
        ahead, behind = (value(tensors(arguments[moved] + step * direction)) for step in (1e-7, -1e-7))
    assert dtype_of(ahead) == "float64"
    np.testing.assert_allclose((float(ahead) - float(behind)) / 2e-7, np.sum(found * direction), rtol=1e-5, atol=1e-7)


def test_discount_computes_in_float64():
    with floatx("float64"):
        discount = array(losses.spatial_discount(tensors(np.ones((1, 3, 3, 1))), 0.9, 3))
    assert discount.dtype == np.float64
    np.testing.assert_allclose(discount, np.full((1, 3, 3, 1), 0.9**3), rtol=1e-14)


# Extremes.


@pytest.mark.parametrize("training", [False, True])
def test_float32_inputs_beyond_float16_stay_finite(training):
    """As they do in Keras's own group normalisation."""
    x = (FEATURES * 1e5).astype("float32")
    group_norm = keras.layers.GroupNormalization(4, dtype="mixed_float16")
    assert not IS_KERAS_3 or np.isfinite(array(group_norm(tensors(x)))).all()  # Keras 2 casts first
    layer = AttentiveNormalization(3, dtype="mixed_float16")
    outputs = array(layer(tensors(x), training=training))
    assert outputs.dtype == np.float16
    np.testing.assert_array_equal(outputs, np.clip(x, -65504, 65504).astype("float16"))
    layer.residual_weight.assign(0.1)
    assert np.isfinite(array(layer(tensors(x), training=training))).all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options, jit",
    [
        ({}, True),
        ({"value_projection": True}, False),
        ({"statistics": "released"}, True),
        ({"self_sampling": False}, False),
    ],
    ids=str,
)
def test_a_new_layer_is_the_identity_of_huge_features(options, jit, training):
    """And so are its gradients, which Keras's own group normalisation has as well."""
    x = (FEATURES * 1e19).astype("float32")
    layer = AttentiveNormalization(3, **options)
    layer.build(x.shape)

    def call(x):
        return layer(x, training=training)

    np.testing.assert_array_equal(array((compiled(call, layer) if jit else call)(tensors(x))), x)
    found = gradients(lambda x: ops.sum(call(x)), [x], layer.trainable_weights, jit=jit or BACKEND == "jax")
    np.testing.assert_array_equal(found[0], np.ones_like(x))
    assert all(np.isfinite(gradient).all() for gradient in found)


@pytest.mark.parametrize("factor, dtype", [(1e5, "mixed_float16"), (1e20, "float32")])
def test_a_new_self_attention_is_the_identity_of_huge_features(factor, dtype):
    x = (FEATURES * factor).astype("float32")
    layer = layers.SelfAttention(dtype=dtype)
    expected = x if dtype == "float32" else np.clip(x, -65504, 65504).astype("float16")
    np.testing.assert_array_equal(array(layer(tensors(x))), expected)
    for jit in (False, True) if BACKEND == "tensorflow" else (BACKEND == "jax",):
        found = gradients(lambda x: ops.sum(ops.cast(layer(x), "float32") * 1e-30), [x], layer.trainable_weights, jit)
        assert all(np.isfinite(gradient).all() for gradient in found)
    layer.residual_weight.assign(0.1)
    assert np.isfinite(array(ops.cast(layer(tensors(x)), "float32"))).all()


def test_wrappers_leave_the_cast_to_what_they_wrap():
    x = (FEATURES * 1e5).astype("float32")
    wrapped = layers.SpectralNormalization(AttentiveNormalization(3, dtype="mixed_float16"), dtype="mixed_float16")
    np.testing.assert_array_equal(array(wrapped(tensors(x))), np.clip(x, -65504, 65504).astype("float16"))
    inputs = keras.Input(FEATURES.shape[1:])
    outputs = AttentiveNormalization(3, dtype="mixed_float16")(inputs)
    (layout,) = models.attentive_probe(keras.Model(inputs, outputs))(tensors(x))["layouts"]
    assert np.isfinite(array(ops.cast(layout, "float32"))).all()


# Nothing at all.


@pytest.mark.parametrize("shape", [(0, 4, 6, 8), (2, 0, 6, 8), (2, 4, 0, 8), (2, 0, 0, 8)], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_nothing_give_nothing(name, shape):
    layer = LAYERS[name]()
    full = array(layer(inputs_of(name, FEATURES, "float32"))).shape
    inputs = np.zeros(shape, "float32")
    if name in PAIRED_WITH:
        paired = PAIRED_WITH[name]
        inputs = [inputs, np.zeros((*shape[:-1], 1), "float32") if paired.ndim == 4 else paired[: shape[0]]]
    expected = tuple(
        size * shape[axis] // FEATURES.shape[axis] if axis < len(full) - 1 else size for axis, size in enumerate(full)
    )
    outputs = layer(tensors(inputs), **training_of(layer))
    assert tuple(outputs.shape) == expected
    assert np.isfinite(array(outputs)).all()
    assert all(np.isfinite(array(weight)).all() for weight in layer.weights)


@pytest.mark.parametrize("shape", [(0, 4, 6, 8), (2, 0, 6, 8)], ids=str)
@pytest.mark.parametrize("options", [{}, {"value_projection": True}, {"statistics": "released"}], ids=str)
def test_gradients_of_nothing_are_nothing(shape, options):
    layer = AttentiveNormalization(3, **options)
    layer.build(FEATURES.shape)
    inputs = [np.zeros(shape, "float32")]
    found = gradients(lambda x: ops.sum(layer(x, training=True)), inputs, layer.trainable_weights)
    assert found[0].shape == shape and all((gradient == 0).all() for gradient in found[1:])
    _, layout = layer(tensors(inputs[0]), return_layout=True)
    assert tuple(layout.shape) == (*shape[:-1], 3)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_nothing_are_0(name):
    loss, arguments = LOSSES[name]
    empty = [argument[:0].astype("float32") for argument in arguments]
    assert float(loss(*tensors(empty))) == 0.0
    found = gradients(lambda *arguments: loss(*arguments), empty, [])
    assert [gradient.shape for gradient in found] == [argument.shape for argument in empty]


@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (2, 0, 4, 1)], ids=str)
def test_discount_of_nothing_is_nothing(shape):
    assert tuple(losses.spatial_discount(tensors(np.zeros(shape, "float32"))).shape) == shape


# Forward mode, and what else differentiates by transforming functions.

TRANSFORMS = {
    "jax": ["jvp", "compiled jvp", "jacfwd", "vmap", "vmap of grad", "jacfwd of grad", "grad of jvp", "jvp of jvp"],
    "torch": ["jvp", "dual", "jacfwd", "vmap", "vmap of grad", "jacfwd of grad", "grad of jvp", "jvp of jvp"],
    "tensorflow": ["jvp", "compiled jvp", "vmap", "jvp of grad"],
}[BACKEND]


def tensorflow_transform(name, function, x, t):
    def forward(function, x, t):
        with tf.autodiff.ForwardAccumulator(x, t) as accumulator:
            y = function(x)
        return accumulator.jvp(y)

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(function(x) ** 2)
        return tape.gradient(y, x)

    return {
        "jvp": lambda: forward(function, x, t),
        "compiled jvp": lambda: tf.function(lambda x, t: forward(function, x, t), jit_compile=True)(x, t),
        "vmap": lambda: tf.vectorized_map(function, tf.stack([x, t])),
        "jvp of grad": lambda: forward(slope, x, t),
    }[name]()


def transform(name, function, x, t):
    """What a transform of the backend makes of `function` at `x`, along `t`, as a NumPy array."""
    if BACKEND == "tensorflow":
        return array(tensorflow_transform(name, function, x, t))
    module = jax if BACKEND == "jax" else torch.func
    both = ops.stack([x, t])

    def forward(function, x):
        return module.jvp(function, (x,), (t,))[1]

    def energy(x):
        return ops.sum(ops.square(function(x)))

    def dual():
        with torch.autograd.forward_ad.dual_level():
            return torch.autograd.forward_ad.unpack_dual(
                function(torch.autograd.forward_ad.make_dual(x, t))
            ).tangent.clone()

    with record_gradients(True):
        found = {
            "jvp": lambda: forward(function, x),
            "compiled jvp": lambda: jax.jit(lambda x: forward(function, x))(x),
            "dual": dual,
            "jacfwd": lambda: module.jacfwd(lambda x: function(x)[0, 0])(x),
            "vmap": lambda: module.vmap(function)(both),
            "vmap of grad": lambda: module.vmap(module.grad(energy))(both),
            "jacfwd of grad": lambda: module.jacfwd(lambda x: module.grad(energy)(x)[0, 0, 0])(x),
            "grad of jvp": lambda: module.grad(lambda x: ops.sum(ops.square(forward(function, x))))(x),
            "jvp of jvp": lambda: forward(lambda x: forward(function, x), x),
        }[name]()
        return array(found.detach() if BACKEND == "torch" else found)


def derivatives(name, function, x, t):
    """The same in float64 NumPy, by differences of `function`, which takes and gives NumPy arrays."""

    def along(function, x, direction, step):
        return (function(x + step * direction) - function(x - step * direction)) / (2 * step)

    def units():
        return np.eye(x.size).reshape(x.size, *x.shape)

    def jvp(x):
        return along(function, x, t, 1e-4)

    def energy(x):
        return np.sum(function(x) ** 2)

    def slope(x):
        return np.array([along(energy, x, unit, 1e-4) for unit in units()]).reshape(x.shape)

    return {
        "jvp": lambda: jvp(x),
        "compiled jvp": lambda: jvp(x),
        "dual": lambda: jvp(x),
        "jacfwd": lambda: np.stack([along(function, x, unit, 1e-4)[0, 0] for unit in units()], -1).reshape(
            *x.shape[2:], *x.shape
        ),
        "vmap": lambda: np.stack([function(x), function(t)]),
        "vmap of grad": lambda: np.stack([slope(x), slope(t)]),
        "jacfwd of grad": lambda: np.stack([along(slope, x, unit, 1e-3)[0, 0, 0] for unit in units()], -1).reshape(
            x.shape[-1], *x.shape
        ),
        "jvp of grad": lambda: along(slope, x, t, 1e-3),
        "grad of jvp": lambda: np.array(
            [along(lambda x: np.sum(jvp(x) ** 2), x, unit, 1e-3) for unit in units()]
        ).reshape(x.shape),
        "jvp of jvp": lambda: along(jvp, x, t, 1e-3),
    }[name]()


@pytest.mark.parametrize(
    "name, options, distance",
    [
        *((name, {}, 0.0) for name in TRANSFORMS),
        *((name, {}, 300.0) for name in TRANSFORMS if " of " not in name),
        *((name, {"value_projection": True}, 0.0) for name in TRANSFORMS if " of " in name),
    ],
    ids=str,
)
def test_transforms_of_functions_hold(name, options, distance):
    """Those that Keras's own group normalisation stands, also where regions lie far from each other."""
    rng = np.random.default_rng(2)
    x, t = rng.normal(size=(2, 1, 4, 1, 4)).astype("float32")
    group_norm = keras.layers.GroupNormalization(2)
    group_norm.build(x.shape)
    assert np.isfinite(transform(name, group_norm, *tensors([x, t]))).all()

    layer = AttentiveNormalization(2, temperature=1.0, self_sampling=False, **options)
    layer.build(x.shape)
    randomize_weights(layer)
    if distance:  # one channel tells the regions, which are hard, by a number that no other product sees
        for features in (x, t):
            features[..., 0] += distance * np.array([[1], [-1], [-1], [1]])
        layer.entities.assign(0.1 * np.eye(2, 4)[:, ::-1] + [[1, 0, 0, 0], [-1, 0, 0, 0]])
        if options:
            layer.value_kernel.assign(np.eye(4) + 0.1 * array(layer.value_kernel) * (np.arange(4) > 0)[:, None])
    weights = weights_of(layer)
    expected = derivatives(name, lambda x: reference(x, weights, temperature=1.0)[0], *np.float64([x, t]))
    found = transform(name, layer, *tensors([x, t]))
    tolerance = 2e-3 if distance else 1e-3
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.skipif(BACKEND == "torch", reason="no state may move on within torch.func's transforms")
def test_forward_mode_goes_through_self_sampling():
    rng = np.random.default_rng(3)
    x, t = rng.normal(size=(2, 2, 4, 6, 8)).astype("float32")
    layer = AttentiveNormalization(3, temperature=1.0, seed=1)
    layer.build(x.shape)
    randomize_weights(layer)
    state = np.array(array(layer.sampling_state))

    def call(x):
        layer.sampling_state.assign(state)  # the same windows
        return layer(x, training=True)

    ahead, behind = (array(call(tensors(x + step * t))) for step in (1e-2, -1e-2))
    found = transform("jvp", call, *tensors([x, t]))
    np.testing.assert_allclose(found, (ahead - behind) / 2e-2, rtol=0.02, atol=0.02 * np.abs(found).max())
