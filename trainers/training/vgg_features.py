"""Features of VGG-19, of which the ID-MRF term is made."""

import os

import tensorflow as tf

from keras_an.backend import keras
from keras_an.losses import id_mrf_loss

_WEIGHTS = {"block3_conv2": 1.0, "block4_conv2": 2.0}  # style on both, content on the second
_MEAN = (123.68, 116.779, 103.939)  # of ImageNet: red, green, blue


class IdMrf:
    """The ID-MRF term of pictures: style on VGG-19's conv3_2 and conv4_2, content on conv4_2.

    Args:
        weights: file of the weights of `keras.applications.VGG19` without its top.

    Raises:
        ValueError: where the file is missing or holds other weights.

    References:
        Image Inpainting via Generative Multi-column Convolutional Neural Networks (Wang et al., NeurIPS 2018),
        Section 3.2.
    """

    def __init__(self, weights):
        if not os.path.isfile(weights):
            raise ValueError(f"`task.losses.vgg_weights` must be a file. Received: {weights!r}")
        vgg = keras.applications.VGG19(include_top=False, weights=None, input_shape=(None, None, 3))
        try:
            vgg.load_weights(weights)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"`task.losses.vgg_weights` must hold the weights of keras.applications.VGG19 without its top. "
                f"Received: {weights!r}: {str(error).splitlines()[0]}"
            ) from error
        self._network = keras.Model(vgg.inputs, [vgg.get_layer(name).output for name in _WEIGHTS])
        self._network.trainable = False

    def __call__(self, target, prediction):
        """The term of images float32 `(batch, height, width, 3)` in [-1, 1], a float32 scalar."""
        parts = zip(_WEIGHTS.values(), self._features(target), self._features(prediction))
        return tf.add_n([weight * id_mrf_loss(wanted, found) for weight, wanted, found in parts])

    def _features(self, images):
        pixels = (images + 1.0) * 127.5 - tf.constant(_MEAN)
        return self._network(pixels[..., ::-1], training=False)  # VGG-19 takes blue first
