"""The known pixels of an image with a hole."""

from collections.abc import Sequence
from typing import Any, Optional

from keras_an.backend import Shape, Tensor, keras, ops, register_serializable, tensor_spec
from keras_an.checks import are_equal_where_known, check_one_of, check_positive_integer


@register_serializable(package="keras_an")
class KnownPixels(keras.layers.Layer):
    """Returns `image * (1 - mask)`, after checking that image and mask fit each other and the network that follows.

    The result is 0 in the hole, whatever the image holds there, NaN included.

    Args:
        divisor: positive integer. Height and width must be multiples of it. Defaults to 1.
        data_format: `"channels_last"` or `"channels_first"`; None is the value of `keras.config.image_data_format()`.
        **kwargs: `name`, `dtype` and the other arguments of a Keras layer.

    Call arguments:
        inputs: `[image, mask]`; the mask is 1 where a pixel is missing, 0 where it is known.

    Input shape:
        `(batch, height, width, channels)` and `(batch, height, width, 1)`; with `"channels_first"` the channels
        follow the batch. Sizes may be unknown until run time.

    Output shape:
        The image's. The dtype is the image's too.

    Raises:
        ValueError: if an argument is out of its range, or the inputs do not have the shapes above.
    """

    def __init__(self, divisor: int = 1, data_format: Optional[str] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_one_of("data_format", data_format, ("channels_last", "channels_first", None))
        self.divisor = check_positive_integer("divisor", divisor)
        self.data_format = data_format or keras.backend.image_data_format()
        self._axis = 1 if self.data_format == "channels_first" else 3

    def build(self, input_shape: Sequence[Shape]) -> None:
        shapes = list(input_shape)
        pair = len(shapes) == 2 and all(isinstance(shape, (list, tuple)) or hasattr(shape, "rank") for shape in shapes)
        if not pair or [len(shape) for shape in shapes] != [4, 4] or shapes[1][self._axis] != 1:
            raise ValueError(
                "`KnownPixels` takes an image (batch, height, width, channels) and a mask (batch, height, width, 1). "
                f"Received: shapes {' and '.join(str(tuple(shape)) if pair else str(shape) for shape in shapes)}"
            )
        self._check_sizes(*shapes)
        channels = (shapes[0][self._axis], 1)
        self.input_spec = [keras.layers.InputSpec(ndim=4, axes={self._axis: number}) for number in channels]
        self.built = True

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        image, mask = inputs
        self._check_sizes(image.shape, mask.shape)
        mask = ops.cast(mask, image.dtype)
        # NaN times 0 is NaN.
        return ops.where(mask == 1, ops.zeros_like(image), image) * (1 - mask)

    def _check_sizes(self, image_shape, mask_shape):
        first = 2 if self.data_format == "channels_first" else 1
        sizes, mask_sizes = (tuple(shape[first : first + 2]) for shape in (image_shape, mask_shape))
        if not are_equal_where_known(sizes, mask_sizes):
            raise ValueError(f"Image and mask must have the same height and width. Received: {sizes} and {mask_sizes}")
        if any(size is not None and size % self.divisor for size in sizes):
            raise ValueError(f"Height and width of an image must divide by {self.divisor}. Received: {sizes}")

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return input_shape[0]

    def compute_output_spec(self, inputs: Sequence[Tensor]) -> Tensor:
        self._check_sizes(*(part.shape for part in inputs))
        return tensor_spec(inputs[0].shape, inputs[0].dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "divisor": self.divisor, "data_format": self.data_format}
