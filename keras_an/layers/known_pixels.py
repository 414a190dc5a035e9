"""The known pixels of an image with a hole."""

from collections.abc import Sequence
from typing import Any

from keras_an.backend import Shape, Tensor, keras, ops, register_serializable


@register_serializable(package="keras_an")
class KnownPixels(keras.layers.Layer):
    """`image * (1 - mask)`, after a check that both fit each other and the network behind.

    Args:
        divisor: positive integer by which height and width must divide. Defaults to 1.
        **kwargs: `name`, `dtype` and the other arguments of a Keras layer.

    Call arguments:
        inputs: `[image, mask]`; mask 1 where a pixel is missing, 0 where it is known.

    Input shape:
        `(batch, height, width, channels)` and `(batch, height, width, 1)`; sizes may be unknown until run time.

    Output shape:
        The image's.

    Raises:
        ValueError: where the input is not as said above.
    """

    def __init__(self, divisor: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.divisor = divisor

    def build(self, input_shape: Sequence[Shape]) -> None:
        shapes = list(input_shape)
        pair = len(shapes) == 2 and all(isinstance(shape, (list, tuple)) or hasattr(shape, "rank") for shape in shapes)
        if not pair or [len(shape) for shape in shapes] != [4, 4] or shapes[1][-1] != 1:
            raise ValueError(
                "`KnownPixels` takes an image (batch, height, width, channels) and a mask (batch, height, width, 1). "
                f"Received: shapes {' and '.join(str(tuple(shape)) if pair else str(shape) for shape in shapes)}"
            )
        self.built = True

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        image, mask = inputs
        sizes, mask_sizes = tuple(image.shape[1:3]), tuple(mask.shape[1:3])
        if any(None not in (size, other) and size != other for size, other in zip(sizes, mask_sizes)):
            raise ValueError(f"Image and mask must have the same height and width. Received: {sizes} and {mask_sizes}")
        if any(size is not None and size % self.divisor for size in sizes):
            raise ValueError(f"Height and width of an image must divide by {self.divisor}. Received: {sizes}")
        return image * (1.0 - ops.cast(mask, image.dtype))

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "divisor": self.divisor}
