"""Nearest-neighbour up-sampling that XLA compiles on every stack."""

from typing import Any, Optional

from keras_an.backend import Shape, Tensor, keras, ops, register_serializable, tensor_spec
from keras_an.checks import check_one_of
from keras_an.ops import double


@register_serializable(package="keras_an")
class NearestUpsampling(keras.layers.Layer):
    """Doubles height and width by repeating every position: `y[2i + a, 2j + b] = x[i, j]`.

    It computes what `keras.layers.UpSampling2D(2)` does, by concatenations and reshapes, whose gradients XLA compiles.
    The gradient of the resize kernel that Keras uses has no XLA form on TensorFlow 2.15.

    Args:
        data_format: `"channels_last"` or `"channels_first"`; None is the value of `keras.config.image_data_format()`.
        **kwargs: `name`, `dtype` and the other arguments of a Keras layer.

    Call arguments:
        inputs: tensor of any numeric dtype.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` with `"channels_first"`. The number of
        channels must be known.

    Output shape:
        The input's, with height and width doubled. The dtype is the input's too.

    Raises:
        ValueError: if the input is not of rank 4.
    """

    def __init__(self, data_format: Optional[str] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_one_of("data_format", data_format, ("channels_last", "channels_first", None))
        self.data_format = data_format or keras.backend.image_data_format()

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 4:
            raise ValueError(
                "`NearestUpsampling` takes inputs of (batch, height, width, channels). "
                f"Received: input_shape={tuple(input_shape)}"
            )
        axis = 1 if self.data_format == "channels_first" else -1
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={axis: input_shape[axis]})
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        if self.data_format == "channels_first":
            return ops.moveaxis(double(ops.moveaxis(inputs, 1, -1)), -1, 1)
        return double(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        first = 2 if self.data_format == "channels_first" else 1
        doubled = tuple(size and 2 * size for size in input_shape[first : first + 2])
        return (*input_shape[:first], *doubled, *input_shape[first + 2 :])

    def compute_output_spec(self, inputs: Tensor) -> Tensor:
        return tensor_spec(self.compute_output_shape(inputs.shape), inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}
