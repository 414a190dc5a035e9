"""The penalty that keeps the entities apart (paper, Eq. 2)."""

from keras_an.backend import Tensor, ops, widen


def orthogonality(entities: Tensor, mode: str = "cosine") -> Tensor:
    """Squared Frobenius norm of the entities' Gram matrix minus the identity: `sum((W W^T - I)^2)`.

    Args:
        entities: float `(entities, channels)`.
        mode: `"cosine"` scales each row of W to unit length first, so that only the angles count; `"frobenius"` takes
            W itself, the paper's letter, which also pulls the rows to unit length.

    Returns:
        float32 scalar, or float64 if the entities are; never negative, and 0 if the rows are orthogonal (with
        `"frobenius"` also of length 1).
    """
    (entities,) = widen(entities)
    if mode == "cosine":
        length = ops.sum(ops.square(entities), axis=-1, keepdims=True)
        entities = entities * ops.rsqrt(length + 1e-12)
    gram = entities @ ops.transpose(entities)
    return ops.sum(ops.square(gram - ops.eye(gram.shape[0], dtype=gram.dtype)))
