"""Scores of completed images against the originals, beside fills that nothing was learned for, and pictures."""

import numpy as np
import tensorflow as tf
from absl import logging

from trainers.data import input_pipelines, masks
from trainers.evaluation import fills, scores
from trainers.evaluation.inception_features import InceptionFeatures
from trainers.monitoring import summaries
from trainers.monitoring.pictures import image_grid, layout_tiles, to_uint8

_WATCHED = 16  # images on which the attentive layers are watched
_PICTURED = 4  # images of each kind of mask in the picture
_SSIM_WINDOW = 11  # of tf.image.ssim
MEASURES = ("l1_hole", "psnr_hole", "ssim_hole", "l1", "psnr", "ssim")


class InpaintingEvaluator:
    """Scores a generator on images evenly out of `task.validation_data`, with masks that are always the same.

    Args:
        params: `schema.InpaintingConfig`.
        generator: `keras.Model` of `keras_an.models.inpainting_generator`, the averaged one.
        critics: `keras.Model` by name, as `build_critics` gives them, whose attentive layers are watched too, or None.

    Raises:
        ValueError: where the data, the masks or Inception are not as they must be.

    Attributes:
        probes: `AttentionProbe` by network, on fixed images and holes.
    """

    def __init__(self, params, generator, critics=None):
        self._generator = generator
        self._evaluation = params.task.evaluation
        model, config = params.task.model, params.task.masks
        self._images = _some_images(params)
        self.made_of = f"{len(self._images)} images of the {params.task.validation_data.split} data, fixed masks"
        kinds = self._evaluation.masks if len(self._images) else []
        if not kinds:
            logging.warning("Without scores and pictures: no validation image can be used")
        folder = masks.load_folder(config.path, model.resolution, config.invert) if "folder" in kinds else None
        self._masks = {
            kind: masks.fixed(config, kind, model.resolution, len(self._images), folder).numpy() for kind in kinds
        }
        for kind, mask in self._masks.items():
            covered = masks.coverage(mask)
            logging.info(
                "Masks of validation, %s: %.3f of an image missing, %.3f to %.3f",
                kind,
                *(reduce(covered) for reduce in (np.mean, np.min, np.max)),
            )
        self._batch_size = params.task.validation_data.global_batch_size
        self._inception = (
            InceptionFeatures(self._evaluation.inception_path) if self._evaluation.inception_path else None
        )
        self._fill_scores = None
        self.probes = {}
        if kinds:
            images, mask = self._images[:_WATCHED], self._masks[kinds[0]][:_WATCHED]
            groups = {"hole": mask[..., 0], "known": 1.0 - mask[..., 0]}
            inputs = [tf.constant(images), tf.constant(mask)]
            self.probes["generator"] = summaries.AttentionProbe(generator, inputs, groups=groups)
            for name, critic in (critics or {}).items():
                self.probes[f"{name}_critic"] = _probe_of_critic(name, critic, images, mask, groups, config.size)
        self._complete = tf.function(lambda image, mask: generator([image, mask], training=False), autograph=False)

    def evaluate(self):
        """Scores the generator.

        Returns:
            Floats by name, without those that cannot be computed, `<mask>/<measure>`: `l1_hole`, `psnr_hole`,
            `ssim_hole` over what is missing and `l1`, `psnr`, `ssim` over the picture, means over images; pixels count
            from 0 to 1, PSNR in dB. The fills' are `<mask>/<measure>_mean_fill`, `_diffusion`, `_biharmonic`,
            `_telea` and `_navier_stokes`. With Inception also `<mask>/fid`, of completed against real.
        """
        if self._fill_scores is None:
            self._fill_scores = self._scores_of_fills()
        result = {}
        for kind, mask in self._masks.items():
            completed = self._completed(mask)["completed"]
            measured = measure(self._images, completed, mask).items()
            result.update(scores.finite({f"{kind}/{name}": value for name, value in measured}))
            result.update(self._fill_scores[kind])
            if self._inception:
                features = (self._inception_features(images) for images in (self._images, completed))
                result.update(scores.computed((f"{kind}/fid",), scores.frechet_distance, *features))
        return result

    def table(self, found):
        """The scores of `evaluate` as lines of text."""
        rows = [("mask", "filled by", *MEASURES)]
        for kind in self._masks:
            for name, suffix in (("generator", ""), *((fill, f"_{fill}") for fill in fills.FILLS)):
                values = [found.get(f"{kind}/{measure}{suffix}") for measure in MEASURES]
                if any(value is not None for value in values):
                    rows.append((kind, name, *("-" if value is None else f"{value:.4g}" for value in values)))
        lines = ["  ".join(cell.ljust(13) for cell in row).rstrip() for row in rows]
        lines += [f"{name} {value:.4g}" for name, value in found.items() if name.endswith("/fid")]
        return "\n".join([*lines, f"Means over {self.made_of}; PSNR in dB."])

    def pictures(self):
        """`completions`: a row an image; original, masked, coarse, completed, the layout's winners and heat maps."""
        rows = []
        for mask in self._masks.values():
            chosen = np.linspace(0, len(self._images) - 1, min(_PICTURED, len(self._images))).astype(int)
            images, mask = self._images[chosen], mask[chosen]
            outputs = {name: value.numpy() for name, value in self._complete(images, mask).items()}
            shown = [images, np.where(mask > 0, 1.0, images), outputs["coarse"], outputs["completed"]]
            tiles = np.stack([to_uint8(part) for part in shown], axis=1)  # (images, 4, height, width, 3)
            if "layout" in outputs:
                tiles = np.concatenate([tiles, layout_tiles(outputs["layout"], images.shape[1])], axis=1)
            rows.append(tiles)
        if not rows:
            return {}
        tiles = np.concatenate(rows)
        return {"completions": image_grid(tiles.reshape(-1, *tiles.shape[2:]), tiles.shape[1])}

    def _completed(self, mask):
        parts = []
        for start in range(0, len(self._images), self._batch_size):
            these = slice(start, start + self._batch_size)
            outputs = self._complete(tf.constant(self._images[these]), tf.constant(mask[these]))
            parts.append({name: value.numpy() for name, value in outputs.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _scores_of_fills(self):
        chosen = fills.available(self._evaluation.biharmonic)
        logging.info("Scoring what %s make of the %d validation images", " and ".join(chosen), len(self._images))
        return {
            kind: scores.finite(
                {
                    f"{kind}/{measured}_{name}": value
                    for name, fill in chosen.items()
                    for measured, value in measure(self._images, fill(self._images, mask), mask).items()
                }
            )
            for kind, mask in self._masks.items()
        }

    def _inception_features(self, images):
        batches = range(0, len(images), self._batch_size)
        images = tf.constant(images)
        return np.concatenate([self._inception(images[start : start + self._batch_size])[0] for start in batches])


def _probe_of_critic(name, critic, images, mask, groups, size):
    """An `AttentionProbe` of a critic, on real images; the local one sees their middles."""
    if name == "local":
        start = (images.shape[1] - size) // 2
        images = images[:, start : start + size, start : start + size]
        return summaries.AttentionProbe(critic, [tf.constant(images)], images)
    inputs = [tf.constant(images), tf.constant(mask)] if name == "patch" else [tf.constant(images)]
    return summaries.AttentionProbe(critic, inputs, images, groups=groups)


def measure(images, completed, mask):
    """How far completed images are from the originals.

    Args:
        images: float32 `(images, height, width, channels)` in [-1, 1], at least 11 pixels high and wide.
        completed: float32, as `images`.
        mask: float32 `(images, height, width, 1)`, 1 = missing.

    Returns:
        Floats by the names in `MEASURES`, means over images. A hole without a missing pixel counts as none. SSIM of the
        hole is that of the windows whose middle is missing.

    References:
        Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004).
    """
    images, completed, mask = (tf.cast(part, tf.float32) for part in (images, completed, mask))
    images, completed = 0.5 * images + 0.5, 0.5 * completed + 0.5
    errors = tf.reduce_mean(tf.abs(images - completed), axis=-1, keepdims=True)
    squares = tf.reduce_mean(tf.square(images - completed), axis=-1, keepdims=True)
    similarity = tf.image.ssim(images, completed, 1.0, filter_size=_SSIM_WINDOW, return_index_map=True)
    border = _SSIM_WINDOW // 2
    inner = mask[:, border:-border, border:-border]
    result = {
        "l1_hole": _mean_where(errors, mask),
        "psnr_hole": -10.0 * tf.math.log(_mean_where(squares, mask) + 1e-10) / np.log(10.0),
        "ssim_hole": _mean_where(similarity[..., None], inner),
        "l1": tf.reduce_mean(errors, axis=(1, 2, 3)),
        "psnr": tf.minimum(tf.image.psnr(images, completed, 1.0), 100.0),
        "ssim": tf.image.ssim(images, completed, 1.0, filter_size=_SSIM_WINDOW),
    }
    return {name: float(np.nanmean(result[name])) for name in MEASURES}


def _mean_where(values, mask):
    """The mean of `(images, height, width, 1)` where the mask is 1, of each image; not a number where it is nowhere."""
    return tf.reduce_sum(values * mask, axis=(1, 2, 3)) / tf.reduce_sum(mask, axis=(1, 2, 3))


def _some_images(params):
    """The images of validation, float32 `(images, side, side, channels)`: neighbours are often of one scene."""
    task = params.task
    dataset = input_pipelines.evaluation_dataset(
        task.validation_data,
        task.model.resolution,
        task.validation_data.global_batch_size,
        image_channels=task.model.image_channels,
        num_images=task.evaluation.num_images,
    )
    side, channels = task.model.resolution, task.model.image_channels
    with input_pipelines.value_errors(task.validation_data):
        images = [batch["image"].numpy() for batch in dataset]
    return np.concatenate([np.zeros((0, side, side, channels), np.float32), *images])
