"""Class-conditional batch normalisation."""

from collections.abc import Sequence
from typing import Any, Optional

from keras_an.backend import Identifier, Shape, Tensor, keras, ops, register_serializable
from keras_an.checks import check_one_of, check_positive_integer
from keras_an.layers.batch_normalization import BatchNormalization


@register_serializable(package="keras_an")
class ConditionalBatchNormalization(keras.layers.Layer):
    """Batch normalisation whose scale and offset belong to each image's class: `gamma[label] * norm(x) + beta[label]`.

    Args:
        num_classes: integer, the number of classes.
        momentum: float, of the moving moments, which are used outside training. Defaults to 0.9.
        epsilon: float, added to the variance. Defaults to 1e-5.
        synchronized: whether batch norm takes the moments of the global batch under `tf.distribute` (TensorFlow only).
            Defaults to False.
        data_format: `"channels_last"` or `"channels_first"`; None is the value of `keras.config.image_data_format()`.
        gamma_initializer, gamma_regularizer: of the scales, `(num_classes, channels)`, which start at 1.
        beta_initializer, beta_regularizer: of the offsets, `(num_classes, channels)`, which start at 0.
        **kwargs: `name`, `dtype` and the other arguments of a Keras layer. On JAX and PyTorch Keras's batch norm
            computes float64 in float32.

    Call arguments:
        inputs: `[features, labels]`; labels are integers in `[0, num_classes)`, not one-hot vectors.
        training: boolean. If it is True, the moments are the batch's, otherwise the moving ones.

    Input shape:
        `[(batch, height, width, channels), (batch,)]`, or `[(batch, channels, height, width), (batch,)]` with
        `"channels_first"`; labels may also be `(batch, 1)`.

    Output shape:
        The features'.

    Raises:
        ValueError: if `num_classes` is not a positive integer, or the inputs do not have the shapes above.

    Example:

    ```python
    >>> layer = keras_an.layers.ConditionalBatchNormalization(num_classes=10)
    >>> outputs = layer([features, labels])
    ```

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
        data_format: Optional[str] = None,
        gamma_initializer: Identifier = "ones",
        gamma_regularizer: Optional[Identifier] = None,
        beta_initializer: Identifier = "zeros",
        beta_regularizer: Optional[Identifier] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_one_of("data_format", data_format, ("channels_last", "channels_first", None))
        self.num_classes = check_positive_integer("num_classes", num_classes)
        self.momentum = momentum
        self.epsilon = epsilon
        self.synchronized = synchronized
        self.data_format = data_format or keras.backend.image_data_format()
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)

    def build(self, input_shape: Sequence[Shape]) -> None:
        shapes = [tuple(shape) if hasattr(shape, "__len__") else () for shape in input_shape]
        if [len(shape) for shape in shapes] not in ([4, 1], [4, 2]) or shapes[1][1:] not in ((), (1,)):
            raise ValueError(
                "`ConditionalBatchNormalization` takes features (batch, height, width, channels) and labels (batch,) "
                f"or (batch, 1), integers and not one-hot. Received: shapes {', '.join(map(str, input_shape))}"
            )
        features_shape, labels_shape = shapes
        axis = 1 if self.data_format == "channels_first" else -1
        channels = features_shape[axis]
        self.normalization = BatchNormalization(
            axis=axis,
            momentum=self.momentum,
            epsilon=self.epsilon,
            center=False,
            scale=False,
            synchronized=self.synchronized,
            dtype=self.dtype_policy,
            name="normalization",
        )
        self.gamma = self._add_table("gamma", channels, self.gamma_initializer, self.gamma_regularizer)
        self.beta = self._add_table("beta", channels, self.beta_initializer, self.beta_regularizer)
        self.normalization.build(features_shape)
        self.gamma.build(labels_shape[:1])
        self.beta.build(labels_shape[:1])
        self.input_spec = [
            keras.layers.InputSpec(ndim=4, axes={axis: channels}),
            keras.layers.InputSpec(ndim=len(labels_shape), axes={1: 1} if len(labels_shape) == 2 else None),
        ]
        self.built = True

    def _add_table(self, name, channels, initializer, regularizer):
        return keras.layers.Embedding(
            self.num_classes, channels, initializer, regularizer, dtype=self.dtype_policy, name=name
        )

    def call(self, inputs: Sequence[Tensor], training: Optional[bool] = None) -> Tensor:
        features, labels = inputs
        if len(labels.shape) == 2:
            labels = ops.reshape(labels, (-1,))
        features = self.normalization(features, training=training)
        gamma, beta = self.gamma(labels), self.beta(labels)  # (batch, channels)
        if self.data_format == "channels_first":
            return features * gamma[:, :, None, None] + beta[:, :, None, None]
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
            "data_format": self.data_format,
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "gamma_regularizer": keras.regularizers.serialize(self.gamma_regularizer),
            "beta_initializer": keras.initializers.serialize(self.beta_initializer),
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
        }
