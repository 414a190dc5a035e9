"""The two-stage inpainting generator."""

from collections.abc import Mapping
from typing import Any, Optional

from keras_an.backend import keras, ops, register_serializable
from keras_an.checks import check_one_of, is_integer
from keras_an.layers import Conv2D, DiffusionFill, KnownPixels
from keras_an.models.blocks import attend, check_channels_last, in_place_of

# Kernel size, width in units of the base channels, stride and dilation of the first ten convolutions of a branch.
_ENCODER = [
    (5, 1, 1, 1),
    (3, 2, 2, 1),
    (3, 2, 1, 1),
    (3, 4, 2, 1),
    (3, 4, 1, 1),
    (3, 4, 1, 1),
    (3, 4, 1, 2),
    (3, 4, 1, 4),
    (3, 4, 1, 8),
    (3, 4, 1, 16),
]

# By number of a convolution of the decoder: the last one of the encoder whose map has the same size.
_SAME_SIZE = {13: 3, 15: 1}
_CHANGE = 0.1  # what a stage adds, over what its last convolution gives


@register_serializable(package="keras_an")
def clip_image(images):
    """`images` within [-1, 1]."""
    return ops.clip(images, -1.0, 1.0)


def inpainting_generator(
    base_channels: int = 32,
    image_channels: int = 3,
    attention: str = "attentive_normalization",
    num_entities: int = 16,
    attentive_options: Optional[Mapping[str, Any]] = None,
    statistics: str = "weighted",
    first_fill: str = "zeros",
) -> keras.Model:
    """Coarse-to-fine generator: a coarse stage, then one with a dilated and an attentive branch that join.

    Each stage takes the picture with its hole filled (by 0, then by the coarse result), a plane of ones and the mask.
    Two convolutions halve the side, so that the branches work on `height / 4 x width / 4` with `4 * base_channels`
    channels. The attention slot stands between the sixth convolution of the attentive branch and its ELU.

    With `first_fill="diffusion"` the coarse stage takes the picture with its hole filled smoothly, by `DiffusionFill`,
    and each stage adds what it paints to the picture that it takes: `coarse = clip(filled + 0.1 c)`, `fine =
    clip(completed coarse + 0.1 f)`. Their last convolutions start at 0, so that an untrained generator fills as
    `DiffusionFill` does. The first and the third map of the encoder are added to those of their size in the decoder,
    which then need not pass what is near to a hole through a quarter of the side.

    Args:
        base_channels: even integer, `g_cnum` of the released code. Defaults to 32.
        image_channels: integer. Defaults to 3.
        attention: `"none"`, `"self_attention"` or `"attentive_normalization"` (the default).
        num_entities: integer, entities of Attentive Normalization. Defaults to 16.
        attentive_options: dictionary of further arguments of `AttentiveNormalization`, or None; of self-attention those
            of the residual.
        statistics: `"weighted"` (the paper's, the default), or `"released"`, for weights of the released code: it also
            sets the other options of Attentive Normalization as that code does.
        first_fill: `"zeros"` (the paper's, the default) or `"diffusion"`.

    Returns:
        `keras.Model` from `[image, mask]`, image float `(batch, height, width, image_channels)` in [-1, 1], mask float
        `(batch, height, width, 1)`, 1 = missing, to a dictionary: `coarse` and `fine`, the results of the two stages,
        and `completed`, the known pixels with the fine result in the hole, all float32 in [-1, 1] and of the image's
        shape; with Attentive Normalization also `layout`, float32 `(batch, height / 4, width / 4, num_entities)`. What
        the image holds in the hole plays no part. Height and width may be any multiples of 4.

    Raises:
        ValueError: if an argument is out of range, or the image data format of Keras is `"channels_first"`; in a call,
            if height or width is not a multiple of 4.

    References:
        Attentive Normalization for Conditional Image Generation (Wang et al., CVPR 2020), Section 4.2; Generative Image
        Inpainting with Contextual Attention (Yu et al., CVPR 2018), Section 3.
    """
    check_channels_last()
    check_one_of("statistics", statistics, ("weighted", "released"))
    check_one_of("first_fill", first_fill, ("zeros", "diffusion"))
    if not is_integer(base_channels) or base_channels < 2 or base_channels % 2:
        raise ValueError(f"`base_channels` must be an even positive integer. Received: base_channels={base_channels!r}")
    base_channels = int(base_channels)
    options = {"num_entities": num_entities, "statistics": statistics}
    if statistics == "released":
        options.update(value_projection=True, affine=False, pool_size=1)
    options.update(attentive_options or {})

    image = keras.Input((None, None, image_channels), name="image")
    mask = keras.Input((None, None, 1), name="mask")
    known = KnownPixels(divisor=4, dtype="float32", name="known")([image, mask])
    ones = keras.layers.Rescaling(0.0, 1.0, name="ones")(mask)

    def with_mask(x, name):
        return keras.layers.Concatenate(name=name)([x, ones, mask])  # (batch, height, width, image_channels + 2)

    def fill(x, name):
        # x is the network's own: what the image holds in the hole, be it NaN, is in none of it.
        hole = keras.layers.Multiply(dtype="float32", name=f"{name}_hole")([x, mask])
        return keras.layers.Add(dtype="float32", name=name)([hole, known])

    def decode(x, branch, taken, maps):
        return _decode(x, branch, base_channels, image_channels, None if first_fill == "zeros" else taken, maps)

    taken = known if first_fill == "zeros" else DiffusionFill(name="filled")([known, mask])
    maps = _encode(with_mask(taken, "coarse_input"), "coarse", range(1, 11), base_channels)
    coarse = decode(maps[10], "coarse", taken, maps)
    taken = fill(coarse, "coarse_completed")
    stage = with_mask(taken, "fine_input")
    dilated = _encode(stage, "dilated", range(1, 11), base_channels)
    x = _encode(stage, "attentive", range(1, 6), base_channels)[5]
    x = _conv(x, "attentive_conv6", 4 * base_channels, activation=None)
    x, layout = attend(x, attention, "attentive_attention", False, options)
    x = keras.layers.Activation("elu", name="attentive_elu6")(x)
    for number in (7, 8):
        x = _conv(x, f"attentive_conv{number}", 4 * base_channels)
    fine = decode(keras.layers.Concatenate(name="joined")([dilated[10], x]), "fused", taken, dilated)
    outputs = {"coarse": coarse, "fine": fine, "completed": fill(fine, "completed")}
    if layout is not None:
        outputs["layout"] = layout
    return keras.Model([image, mask], outputs, name="inpainting_generator")


def _encode(x, branch, numbers, base_channels):
    """What the convolutions of a branch with these numbers give, by number."""
    maps = {}
    for number in numbers:
        kernel_size, width, stride, dilation = _ENCODER[number - 1]
        x = _conv(
            x, f"{branch}_conv{number}", width * base_channels, kernel_size, strides=stride, dilation_rate=dilation
        )
        maps[number] = x
    return maps


def _decode(x, branch, base_channels, image_channels, added_to, maps):
    """From features at a quarter of the side to an image; the numbers of the convolutions are the released code's.

    `added_to`: picture to which the image is added, and `maps`, of the encoder, to the features; None is neither.
    """
    for number, width in ((11, 4.0), (12, 4.0), (13, 2.0), (14, 2.0), (15, 1.0), (16, 0.5)):
        resampling = "up" if number in (13, 15) else None
        if resampling:
            x = in_place_of(f"{branch}_up{number}")(x)
        x = _conv(x, f"{branch}_conv{number}", int(width * base_channels), resampling=resampling)
        if resampling and added_to is not None:
            x = keras.layers.Add(name=f"{branch}_shortcut{number}")([x, maps[_SAME_SIZE[number]]])
    if added_to is None:
        return _conv(x, f"{branch}_conv18", image_channels, activation=clip_image, dtype="float32")
    x = _conv(x, f"{branch}_conv18", image_channels, activation=None, dtype="float32", kernel_initializer="zeros")
    # Adam's first steps would otherwise change more than there is to change.
    change = keras.layers.Rescaling(_CHANGE, dtype="float32", name=f"{branch}_change")(x)
    image = keras.layers.Add(dtype="float32", name=f"{branch}_added")([added_to, change])
    return keras.layers.Activation(clip_image, dtype="float32", name=f"{branch}_clipped")(image)


def _conv(x, name, filters, kernel_size=3, activation="elu", resampling=None, **kwargs):
    # Glorot's deviation, the released code's, lets the signal fade in so many layers without normalisation.
    initializer = "he_normal" if activation == "elu" else "glorot_uniform"
    options = {"padding": "same", "activation": activation, "kernel_initializer": initializer, "name": name, **kwargs}
    if resampling:
        return Conv2D(filters, kernel_size, resampling, **options)(x)
    return keras.layers.Conv2D(filters, kernel_size, **options)(x)
