"""A convolution that doubles or halves its map."""

import math
from typing import Any, Optional, Union

from keras_an.backend import Shape, Tensor, add_bias, keras, ops, register_serializable
from keras_an.checks import check_one_of
from keras_an.ops import double, doubled_convolution, halve, halved_convolution

# On fewer positions of the smaller map, over all images, making the 4x4 kernel costs more than it saves.
_FEWEST_POSITIONS = 192


# Of Keras's name, since files of weights name layers by their classes: they serve this layer and Keras's alike.
@register_serializable(package="keras_an")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` behind nearest up-sampling, or before a mean over 2 x 2, for less than half the work.

    - `resampling="up"`: `activation(conv(up(x)) + bias)`, with `up(x)[2i + a, 2j + b] = x[i, j]`.
    - `resampling="down"`: `activation(mean(conv(x)) + bias)`, the mean over 2 x 2 positions.

    It computes what `keras.layers.Conv2D` and `UpSampling2D(2)` or `AveragePooling2D(2)` compute one after the other,
    with the weights, names and files of that `Conv2D`. Up-sampling and a 3x3 convolution are one transposed 4x4
    convolution of stride 2, a 3x3 convolution and the mean one 4x4 convolution of stride 2. Each call makes the 4x4
    kernel, of sums of the 3x3 one; maps of few positions take the plain way, which is faster there. A 1x1 convolution
    takes the smaller map.

    Args:
        filters: positive integer, channels of the output.
        kernel_size: 1 or 3.
        resampling: `"up"` or `"down"`.
        data_format: `"channels_last"` or `"channels_first"`; None is the value of `keras.config.image_data_format()`.
        **kwargs: the other arguments of `keras.layers.Conv2D`; but strides, dilation and groups are 1, and the padding
            is `"same"`.

    Call arguments:
        inputs: floating-point tensor.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` with `"channels_first"`.

    Output shape:
        `(batch, 2 * height, 2 * width, filters)` with `"up"` and `(batch, height // 2, width // 2, filters)` with
        `"down"`; with `"channels_first"` the filters are second.

    Raises:
        ValueError: if an argument has none of the values above, or the input is not of rank 4.

    Example:

    ```python
    >>> layer = keras_an.layers.Conv2D(64, 3, resampling="up")
    >>> layer(keras.ops.ones((1, 8, 8, 128))).shape
    (1, 16, 16, 64)
    ```
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Union[int, tuple[int, int]],
        resampling: str,
        data_format: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        check_one_of("resampling", resampling, ("up", "down"))
        check_one_of("data_format", data_format, ("channels_last", "channels_first", None))
        kwargs.setdefault("padding", "same")
        super().__init__(filters, kernel_size, data_format=data_format, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.resampling = resampling
        check_one_of("kernel_size", tuple(self.kernel_size), ((1, 1), (3, 3)))
        check_one_of("padding", self.padding, ("same",))
        check_one_of("strides", tuple(self.strides), ((1, 1),))
        check_one_of("dilation_rate", tuple(self.dilation_rate), ((1, 1),))
        check_one_of("groups", self.groups, (1,))

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        axis = 1 if self.data_format == "channels_first" else -1
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={axis: input_shape[axis]})

    def call(self, inputs: Tensor) -> Tensor:
        if self.data_format == "channels_first":
            return ops.moveaxis(self._call(ops.moveaxis(inputs, 1, -1)), -1, 1)
        return self._call(inputs)

    def _call(self, inputs):
        outputs = self._convolve(inputs, ops.convert_to_tensor(self.kernel))
        if self.use_bias:
            outputs = add_bias(outputs, ops.convert_to_tensor(self.bias))
        if self.activation is not None:
            outputs = self.activation(outputs)
        # What a 1x1 convolution gives is repeated as what it takes.
        return double(outputs) if self.resampling == "up" and self.kernel_size == (1, 1) else outputs

    def _convolve(self, inputs, kernel):
        if self.kernel_size == (1, 1):
            return _conv(halve(inputs) if self.resampling == "down" else inputs, kernel)
        positions = _known_positions(inputs.shape)
        if self.resampling == "up":
            return (
                doubled_convolution(inputs, kernel) if positions >= _FEWEST_POSITIONS else _conv(double(inputs), kernel)
            )
        return (
            halved_convolution(inputs, kernel) if positions >= 4 * _FEWEST_POSITIONS else halve(_conv(inputs, kernel))
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        first = 2 if self.data_format == "channels_first" else 1
        sizes = [
            size and (2 * size if self.resampling == "up" else size // 2) for size in input_shape[first : first + 2]
        ]
        if self.data_format == "channels_first":
            return (input_shape[0], self.filters, *sizes)
        return (input_shape[0], *sizes, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "resampling": self.resampling}


def _conv(inputs, kernel):
    if 0 in tuple(inputs.shape):  # TensorFlow's convolutions give an empty map as many channels as it had
        return inputs @ kernel[0, 0]
    return ops.conv(inputs, kernel, 1, "same", "channels_last")


def _known_positions(shape):
    """Positions of a map over all images, of which there is one at least; many where its sides are unknown."""
    batch_size, height, width, _ = shape
    return math.inf if None in (height, width) else (batch_size or 1) * height * width
