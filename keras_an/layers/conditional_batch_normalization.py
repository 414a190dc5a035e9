"""Class-conditional batch normalisation."""

from collections.abc import Sequence
from typing import Any, Optional

from keras_an.backend import Shape, Tensor, keras, register_serializable
from keras_an.checks import check_positive_integer


@register_serializable(package="keras_an")
class ConditionalBatchNormalization(keras.layers.Layer):
    """Batch normalisation whose scale and offset belong to each image's class: `gamma[label] * norm(x) + beta[label]`.

    Args:
        num_classes: integer, the number of classes.
        momentum: float, of the moving moments used outside training. Defaults to 0.9.
        epsilon: float, added to the variance. Defaults to 1e-5.
        synchronized: whether the moments are those of the whole global batch under `tf.distribute` (TensorFlow only).
            Defaults to False.
        **kwargs: `name`, `dtype` and the other arguments of a Keras layer.

    Call arguments:
        inputs: a list of two tensors, features and labels. Labels: integers in `[0, num_classes)`.
        training: boolean; the moments are the batch's where True, the moving ones otherwise.

    Input shape:
        `[(batch, height, width, channels), (batch,)]`

    Output shape:
        `(batch, height, width, channels)`

    Raises:
        ValueError: where `num_classes` is not a positive integer.

    Example:

    >>> layer = keras_an.layers.ConditionalBatchNormalization(num_classes=10)
    >>> outputs = layer([features, labels])

    References:
        A Learned Representation for Artistic Style (Dumoulin et al., ICLR 2017), Eq. 5; used for class-conditional
        generators by Miyato and Koyama (cGANs with Projection Discriminator, ICLR 2018).
    """

    def __init__(
        self,
        num_classes: int,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_integer("num_classes", num_classes)
        self.num_classes = num_classes
        self.momentum = momentum
        self.epsilon = epsilon
        self.synchronized = synchronized

    def build(self, input_shape: Sequence[Shape]) -> None:
        features_shape, labels_shape = input_shape
        self.normalization = keras.layers.BatchNormalization(
            momentum=self.momentum,
            epsilon=self.epsilon,
            center=False,
            scale=False,
            synchronized=self.synchronized,
            dtype=self.dtype_policy,
            name="normalization",
        )
        self.gamma = keras.layers.Embedding(
            self.num_classes, features_shape[-1], "ones", dtype=self.dtype_policy, name="gamma"
        )
        self.beta = keras.layers.Embedding(
            self.num_classes, features_shape[-1], "zeros", dtype=self.dtype_policy, name="beta"
        )
        self.normalization.build(features_shape)
        self.gamma.build(labels_shape)
        self.beta.build(labels_shape)
        self.built = True

    def call(self, inputs: Sequence[Tensor], training: Optional[bool] = None) -> Tensor:
        features, labels = inputs
        features = self.normalization(features, training=training)
        gamma, beta = self.gamma(labels), self.beta(labels)  # (batch, channels)
        return features * gamma[:, None, None, :] + beta[:, None, None, :]

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "synchronized": self.synchronized,
        }
