"""Wasserstein critics of inpainted images: of the whole image, of a rectangle, of the patches of a free-form hole."""

from collections.abc import Mapping
from typing import Any, Optional

from keras_an.backend import keras
from keras_an.checks import check_positive_integer, is_integer
from keras_an.layers import MaskedMean
from keras_an.models.blocks import attend, check_channels_last

_WIDTHS = (1, 2, 4, 8, 4, 2)  # of the six convolutions, in units of the base channels
_PATCH_WIDTHS = (1, 2, 4, 8)


def global_critic(resolution: int, **kwargs: Any) -> keras.Model:
    """Critic of whole images: six 5x5 convolutions of stride 2, an attention slot after the third, a dense layer.

    Args:
        resolution: integer, side of the images, at least 16.
        base_channels: integer, `d_cnum` of the released code. Defaults to 64.
        image_channels: integer. Defaults to 3.
        attention: `"self_attention"` (the released code's, the default), `"attentive_normalization"` or `"none"`.
        num_entities: integer, entities of Attentive Normalization. Defaults to 16.
        attentive_options: dictionary of further arguments of `AttentiveNormalization`, or None; of self-attention those
            of the residual.

    Returns:
        `keras.Model` from image float `(batch, resolution, resolution, image_channels)` in [-1, 1] to scores float32
        `(batch, 1)`.

    Raises:
        ValueError: if an argument is out of range, or the image data format of Keras is `"channels_first"`.

    References:
        Generative Image Inpainting with Contextual Attention (Yu et al., CVPR 2018), Section 3.2; Wasserstein GAN
        (Arjovsky et al., ICML 2017).
    """
    return _flat_critic("global_critic", resolution, 3, **kwargs)


def local_critic(resolution: int, **kwargs: Any) -> keras.Model:
    """Critic of the rectangle around the hole: `global_critic` with the attention slot after the second convolution.

    Args:
        resolution: integer, side of the rectangles, at least 16.
        **kwargs: the other arguments of `global_critic`.

    Returns:
        `keras.Model`, as `global_critic` returns it.

    Raises:
        ValueError: if an argument is out of range, or the image data format of Keras is `"channels_first"`.

    References:
        As `global_critic`.
    """
    return _flat_critic("local_critic", resolution, 2, **kwargs)


def patch_critic(
    base_channels: int = 64,
    image_channels: int = 3,
    attention: str = "self_attention",
    num_entities: int = 16,
    attentive_options: Optional[Mapping[str, Any]] = None,
) -> keras.Model:
    """Critic of the patches that a free-form hole touches: the mean of their scores.

    Five 5x5 convolutions of stride 2 give one score for each patch of 32 x 32 pixels. The scores of patches without a
    missing pixel are left out. The attention slot follows the third convolution.

    Args:
        base_channels, image_channels, attention, num_entities, attentive_options: those of `global_critic`.

    Returns:
        `keras.Model` from `[image, mask]`, image float `(batch, height, width, image_channels)` in [-1, 1], mask float
        `(batch, height, width, 1)`, 1 = missing, to scores float32 `(batch, 1)`; 0 where nothing is missing.

    Raises:
        ValueError: if an argument is out of range, or the image data format of Keras is `"channels_first"`.

    References:
        Free-Form Image Inpainting with Gated Convolution (Yu et al., ICCV 2019), Section 3.3; the released code of
        Attentive Normalization masks the scores.
    """
    check_channels_last()
    image = keras.Input((None, None, image_channels), name="image")
    mask = keras.Input((None, None, 1), name="mask")
    options = {"num_entities": num_entities, **(attentive_options or {})}
    x = _convolutions(image, _PATCH_WIDTHS, base_channels, 3, attention, options)
    x = keras.layers.Conv2D(1, 5, strides=2, padding="same", name="patch_scores")(x)
    touched = mask
    for number in range(1, 6):
        touched = keras.layers.MaxPooling2D(2, padding="same", name=f"mask_pool{number}")(touched)
    return keras.Model([image, mask], MaskedMean(dtype="float32", name="scores")([x, touched]), name="patch_critic")


def _flat_critic(
    name,
    resolution,
    attention_after,
    base_channels=64,
    image_channels=3,
    attention="self_attention",
    num_entities=16,
    attentive_options=None,
):
    check_channels_last()
    if not is_integer(resolution) or resolution < 16:
        raise ValueError(f"`resolution` must be an integer of at least 16. Received: resolution={resolution!r}")
    image = keras.Input((resolution, resolution, image_channels), name="image")
    options = {"num_entities": num_entities, **(attentive_options or {})}
    x = _convolutions(image, _WIDTHS, base_channels, attention_after, attention, options)
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.Model(image, keras.layers.Dense(1, dtype="float32", name="scores")(x), name=name)


def _convolutions(x, widths, base_channels, attention_after, attention, options):
    base_channels = check_positive_integer("base_channels", base_channels)
    for number, width in enumerate(widths, 1):
        x = keras.layers.Conv2D(width * base_channels, 5, strides=2, padding="same", name=f"conv{number}")(x)
        x = keras.layers.LeakyReLU(0.2, name=f"leaky_relu{number}")(x)
        if number == attention_after:
            x, _ = attend(x, attention, f"attention{number}", False, options)
    return x
