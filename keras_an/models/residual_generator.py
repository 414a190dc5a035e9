"""The class-conditional residual generator."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from keras_an.backend import keras
from keras_an.checks import check_positive_integer
from keras_an.layers import ConditionalBatchNormalization
from keras_an.layers.batch_normalization import BatchNormalization
from keras_an.models.blocks import attend, conv, in_place_of, normalized, num_resampling_blocks


def residual_generator(
    resolution: int = 128,
    num_classes: int = 1000,
    latent_dim: int = 128,
    base_channels: int = 64,
    image_channels: int = 3,
    attention: str = "attentive_normalization",
    attention_blocks: Optional[Sequence[int]] = None,
    num_entities: int = 16,
    attentive_options: Optional[Mapping[str, Any]] = None,
    spectral_normalization: bool = True,
    synchronized: bool = False,
) -> keras.Model:
    """Residual up-sampling generator with conditional batch norm, of the SN-GAN and SAGAN family.

    A dense layer makes a 4 x 4 map; then each block doubles the side. Block b of B gives
    `base_channels * 2 ** (B - b)` channels; 128 pixels take 5 blocks, from 4x4x1024 to 128x128x64. The attention slot
    stands between a block's first convolution and the normalisation that follows it.

    Args:
        resolution: side of the images, 4 times a power of two. Defaults to 128.
        num_classes: integer.
        latent_dim: integer, size of z. Defaults to 128.
        base_channels: integer, channels at full resolution. Defaults to 64.
        image_channels: integer. Defaults to 3.
        attention: `"none"`, `"self_attention"` or `"attentive_normalization"` (the default).
        attention_blocks: numbers of the blocks, from 1, that have the attention. None, the default, means the third, as
            in the paper, or the last if there are fewer.
        num_entities: integer, entities of Attentive Normalization. Defaults to 16.
        attentive_options: dictionary of further arguments of `AttentiveNormalization`, or None; of self-attention those
            of the residual.
        spectral_normalization: whether convolutions and dense layers are spectrally normalised. Defaults to True.
        synchronized: whether batch norm takes the moments of the global batch under `tf.distribute`. Defaults to False.

    Returns:
        `keras.Model` from `[z, label]`, z float `(batch, latent_dim)`, label int32 `(batch,)`, to images float32
        `(batch, resolution, resolution, image_channels)` in [-1, 1].

    Raises:
        ValueError: if an argument is out of range, or the image data format of Keras is `"channels_first"`.

    References:
        Attentive Normalization for Conditional Image Generation (Wang et al., CVPR 2020), Section 4.1;
        Self-Attention Generative Adversarial Networks (Zhang et al., ICML 2019).
    """
    num_blocks = num_resampling_blocks(resolution, attention, () if attention_blocks is None else attention_blocks)
    if attention_blocks is None:
        attention_blocks = (min(3, num_blocks),)
    num_classes = check_positive_integer("num_classes", num_classes)
    base_channels = check_positive_integer("base_channels", base_channels)
    z = keras.Input((latent_dim,), name="z")
    label = keras.Input((), dtype="int32", name="label")

    def norm(name):
        return ConditionalBatchNormalization(num_classes, synchronized=synchronized, name=name)

    channels = base_channels * 2 ** (num_blocks - 1)
    dense = normalized(keras.layers.Dense(4 * 4 * channels, name="project"), spectral_normalization)
    x = keras.layers.Reshape((4, 4, channels), name="reshape")(dense(z))
    for block in range(1, num_blocks + 1):
        name, channels = f"block{block}", base_channels * 2 ** (num_blocks - block)
        shortcut = in_place_of(f"{name}_shortcut_up")(x)
        shortcut = conv(channels, 1, f"{name}_shortcut", spectral_normalization, "up")(shortcut)
        x = keras.layers.ReLU(name=f"{name}_relu1")(norm(f"{name}_norm1")([x, label]))
        x = in_place_of(f"{name}_up")(x)
        x = conv(channels, 3, f"{name}_conv1", spectral_normalization, "up")(x)
        if block in attention_blocks:
            options = {"num_entities": num_entities, **(attentive_options or {})}
            x, _ = attend(x, attention, f"{name}_attention", spectral_normalization, options)
        x = keras.layers.ReLU(name=f"{name}_relu2")(norm(f"{name}_norm2")([x, label]))
        x = conv(channels, 3, f"{name}_conv2", spectral_normalization)(x)
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    x = BatchNormalization(momentum=0.9, synchronized=synchronized, name="final_norm")(x)
    x = keras.layers.ReLU(name="final_relu")(x)
    x = conv(image_channels, 3, "to_image", spectral_normalization)(x)
    images = keras.layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model([z, label], images, name="generator")
