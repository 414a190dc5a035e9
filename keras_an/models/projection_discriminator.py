"""The residual discriminator with a projection head."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from keras_an.backend import keras
from keras_an.checks import check_positive_integer
from keras_an.models.blocks import attend, conv, in_place_of, normalized, num_resampling_blocks


def projection_discriminator(
    resolution: int = 128,
    num_classes: int = 1000,
    base_channels: int = 64,
    image_channels: int = 3,
    attention: str = "attentive_normalization",
    attention_blocks: Sequence[int] = (1,),
    num_entities: int = 16,
    attentive_options: Optional[Mapping[str, Any]] = None,
    spectral_normalization: bool = True,
) -> keras.Model:
    """Residual down-sampling discriminator with a projection head, of the SN-GAN and SAGAN family.

    Each block halves the side, down to 4 x 4. Block b gives `base_channels * 2 ** (b - 1)` channels; 128 pixels take 5
    blocks. The features are summed over positions; the logit is `w . h + embed(label) . h + b`. The attention slot
    stands between a block's first convolution and its activation.

    Args:
        resolution: side of the images, 4 times a power of two. Defaults to 128.
        num_classes: integer.
        base_channels: integer, channels of the first block. Defaults to 64.
        image_channels: integer. Defaults to 3.
        attention: `"none"`, `"self_attention"` or `"attentive_normalization"` (the default).
        attention_blocks: numbers of the blocks, from 1, that have the attention. Defaults to the first, as in the
            paper.
        num_entities: integer, entities of Attentive Normalization. Defaults to 16.
        attentive_options: dictionary of further arguments of `AttentiveNormalization`, or None; of self-attention those
            of the residual.
        spectral_normalization: whether all weights are spectrally normalised. Defaults to True.

    Returns:
        `keras.Model` from `[image, label]`, image float `(batch, resolution, resolution, image_channels)` in [-1, 1],
        label int32 `(batch,)`, to logits float32 `(batch, 1)`.

    Raises:
        ValueError: if an argument is out of range, or the image data format of Keras is `"channels_first"`.

    References:
        cGANs with Projection Discriminator (Miyato and Koyama, ICLR 2018), Eq. 9; Attentive Normalization for
        Conditional Image Generation (Wang et al., CVPR 2020), Section 4.1.
    """
    num_blocks = num_resampling_blocks(resolution, attention, attention_blocks)
    num_classes = check_positive_integer("num_classes", num_classes)
    base_channels = check_positive_integer("base_channels", base_channels)
    image = keras.Input((resolution, resolution, image_channels), name="image")
    label = keras.Input((), dtype="int32", name="label")
    x = image
    for block in range(1, num_blocks + 1):
        name, channels = f"block{block}", base_channels * 2 ** (block - 1)
        # Pooling first gives the same sum for less work: a 1x1 convolution and a mean commute.
        shortcut = keras.layers.AveragePooling2D(2, name=f"{name}_shortcut_down")(x)
        shortcut = conv(channels, 1, f"{name}_shortcut", spectral_normalization)(shortcut)
        if block > 1:  # The first block takes pixels, not features.
            x = keras.layers.ReLU(name=f"{name}_relu1")(x)
        x = conv(channels, 3, f"{name}_conv1", spectral_normalization)(x)
        if block in attention_blocks:
            options = {"num_entities": num_entities, **(attentive_options or {})}
            x, _ = attend(x, attention, f"{name}_attention", spectral_normalization, options)
        x = keras.layers.ReLU(name=f"{name}_relu2")(x)
        x = conv(channels, 3, f"{name}_conv2", spectral_normalization, "down")(x)
        x = in_place_of(f"{name}_down")(x)
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    x = keras.layers.ReLU(name="final_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="mean_positions")(x)
    features = keras.layers.Rescaling(16.0, name="sum_positions")(x)  # 4 x 4 positions
    logit = normalized(keras.layers.Dense(1, name="logit"), spectral_normalization)(features)
    embedding = normalized(keras.layers.Embedding(num_classes, channels, name="embed"), spectral_normalization)(label)
    projection = keras.layers.Dot(axes=1, name="project")([features, embedding])
    logits = keras.layers.Add(name="add_logits")([logit, projection])
    return keras.Model([image, label], keras.layers.Activation("linear", dtype="float32", name="logits")(logits))
