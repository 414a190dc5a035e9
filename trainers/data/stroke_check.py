"""Refuses strokes that cover all of an image, or nothing."""

import dataclasses

import tensorflow as tf

from trainers.data import masks

_NUM_MASKS = 16


def check(params):
    """Draws some masks of strokes, where training or evaluation has any.

    Args:
        params: `schema.InpaintingConfig`.

    Raises:
        ValueError: where one covers everything or nothing.
    """
    task = params.task
    if "strokes" not in (*task.masks.kinds, *task.evaluation.masks):
        return
    strokes = dataclasses.replace(task.masks, kinds=["strokes"])
    draws = masks.draw(strokes, _NUM_MASKS, tf.constant([0, 0], tf.int64))
    covered = masks.coverage(masks.make(strokes, task.model.resolution, draws)[0]).numpy()
    for share, what, advice in ((1.0, "everything", "lower"), (0.0, "nothing", "raise")):
        count = int((covered == share).sum())
        if count:
            raise ValueError(
                f"Of {_NUM_MASKS} masks of strokes as `task.masks` describes them, {count} cover {what} of an image of "
                f"{task.model.resolution} x {task.model.resolution}: {advice} `task.masks.num_strokes`, "
                f"`max_vertices`, `max_length` or the widths. Received: {strokes.num_strokes}, {strokes.max_vertices}, "
                f"{strokes.max_length:g}, and {strokes.min_width:g} to {strokes.max_width:g}"
            )
