"""Data sets as `tf.data` pipelines of `{"image": float32 in [-1, 1], "label": int32}`."""

import functools

import numpy as np
import tensorflow as tf


@functools.lru_cache(maxsize=4)
def load_digits(split, resolution):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, 80 % train and 20 % test, resized with bicubic filter.

    Args:
        split: "train" (1,437 digits) or "test" (360), stratified by class with a fixed seed.
        resolution: side in pixels.

    Returns:
        Images float32 `(digits, resolution, resolution, 1)` in [-1, 1], and labels int32 `(digits,)`.
    """
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    images, labels = load(return_X_y=True)
    split_parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    images, labels = split_parts[0::2] if split == "train" else split_parts[1::2]
    images = images.reshape(-1, 8, 8, 1).astype(np.float32) / 8.0 - 1.0  # from 0..16
    with tf.device("CPU:0"):
        resized = tf.image.resize(images, (resolution, resolution), "bicubic", antialias=True)
        return tf.clip_by_value(resized, -1.0, 1.0).numpy(), labels.astype(np.int32)


def training_dataset(strategy, data, resolution, seed, start_batch=0):
    """An endless distributed data set of shuffled batches; its order depends on `seed` alone.

    Args:
        strategy: `tf.distribute.Strategy`.
        data: `schema.DataConfig`.
        resolution: side of the images in pixels.
        seed: integer, of the order.
        start_batch: batches to leave out at the start, so that a resumed run sees what it would have seen.

    Returns:
        A distributed data set of `{"image", "label"}`, `global_batch_size / replicas` images for each replica.

    Raises:
        ValueError: where the global batch does not divide by the replicas, or exceeds the data.
    """
    check(strategy, data, resolution)
    images, labels = load_digits(data.split, resolution)

    def make(context):
        batch_size = context.get_per_replica_batch_size(data.global_batch_size)
        own = tf.range(context.input_pipeline_id, len(images), context.num_input_pipelines)

        def epoch_order(epoch):
            key = tf.stack([tf.constant(seed, tf.int64), epoch])
            return tf.random.experimental.stateless_shuffle(own, key, alg="philox")

        indices = tf.data.Dataset.counter().map(epoch_order).unbatch()
        # Each replica of this worker takes a batch of its own. Indices are skipped, not images: that costs little.
        indices = indices.batch(batch_size, drop_remainder=True)
        indices = indices.skip(start_batch * (context.num_replicas_in_sync // context.num_input_pipelines))
        gather = functools.partial(_gather, tf.constant(images), tf.constant(labels))
        return indices.map(gather, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(make)


def check(strategy, data, resolution):
    """Raises ValueError where the global batch does not divide by the replicas, or exceeds the data."""
    size, replicas = data.global_batch_size, strategy.num_replicas_in_sync
    if size % replicas:
        raise ValueError(
            f"`task.train_data.global_batch_size` must divide by the {replicas} replicas. Received: {size}"
        )
    num_images = len(load_digits(data.split, resolution)[1])
    if size > num_images:
        raise ValueError(
            f"`task.train_data.global_batch_size` must not exceed the {num_images} images of the {data.split} split. "
            f"Received: {size}"
        )


def _gather(images, labels, indices):
    return {"image": tf.gather(images, indices), "label": tf.gather(labels, indices)}
