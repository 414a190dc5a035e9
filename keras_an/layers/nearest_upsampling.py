"""Nearest-neighbour up-sampling that XLA compiles on every stack."""

from typing import Any

from keras_an.backend import Shape, Tensor, keras, ops, register_serializable


@register_serializable(package="keras_an")
class NearestUpsampling(keras.layers.Layer):
    """Doubles height and width by repeating every position: `y[2i + a, 2j + b] = x[i, j]`.

    It is `keras.layers.UpSampling2D(2)` from concatenations and reshapes, whose gradients XLA compiles: on TensorFlow
    2.15 the gradient of the resize kernel that Keras uses has no XLA form.

    Args:
        **kwargs: `name`, `dtype` and the other arguments of a Keras layer.

    Call arguments:
        inputs: tensor of any numeric dtype.

    Input shape:
        `(batch, height, width, channels)`, channels known.

    Output shape:
        `(batch, 2 * height, 2 * width, channels)`

    Raises:
        ValueError: where the input is not of rank 4.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 4:
            raise ValueError(
                "`NearestUpsampling` takes inputs of (batch, height, width, channels). "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        batch_size, height, width, channels = ops.shape(inputs)
        rows = ops.concatenate([inputs, inputs], axis=-1)  # (batch, height, width, 2 * channels): each position twice
        rows = ops.reshape(rows, (batch_size, height, 2 * width * channels))
        rows = ops.concatenate([rows, rows], axis=-1)  # each row twice
        return ops.reshape(rows, (batch_size, 2 * height, 2 * width, channels))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch_size, height, width, channels = input_shape
        return (batch_size, height and 2 * height, width and 2 * width, channels)
