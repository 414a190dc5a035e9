"""The paper's equations in NumPy loops over positions and entities, in float64, for tests to compare with."""

import numpy as np

WEIGHTS = [
    "entities",
    "query_kernel",
    "query_bias",
    "key_kernel",
    "key_bias",
    "sampling_weight",
    "value_kernel",
    "alpha",
    "beta",
    "residual_weight",
]


def weights_of(layer):
    """Weights by name, float64."""
    return {name: np.asarray(getattr(layer, name), np.float64) for name in WEIGHTS if hasattr(layer, name)}


def reference(images, weights, temperature=0.1, epsilon=1e-5, pool_size=2, windows=None):
    """Output and layout by the paper's equations, in float64.

    Args:
        images: `(batch, *spatial, channels)`.
        weights: arrays by name; without `value_kernel` v(x) is x, without `beta` there is no affine.
        windows: for every image, the pooled positions that self-sampling drew; None: no self-sampling.
    """
    results = [
        _reference_image(image, weights, temperature, epsilon, pool_size, None if windows is None else windows[index])
        for index, image in enumerate(np.asarray(images, np.float64))
    ]
    return tuple(np.stack(parts) for parts in zip(*results))


def _reference_image(image, w, temperature, epsilon, pool_size, windows):
    spatial, rank = image.shape[:-1], image.ndim - 1
    positions = list(np.ndindex(*spatial))
    entities = range(len(w["entities"]))

    raw = np.array([[w["entities"][i] @ image[p] for i in entities] for p in positions])
    if windows is not None:
        queries = [image[p] @ w["query_kernel"] + w["query_bias"] for p in positions]
        corners = list(np.ndindex(*(size // pool_size for size in spatial)))
        for i in entities:
            corner = corners[windows[i]]
            window = [p for p in positions if all(p[axis] // pool_size == corner[axis] for axis in range(rank))]
            key = np.max([image[p] @ w["key_kernel"] + w["key_bias"] for p in window], axis=0)
            raw[:, i] += [w["sampling_weight"][i] * (query @ key) for query in queries]
    layout = np.array([np.exp(temperature * (row - row.max())) for row in raw])
    layout = np.array([row / row.sum() for row in layout])

    values = [image[p] @ w["value_kernel"] if "value_kernel" in w else image[p] for p in positions]
    normalized = np.zeros((len(positions), image.shape[-1]))
    for i in entities:
        mass = layout[:, i].sum()
        mean = sum(share * value for share, value in zip(layout[:, i], values)) / mass
        variance = sum(share * (value - mean) ** 2 for share, value in zip(layout[:, i], values)) / mass
        for p, value in enumerate(values):
            region = (value - mean) / np.sqrt(variance + epsilon)
            if "beta" in w:
                region = region * w["beta"][i] + w["alpha"][i]
            normalized[p] += layout[p, i] * region
    outputs = image + w["residual_weight"] * normalized.reshape(image.shape)
    return outputs, layout.reshape(*spatial, -1)


def penalty(entities, mode):
    """`sum((W W^T - I)^2)` in float64, entry by entry."""
    if mode == "cosine":
        entities = np.array([row / np.sqrt(sum(row**2)) for row in entities])
    return sum((one @ other - (i == j)) ** 2 for i, one in enumerate(entities) for j, other in enumerate(entities))


def slopes(function, point, step=1e-5):
    """Central finite differences of a float64 function at an array."""
    result = np.zeros_like(point, np.float64)
    for index in np.ndindex(*point.shape):
        ahead, behind = point.astype(np.float64), point.astype(np.float64)
        ahead[index] += step
        behind[index] -= step
        result[index] = (function(ahead) - function(behind)) / (2 * step)
    return result
