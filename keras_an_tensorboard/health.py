"""How a layer of Attentive Normalization does: its statistics, and whether it is alive, in NumPy."""

import dataclasses
from typing import Any, Optional

import numpy as np

from keras_an_tensorboard.pictures import resized, winner_shares

# Beyond these a layer is dead.
MOST_ENTROPY = 0.98
MOST_SHARE = 0.95
LEAST_RHO = 1e-3
LATE = 0.5  # of the training, from which on rho must have grown
_LEAST_STEPS = 1000  # of a training, to be judged by its own length


@dataclasses.dataclass
class LayerView:
    """What a layer sees and says on some inputs.

    Attributes:
        name: of network and layer, with a slash between.
        features: float32 `(images, *spatial, channels)`, the layer's input.
        layout: float32 `(images, *spatial, entities)`.
        rho: float.
        entities: float32 `(entities, channels)`, W.
        t: float32 `(entities,)`, or None where the layer does not sample.
        epsilon: float, what the layer adds to the variances of the regions.
        images: `(images, height, width, 1 or 3)`, what is shown beside the layouts, or None.
        labels: strings, of the images, or None.
        groups: `{name: weights}` of the rows of a table of mean assignments; weights float `(images,)` or
            `(images, height, width)`. None: the images of each label.
    """

    name: str
    features: Any
    layout: Any
    rho: float
    entities: Any
    t: Optional[Any] = None
    epsilon: float = 0.0
    images: Optional[Any] = None
    labels: Optional[list] = None
    groups: Optional[dict] = None

    def shares(self):
        """The share of the positions that each entity wins: float `(entities,)`."""
        return winner_shares(self.layout)

    def cosines(self):
        """Cosines between the filters of each two entities: float32 `(entities * (entities - 1) / 2,)`."""
        rows = self.entities / np.maximum(np.linalg.norm(self.entities, axis=1, keepdims=True), 1e-12)
        return (rows @ rows.T)[np.triu_indices(len(rows), 1)]

    def table(self):
        """Mean assignment of groups of inputs to entities: names, and float `(rows, entities)`; None without groups."""
        groups = self.groups
        if groups is None and self.labels is not None:
            names = np.array(self.labels)
            groups = {name: (names == name).astype(np.float32) for name in dict.fromkeys(self.labels)}
        if not groups:
            return None
        means = []
        for weights in groups.values():
            weights = np.asarray(weights, np.float32)
            if weights.ndim == 1:
                weights = weights.reshape(-1, *[1] * (self.layout.ndim - 2))
            else:
                weights = resized(weights, *self.layout.shape[1:3])
            weights = np.broadcast_to(weights, self.layout.shape[:-1])
            total = (weights[..., None] * self.layout).reshape(-1, self.layout.shape[-1]).sum(axis=0)
            means.append(total / max(weights.sum(), 1e-12))
        return list(groups), np.stack(means)


def layout_statistics(features, layout, epsilon=0.0):
    """How much a layout tells about a feature map.

    Args:
        features: float32 `(images, *spatial, channels)`, what the layout was learned on.
        layout: float32 `(images, *spatial, entities)`.
        epsilon: float, added to the variances of the regions where they are normalised.

    Returns:
        Floats by name: `layout_entropy`, mean over positions, over log n; `entities_in_use`, share of entities that win
        at some position; `entities_dead`, number of the others; `largest_share`, of the positions, of the entity that
        wins most; `region_deviation`, deviation inside the regions, weighted by their mass, over that of the whole map,
        both averaged over images and channels; `magnification`, by how much the normalisation stretches the regions:
        their deviation behind it, without beta, over that before it, both averaged in the same way. The normalisation
        is that of `features` by the paper's moments.
    """
    entities = layout.shape[-1]
    values = np.asarray(features, np.float32).reshape(len(features), -1, features.shape[-1])
    values = values - values.mean(axis=1, keepdims=True)
    layout = np.asarray(layout, np.float32).reshape(len(layout), -1, entities)  # (images, positions, entities)
    entropy = -np.sum(layout * np.log(layout + 1e-12)) / (layout.size / entities)
    shares = winner_shares(layout)
    sums = layout.sum(axis=1)[..., None]  # (images, entities, 1)
    weights = layout.transpose(0, 2, 1) / np.maximum(sums, 1e-12)
    mean = weights @ values
    variance = np.maximum(weights @ np.square(values) - np.square(mean), 0.0)
    mass = sums / layout.shape[1]
    inside, whole = np.mean(np.sum(mass * np.sqrt(variance), axis=1)), np.mean(values.std(axis=1))
    normalized = np.mean(np.sum(mass * np.sqrt(variance / np.maximum(variance + epsilon, 1e-12)), axis=1))
    return {
        "layout_entropy": float(entropy / np.log(entities)) if entities > 1 else 0.0,
        "entities_in_use": float(np.mean(shares > 0)),
        "entities_dead": float(np.sum(shares == 0)),
        "largest_share": float(shares.max()),
        "region_deviation": float(inside / max(whole, 1e-12)),
        "magnification": float(normalized / max(inside, 1e-12)),
    }


def statistics(view):
    """All statistics of a `LayerView`, floats by name.

    Those of `layout_statistics`, `rho`, `t` and `orthogonality`; in place of `magnification` there is `gain`, |rho|
    times it: how many times as strongly as the input itself the normalised map answers to a change of the input.
    """
    values = {"rho": float(view.rho)}
    if view.t is not None:
        values["t"] = float(np.mean(view.t))
    values.update(layout_statistics(view.features, view.layout, view.epsilon))
    values["gain"] = abs(values["rho"]) * values.pop("magnification")
    rows = view.entities / np.maximum(np.linalg.norm(view.entities, axis=1, keepdims=True), 1e-12)
    values["orthogonality"] = float(np.square(rows @ rows.T - np.eye(len(rows))).sum())
    return values


def progress_of(step, last_step):
    """The share of a training that is done, whose steps count as 1,000 at least: in fewer, rho can hardly grow.

    Args:
        step: integer, steps that are done.
        last_step: integer, steps of the whole training.
    """
    return step / max(last_step, _LEAST_STEPS)


def findings(values, num_entities, progress=0.0):
    """What is wrong with a layer, and what to try.

    Args:
        values: of `statistics`.
        num_entities: integer, n.
        progress: share of the training that is done, of `progress_of`.

    Returns:
        Sentences by the name of the statistic that tells it; none where the layer is alive, or has one entity.
    """
    found = {}
    if num_entities > 1 and values["layout_entropy"] > MOST_ENTROPY:
        found["layout_entropy"] = (
            f"its layout tells nothing: the entropy is {values['layout_entropy']:.3f} of log n, more than "
            f"{MOST_ENTROPY}. Start with a larger W (`entity_stddev`, `entity_initializer`), take fewer entities, or "
            "another place for the layer."
        )
    elif num_entities > 1 and values["largest_share"] > MOST_SHARE:  # of entities that are alike, one wins by a hair
        found["largest_share"] = (
            f"one entity takes {100 * values['largest_share']:.1f} % of all positions, more than "
            f"{100 * MOST_SHARE:.0f} %. Start with a smaller W (`entity_stddev`, `entity_initializer`), raise "
            "`orthogonal_weight`, or lower the learning rate."
        )
    if progress >= LATE and abs(values["rho"]) < LEAST_RHO:
        found["rho"] = (
            f"it does nothing: |rho| is {abs(values['rho']):.1e} after {100 * progress:.0f} % of the training, less "
            f"than {LEAST_RHO:g}. Look at the gradient norms, and raise the learning rate: rho starts at 0."
        )
    return found


class HealthReport:
    """What is wrong with the layers of a run, told when it changes."""

    def __init__(self):
        self._told = None

    def update(self, found):
        """Takes in the present findings.

        Args:
            found: `{layer: findings(...)}` of all layers.

        Returns:
            The sentences that are new, and the whole as a Markdown text, or None where nothing has changed.
        """
        told = {(layer, name) for layer, problems in found.items() for name in problems}
        if told == self._told:
            return [], None
        new = [
            f"{layer} may be dead: {sentence}"
            for layer, problems in found.items()
            for name, sentence in problems.items()
            if (layer, name) not in (self._told or ())
        ]
        self._told = told
        lines = [
            f"- **{layer}** may be dead: {sentence}"
            for layer, problems in found.items()
            for sentence in problems.values()
        ]
        return new, "\n".join(lines or [f"{len(found)} layers, none of them dead."])
