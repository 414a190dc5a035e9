"""A smooth fill of the hole of an image."""

import math
from collections.abc import Sequence
from typing import Any, Optional

from keras_an.backend import Shape, Tensor, keras, ops, register_serializable, tensor_spec, wide_dtype, widen
from keras_an.checks import are_equal_where_known, check_one_of, check_positive_integer

_SMALLEST = 0.01  # eigenvalue, over the largest, down to which errors are damped alike; the levels above do the others


@register_serializable(package="keras_an")
class DiffusionFill(keras.layers.Layer):
    """Fills the hole of an image smoothly from the known pixels around it, by a pyramid, in time linear in its size.

    The fill u comes close to the one with `lap(u) = stiffness * lap(lap(u))` in the hole, where `lap` is the difference
    of the four neighbours' sum from four times the position: a stretched plate. Near what is known it carries on slopes
    as a thin plate does (the biharmonic fill); far from it, it levels out as a membrane does (the harmonic one). A
    stiffness of 0 gives a membrane everywhere.

    Down the pyramid a position takes the mean of the known ones of its 2 x 2, and is known where one of them is:
    `v' = pool(v * k) / pool(k)`, `k' = pool(k) > 0`. What the top lacks takes the mean of all known pixels. Up again, a
    position that is not known takes the bilinear interpolation of the level above; then follow `smoothing_steps` steps
    of Chebyshev's iteration on the equation, for errors down to a hundredth of its largest eigenvalue.

    Args:
        stiffness: float of at least 0, in squared pixels of each level. Defaults to 4.
        smoothing_steps: positive integer. Defaults to 12.
        num_levels: positive integer, halvings of the pyramid. A hole of more than `2 ** num_levels` pixels has the mean
            in its depth. Defaults to 8.
        data_format: `"channels_last"` or `"channels_first"`; None is the value of `keras.config.image_data_format()`.
        dtype: what the inputs are cast to. Defaults to float32, under any global policy.
        **kwargs: `name` and the other arguments of a Keras layer.

    Call arguments:
        inputs: `[image, mask]`; the mask is above 0 where a pixel is missing. What the image holds there plays no part,
            not even NaN.

    Input shape:
        `(batch, height, width, channels)` and `(batch, height, width, 1)`; with `"channels_first"` the channels follow
        the batch. Sizes may be unknown until run time, and need not be even.

    Output shape:
        The image's; float32, or float64 if an input is float64 after the cast. Known pixels are the image's, and all
        others lie between the least and the largest of these, channel by channel; without any they are 0.

    Raises:
        ValueError: if an argument is out of its range, or the inputs do not have the shapes above.

    References:
        The Lumigraph (Gortler et al., SIGGRAPH 1996), Section 3.4, for the pyramid; Gridding with continuous curvature
        splines in tension (Smith and Wessel, Geophysics 1990), for the equation.
    """

    def __init__(
        self,
        stiffness: float = 4.0,
        smoothing_steps: int = 12,
        num_levels: int = 8,
        data_format: Optional[str] = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype=dtype, **kwargs)
        check_one_of("data_format", data_format, ("channels_last", "channels_first", None))
        if not 0 <= stiffness < math.inf:
            raise ValueError(f"`stiffness` must be a finite number of at least 0. Received: stiffness={stiffness!r}")
        self.stiffness = float(stiffness)
        self.smoothing_steps = check_positive_integer("smoothing_steps", smoothing_steps)
        self.num_levels = check_positive_integer("num_levels", num_levels)
        self.data_format = data_format or keras.backend.image_data_format()
        self._axis = 1 if self.data_format == "channels_first" else 3

    def build(self, input_shape: Sequence[Shape]) -> None:
        shapes = list(input_shape)
        pair = len(shapes) == 2 and all(hasattr(shape, "__len__") and len(shape) == 4 for shape in shapes)
        if not pair or shapes[1][self._axis] not in (1, None):
            raise ValueError(
                "`DiffusionFill` takes an image (batch, height, width, channels) and a mask (batch, height, width, 1). "
                f"Received: shapes {', '.join(map(str, shapes))}"
            )
        first = 2 if self.data_format == "channels_first" else 1
        sizes, mask_sizes = (tuple(shape[first : first + 2]) for shape in shapes)
        if not are_equal_where_known(sizes, mask_sizes):
            raise ValueError(f"Image and mask must have the same height and width. Received: {sizes} and {mask_sizes}")
        channels = (shapes[0][self._axis], 1)
        self.input_spec = [keras.layers.InputSpec(ndim=4, axes={self._axis: number}) for number in channels]
        self.built = True

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        image, mask = widen(*inputs)
        if 0 in tuple(image.shape):  # nothing to pool
            return image
        if self.data_format == "channels_first":
            return ops.moveaxis(self._filled(ops.moveaxis(image, 1, -1), ops.moveaxis(mask, 1, -1)), -1, 1)
        return self._filled(image, mask)

    def _filled(self, image, mask):
        known = ops.cast(mask <= 0, image.dtype)  # (batch, height, width, 1)
        is_any = ops.max(known, axis=(1, 2), keepdims=True) > 0  # (batch, 1, 1, 1)
        image = ops.where(known > 0, image, ops.zeros_like(image))  # NaN times 0 is NaN
        number = ops.clip(ops.sum(known, axis=(1, 2), keepdims=True), 1.0, math.inf)
        mean = ops.sum(image, axis=(1, 2), keepdims=True) / number  # (batch, 1, 1, channels)
        least, most = (
            sign * ops.max(ops.where(known > 0, sign * image, sign * mean), axis=(1, 2), keepdims=True)
            for sign in (-1.0, 1.0)
        )
        levels = [(image, known)]
        for _ in range(self.num_levels):
            levels.append(_halved(*levels[-1]))
        values, known = levels.pop()
        filled = ops.where(known > 0, values, mean)
        for values, known in reversed(levels):
            _, height, width, _ = ops.shape(values)
            filled = ops.where(known > 0, values, _doubled(filled)[:, :height, :width])
            filled = self._smoothed(filled, known)
            # Keras's minimum and maximum would make float32 of float64 on PyTorch.
            filled = ops.where(filled > most, most, ops.where(filled < least, least, filled))
        filled = ops.where(known > 0, values, filled)
        return ops.where(is_any, filled, ops.zeros_like(filled))

    def _smoothed(self, x, known):
        """Chebyshev's iteration towards the solution, from x; known positions stay.

        References:
            Iterative Methods for Sparse Linear Systems (Saad, 2003), Algorithm 12.1.
        """
        largest = 8.0 + 64.0 * self.stiffness
        middle, radius = 0.5 * largest * (1.0 + _SMALLEST), 0.5 * largest * (1.0 - _SMALLEST)

        hole, laplacian = 1.0 - known, _laplacian_of(x)

        def residual(x):
            bent = laplacian(x)
            return hole * (bent - self.stiffness * laplacian(bent) if self.stiffness else bent)

        ratio = radius / middle
        change = residual(x) / middle
        x = x + change
        for _ in range(self.smoothing_steps - 1):
            following = 1.0 / (2.0 * middle / radius - ratio)
            change = following * ratio * change + 2.0 * following / radius * residual(x)
            x, ratio = x + change, following
        return x

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return input_shape[0]

    def compute_output_spec(self, inputs: Sequence[Tensor]) -> Tensor:
        return tensor_spec(inputs[0].shape, wide_dtype(*(part.dtype for part in inputs)))

    def get_config(self) -> dict[str, Any]:
        config = {
            "stiffness": self.stiffness,
            "smoothing_steps": self.smoothing_steps,
            "num_levels": self.num_levels,
            "data_format": self.data_format,
        }
        return {**super().get_config(), **config}


def _halved(values, known):
    """The means of the known of 2 x 2 positions, and 1 where there is one; a last row or column may stand alone."""
    pooled = ops.average_pool(ops.concatenate([values, known], axis=-1), 2, 2, "same", "channels_last")
    share = pooled[..., -1:]
    return pooled[..., :-1] / ops.where(share > 0, share, ops.ones_like(share)), ops.cast(share > 0, values.dtype)


def _doubled(x):
    """Bilinear interpolation to twice the size, with the edges repeated: `(batch, 2 * height, 2 * width, channels)`."""
    batch_size, height, width, channels = ops.shape(x)
    left, right = _neighbours(x, 2)
    x = ops.concatenate([0.75 * x + 0.25 * left, 0.75 * x + 0.25 * right], axis=-1)
    x = ops.reshape(x, (batch_size, height, 2 * width * channels))
    above, below = _neighbours(x, 1)
    x = ops.concatenate([0.75 * x + 0.25 * above, 0.75 * x + 0.25 * below], axis=-1)
    return ops.reshape(x, (batch_size, 2 * height, 2 * width, channels))


def _laplacian_of(x):
    """A function of maps as x: the sum of a position's neighbours' differences from it."""
    cross = [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]

    def sum_of_neighbours(x):
        channels = range(x.shape[-1])
        kernel = [
            [[[weight * (one == other) for one in channels] for other in channels] for weight in row] for row in cross
        ]
        return ops.conv(x, ops.convert_to_tensor(kernel, dtype=x.dtype), 1, "same", "channels_last")

    number = sum_of_neighbours(ops.ones_like(x[..., :1]))
    return lambda x: sum_of_neighbours(x) - number * x


def _neighbours(x, axis):
    """Every position's neighbour before and behind it along axis 1 or 2."""
    if axis == 1:
        return ops.concatenate([x[:, :1], x[:, :-1]], axis=1), ops.concatenate([x[:, 1:], x[:, -1:]], axis=1)
    return ops.concatenate([x[:, :, :1], x[:, :, :-1]], axis=2), ops.concatenate([x[:, :, 1:], x[:, :, -1:]], axis=2)
