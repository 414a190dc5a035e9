"""The products between feature maps, layouts and tables of entities, of which everything else is made.

Feature maps are float32 `(batch, positions, channels)`, layouts `(batch, positions, entities)` and tables
`(batch, entities, channels)`, or `(entities, channels)` for all images. Each product takes
O(entities * positions * channels) time, and none builds a tensor of (batch, positions, channels, entities).

Keras's `matmul`, `mean`, `maximum` and `minimum` make float32 of float64 on JAX or PyTorch: operators, `einsum`, `sum`
and `clip` do not.
"""

import math

from keras_an.backend import fuses_elementwise, ops


def project(features, kernel):
    """`v W`, a 1x1 convolution: `(*outer, inputs)` and `(inputs, outputs)` give `(*outer, outputs)`.

    All rows are in one matrix. Otherwise the gradient by the kernel were a matrix for each image, or for each row of an
    image, before their sum.
    """
    *outer, size = ops.shape(features)
    kernel = ops.convert_to_tensor(kernel)
    return ops.reshape(ops.reshape(features, (math.prod(outer), size)) @ kernel, (*outer, kernel.shape[-1]))


def region_sums(values, layout):
    """`sum_p S_i v`: a table, `(batch, entities, channels)`."""
    # A transposition before a product is a copy under XLA where there is one image.
    return ops.einsum("bpn,bpc->bnc", layout, values)


def entity_products(values, table, shift=None):
    """`(v - shift) . table_i` of every position: a layout.

    Args:
        values: feature map.
        table: table.
        shift: `(batch, 1, channels)`, subtracted without storing the difference; None subtracts nothing.
    """
    products = ops.einsum("bpc,nc->bpn" if len(table.shape) == 2 else "bpc,bnc->bpn", values, table)
    return products if shift is None else products - entity_products(shift, table)


def mix(layout, table):
    """`sum_i S_i table_i`: a feature map."""
    if not fuses_elementwise(layout):
        return layout @ table
    # XLA does not fuse a matrix product with what follows; this sum it does, and so never stores it.
    return sum(layout[:, :, i : i + 1] * table[..., i : i + 1, :] for i in range(layout.shape[-1]))
