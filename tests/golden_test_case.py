"""Layers and networks whose outputs the golden file holds, with inputs and weights."""

import pathlib

import numpy as np

from keras_an import layers, models
from keras_an.backend import keras

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
