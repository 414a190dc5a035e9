"""Pieces that the residual generator and the projection discriminator share."""

from keras_an.backend import keras
from keras_an.checks import check_one_of, is_integer
from keras_an.layers import AttentiveNormalization, Conv2D, SelfAttention, SpectralNormalization

ATTENTION_KINDS = ("none", "self_attention", "attentive_normalization")


def check_channels_last():
    """Raises ValueError where Keras builds its layers for channels in front: the networks here have them last."""
    data_format = keras.backend.image_data_format()
    if data_format != "channels_last":
        raise ValueError(
            'The networks of `keras_an.models` are built with `image_data_format` "channels_last" alone. '
            f"Received: image_data_format={data_format!r}"
        )


def conv(filters, kernel_size, name, spectral_normalization=True, resampling=None):
    """A convolution that keeps height and width, or is a `Conv2D` with `resampling`; spectrally normalised or not."""
    layer_class, options = (Conv2D, {"resampling": resampling}) if resampling else (keras.layers.Conv2D, {})
    layer = layer_class(filters, kernel_size, padding="same", name=name, **options)
    return normalized(layer, spectral_normalization)


def in_place_of(name):
    """A layer that does nothing, where a layer of resampling stood before convolutions resampled.

    Checkpoints number the layers of a network: without it those of before would not be read.
    """
    return keras.layers.Activation("linear", name=name)


def normalized(layer, spectral_normalization=True):
    """`layer`, wrapped in `SpectralNormalization` where asked."""
    return SpectralNormalization(layer) if spectral_normalization else layer


def attend(features, kind, name, spectral_normalization, attentive_options):
    """The attention slot of a block, between its first convolution and what follows.

    Args:
        features: Keras tensor `(batch, height, width, channels)`.
        kind: one of `ATTENTION_KINDS`.
        name: name of the layer.
        spectral_normalization: whether the projections of self-attention are spectrally normalised.
        attentive_options: arguments of `AttentiveNormalization`; those of the residual are self-attention's as well.

    Returns:
        The features, and the layout of `AttentiveNormalization`, or None.

    Raises:
        ValueError: where `kind` is none of `ATTENTION_KINDS`.
    """
    check_one_of("attention", kind, ATTENTION_KINDS)
    if kind == "self_attention":
        options = {key: value for key, value in attentive_options.items() if key.startswith("residual_")}
        return normalized(SelfAttention(**options, name=name), spectral_normalization)(features), None
    if kind == "attentive_normalization":
        return AttentiveNormalization(**attentive_options, name=name)(features, return_layout=True)
    return features, None


def num_resampling_blocks(resolution, attention, attention_blocks):
    """The number of blocks between 4 x 4 and `resolution`, after checking the arguments that depend on it.

    Raises:
        ValueError: where Keras has channels first, `resolution` is not 4 times a power of two from 8 on, `attention` is
            no known kind, or a number in `attention_blocks` is not a block's.
    """
    check_channels_last()
    num_blocks = (int(resolution) // 4).bit_length() - 1 if is_integer(resolution) else 0
    if num_blocks < 1 or resolution != 4 << num_blocks:
        raise ValueError(f"`resolution` must be 8, 16, 32, 64, 128, ... Received: resolution={resolution}")
    check_one_of("attention", attention, ATTENTION_KINDS)
    if attention != "none" and any(not 1 <= block <= num_blocks for block in attention_blocks):
        raise ValueError(
            f"`attention_blocks` must name blocks from 1 to {num_blocks} at resolution {resolution}. "
            f"Received: attention_blocks={list(attention_blocks)}"
        )
    return num_blocks
