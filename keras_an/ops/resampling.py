"""Doubling and halving of maps, and the convolutions that do it at less than half the products.

Maps are `(batch, height, width, channels)`, kernels `(3, 3, channels, filters)`, as Keras stores them. Padding is
Keras's "same" throughout. Everything is computed in the arguments' dtype.
"""

from keras_an.backend import Tensor, ops

# The mean of positions 2i and 2i + 1: one has the rows 2i - 1, 2i and 2i + 1 of the map, the other the three below.
_HALVING = [[0.5, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 0.5]]
# A transposed convolution scatters what a convolution gathers: it is the other way up.
_DOUBLING = [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]


def double(inputs: Tensor) -> Tensor:
    """Nearest-neighbour up-sampling: `y[2i + a, 2j + b] = x[i, j]`.

    Args:
        inputs: `(batch, height, width, channels)`, of any numeric dtype.

    Returns:
        `(batch, 2 * height, 2 * width, channels)`.
    """
    # Concatenations and reshapes, whose gradients XLA compiles.
    batch_size, height, width, channels = ops.shape(inputs)
    rows = ops.concatenate([inputs, inputs], axis=-1)  # (batch, height, width, 2 * channels): each position twice
    rows = ops.reshape(rows, (batch_size, height, 2 * width * channels))
    rows = ops.concatenate([rows, rows], axis=-1)  # each row twice
    return ops.reshape(rows, (batch_size, 2 * height, 2 * width, channels))


def halve(inputs: Tensor) -> Tensor:
    """The mean over 2 x 2 positions; a last row or column without a partner is left out.

    Args:
        inputs: float `(batch, height, width, channels)`.

    Returns:
        `(batch, height // 2, width // 2, channels)`.
    """
    if 0 in tuple(inputs.shape):
        return inputs[:, : inputs.shape[1] // 2, : inputs.shape[2] // 2]
    return ops.average_pool(inputs, 2, 2, "valid", "channels_last")


def doubled_convolution(inputs: Tensor, kernel: Tensor) -> Tensor:
    """The 3x3 convolution of `double(inputs)`, without that map.

    Two rows of three that see the same position of `inputs` add up. So it is a transposed 4x4 convolution of stride 2:
    4 products in place of 9 for each position, channel and filter.

    Args:
        inputs: float `(batch, height, width, channels)`.
        kernel: float `(3, 3, channels, filters)`.

    Returns:
        `(batch, 2 * height, 2 * width, filters)`.
    """
    kernel = _summed(ops.transpose(kernel, (0, 1, 3, 2)), _DOUBLING)  # (4, 4, filters, channels)
    return ops.conv_transpose(inputs, kernel, 2, "same", data_format="channels_last")


def halved_convolution(inputs: Tensor, kernel: Tensor) -> Tensor:
    """`halve` of the 3x3 convolution of `inputs`, without that map.

    The mean of four neighbours is a 4x4 convolution of stride 2: 4 products in place of 9.

    Args:
        inputs: float `(batch, height, width, channels)`.
        kernel: float `(3, 3, channels, filters)`.

    Returns:
        `(batch, height // 2, width // 2, filters)`.
    """
    outputs = ops.conv(inputs, _summed(kernel, _HALVING), 2, "same", "channels_last")
    # Of an odd size "same" also gives the last row, which is no mean of two.
    height, width = inputs.shape[1:3]
    if height is None or height % 2:
        outputs = outputs[:, : ops.shape(inputs)[1] // 2]
    if width is None or width % 2:
        outputs = outputs[:, :, : ops.shape(inputs)[2] // 2]
    return outputs


def _summed(kernel, sums):
    """A 4x4 kernel whose rows, and columns, are sums of those of a 3x3 one: which, `sums` says, 4 x 3."""
    both = [[one * other for one in row for other in column] for row in sums for column in sums]  # 16 x 9
    rows = ops.reshape(kernel, (9, kernel.shape[2] * kernel.shape[3]))
    return ops.reshape(ops.convert_to_tensor(both, dtype=kernel.dtype) @ rows, (4, 4, *kernel.shape[2:]))
