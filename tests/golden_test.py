"""The same weights give the same outputs on every Keras: TensorFlow, JAX, PyTorch, Keras 2, tf-keras.

Needs no TensorFlow. `python tests/golden_test.py` writes the golden file, on the Keras that runs.
"""

import pathlib

import numpy as np
import pytest

import keras_an
from keras_an import layers, losses, models
from keras_an.backend import keras
from layer_test_case import array, tensors

GOLDEN = pathlib.Path(__file__).parent / "testdata" / "golden.npz"
FEATURES = np.random.default_rng(0).normal(size=(2, 6, 8, 16)).astype("float32")
IMAGES = np.random.default_rng(1).uniform(-1, 1, size=(3, 16, 16, 2)).astype("float32")
MASKS = (np.random.default_rng(4).uniform(size=(3, 16, 16, 1)) > 0.5).astype("float32")
LATENTS = np.random.default_rng(2).normal(size=(3, 5)).astype("float32")
LABELS = np.array([2, 0, 1], "int32")
NETWORK = {"resolution": 16, "num_classes": 3, "base_channels": 4, "image_channels": 2, "num_entities": 3}
INPAINTING = {"base_channels": 2, "image_channels": 2, "num_entities": 3}

# For each name a layer, its inputs, and what the weights of deep networks are multiplied by, lest outputs saturate.
CASES = {
    "attentive_normalization": lambda: (layers.AttentiveNormalization(5), FEATURES),
    "attentive_normalization_value": lambda: (layers.AttentiveNormalization(5, value_projection=True), FEATURES),
    "attentive_normalization_plain": lambda: (layers.AttentiveNormalization(3, affine=False, key_dim=2), FEATURES),
    "attentive_normalization_released": lambda: (
        layers.AttentiveNormalization(4, value_projection=True, statistics="released", affine=False),
        FEATURES,
    ),
    "attentive_normalization_first": lambda: (layers.AttentiveNormalization(5, data_format="channels_first"), FEATURES),
    "attentive_normalization_1d": lambda: (layers.AttentiveNormalization(5), FEATURES[:, 0]),
    "attentive_normalization_3d": lambda: (layers.AttentiveNormalization(5), FEATURES.reshape(2, 3, 2, 8, 16)),
    "spectral_normalization": lambda: (layers.SpectralNormalization(keras.layers.Conv2D(4, 3)), FEATURES),
    "conditional_batch_normalization": lambda: (
        layers.ConditionalBatchNormalization(3),
        [FEATURES, np.array([2, 0], "int32")],
    ),
    "self_attention": lambda: (layers.SelfAttention(), FEATURES),
    "residual_generator": lambda: (
        models.residual_generator(latent_dim=5, attention_blocks=[2], **NETWORK),
        [LATENTS, LABELS],
    ),
    "projection_discriminator": lambda: (models.projection_discriminator(**NETWORK), [IMAGES, LABELS]),
    "known_pixels": lambda: (layers.KnownPixels(divisor=4), [IMAGES, MASKS]),
    "inpainting_generator": lambda: (fine_of(models.inpainting_generator(**INPAINTING)), [IMAGES, MASKS], 0.4),
    "inpainting_generator_released": lambda: (
        fine_of(models.inpainting_generator(statistics="released", **INPAINTING)),
        [IMAGES, MASKS],
        0.4,
    ),
    "global_critic": lambda: (models.global_critic(32, **INPAINTING), tiled(IMAGES), 0.3),
    "patch_critic": lambda: (models.patch_critic(**INPAINTING), [tiled(IMAGES), tiled(MASKS)], 0.3),
}


def fine_of(generator):
    """From the same inputs to the fine result alone."""
    return keras.Model(generator.inputs, generator.get_layer("fused_conv18").output)


def tiled(images):
    """Of twice the side, which leaves the last of five convolutions of stride 2 one position."""
    return np.tile(images, (1, 2, 2, 1))


def fill(layer, scale=1.0):
    """Sets all floating-point weights to numbers that depend on their order alone."""
    random = np.random.default_rng(3)
    for part in getattr(layer, "layers", [layer]):
        for weight in [*part.trainable_weights, *part.non_trainable_weights]:
            if "float" in str(weight.dtype):
                shape = tuple(weight.shape)
                values = random.normal(0, 0.4, shape) if len(shape) > 1 else random.uniform(0.5, 1.5, shape)
                weight.assign(scale * values)


def outputs_of(name):
    layer, inputs, *scale = CASES[name]()
    inputs = tensors(inputs)
    layer(inputs)
    fill(layer, *scale)
    return array(layer(inputs))


@pytest.mark.parametrize("name", sorted(CASES))
def test_outputs_equal_the_golden_file(name):
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(outputs_of(name), golden[name], rtol=1e-5, atol=1e-5)


def test_layout_equals_the_golden_file():
    layer = keras_an.AttentiveNormalization(5)
    layer(tensors(FEATURES))
    fill(layer)
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(array(layer.get_layout(tensors(FEATURES))), golden["layout"], atol=1e-6)


def test_hinge_losses_equal_their_formulas():
    real, fake = np.linspace(-2, 2, 7, dtype="float32"), np.linspace(-1, 3, 7, dtype="float32")
    expected = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    found = losses.discriminator_hinge_loss(tensors(real), tensors(fake))
    np.testing.assert_allclose(array(found), expected, rtol=1e-6)
    np.testing.assert_allclose(array(losses.generator_hinge_loss(tensors(fake))), -fake.mean(), rtol=1e-6)


def test_self_sampling_obeys_seed_and_training():
    def runs(seed):
        layer = keras_an.AttentiveNormalization(5, seed=seed)
        layer(tensors(FEATURES))
        fill(layer)
        inference = [array(layer(tensors(FEATURES))) for _ in range(2)]
        return inference, [array(layer(tensors(FEATURES), training=True)) for _ in range(2)]

    inference, training = runs(7)
    _, again = runs(7)
    _, other = runs(8)
    np.testing.assert_array_equal(inference[0], inference[1])
    np.testing.assert_array_equal(training, again)
    assert np.abs(training[0] - training[1]).max() > 1e-4
    assert np.abs(training[0] - other[0]).max() > 1e-4


if __name__ == "__main__":
    layer = keras_an.AttentiveNormalization(5)
    layer(tensors(FEATURES))
    fill(layer)
    layout = array(layer.get_layout(tensors(FEATURES)))
    np.savez_compressed(GOLDEN, layout=layout, **{name: outputs_of(name) for name in CASES})
