"""Nearest-neighbour up-sampling that XLA compiles on every stack."""

from keras_an.backend import keras, ops, register_serializable


@register_serializable(package="keras_an")
class NearestUpsampling(keras.layers.Layer):
    """Doubles height and width by repeating every position: `y[2i + a, 2j + b] = x[i, j]`.

    It is `keras.layers.UpSampling2D(2)` from concatenations and reshapes, whose gradients XLA compiles: on TensorFlow
    2.15 the gradient of the resize kernel that Keras uses has no XLA form.

    Args:
        align_corners: whether row i of 2 n reads row `round(i * (n - 1) / (2 n - 1))` instead, as columns do, which is
            TensorFlow 1's `resize_nearest_neighbor(align_corners=True)`: for weights that were trained with it.
            Defaults to False.
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

    def __init__(self, align_corners=False, **kwargs):
        super().__init__(**kwargs)
        self.align_corners = align_corners

    def build(self, input_shape):
        if len(input_shape) != 4:
            raise ValueError(
                "`NearestUpsampling` takes inputs of (batch, height, width, channels). "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.built = True

    def call(self, inputs):
        batch_size, height, width, channels = ops.shape(inputs)
        if self.align_corners:
            return ops.take(ops.take(inputs, _aligned_indices(height), axis=1), _aligned_indices(width), axis=2)
        rows = ops.concatenate([inputs, inputs], axis=-1)  # (batch, height, width, 2 * channels): each position twice
        rows = ops.reshape(rows, (batch_size, height, 2 * width * channels))
        rows = ops.concatenate([rows, rows], axis=-1)  # each row twice
        return ops.reshape(rows, (batch_size, 2 * height, 2 * width, channels))

    def compute_output_shape(self, input_shape):
        batch_size, height, width, channels = input_shape
        return (batch_size, height and 2 * height, width and 2 * width, channels)

    def get_config(self):
        return {**super().get_config(), "align_corners": self.align_corners}


def _aligned_indices(size):
    """For each of `2 * size` places the nearest of `size`, first on first and last on last; there are no ties."""
    last = 2 * size - 1
    return (2 * ops.arange(2 * size) * (size - 1) + last) // (2 * last)
