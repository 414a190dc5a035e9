"""Pairs: the same at each call, of no picture in both splits, each object in its half."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.configs import schema
from trainers.data import input_pipelines, pairs_source


def pictures(split, count=300, resolution=32):
    batch = pairs_source.open_pairs(split, resolution).read(tf.range(count, dtype=tf.int64))
    return batch["image"].numpy(), batch["label"].numpy()


def test_pictures_are_the_same_at_each_call_and_of_no_other_split():
    train, labels = pictures("train")
    again, _ = pictures("train")
    test, _ = pictures("test")
    np.testing.assert_array_equal(train, again)
    assert train.dtype == np.uint8 and train.shape == (300, 32, 32, 3)
    assert len({picture.tobytes() for picture in (*train, *test)}) == 600
    np.testing.assert_array_equal(np.bincount(labels), [75] * 4)


def test_the_first_picture_is_what_it_was():
    """Scores of runs of different days compare only where the pictures stay."""
    image = pictures("test", 1)[0][0].astype(int)
    assert abs(image.sum() - 393_975) < 100  # another machine may round otherwise
    np.testing.assert_allclose(image[0, :3, 0], [122, 113, 112], atol=1)


def test_a_larger_picture_shows_the_same():
    small, _ = pictures("test", 20)
    large, _ = pictures("test", 20, 64)
    shrunk = large.reshape(20, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - small).mean() < 8.0 < np.abs(shrunk[::-1] - small).mean()


def test_objects_leave_the_middle_free():
    images, _ = pictures("train", 2000)
    chroma = np.ptp(images.astype(int), axis=-1)
    assert (chroma[:, :, 15:17] == 0).all() and (chroma[:, :, :15].max(axis=(1, 2)) > 120).all()


def test_pipelines_give_pairs_with_their_classes():
    data = schema.DataConfig(dataset="pairs", split="test")
    assert input_pipelines.open_source(data, 32, 4).class_names == pairs_source.CLASS_NAMES
    batch = next(iter(input_pipelines.evaluation_dataset(data, 32, 8, image_channels=3, num_classes=4)))
    assert batch["image"].shape == (8, 32, 32, 3) and batch["label"].numpy().tolist() == [0, 1, 2, 3] * 2
    assert -1.0 <= batch["image"].numpy().min() < -0.5


def test_objects_too_small_to_have_a_direction_are_refused():
    with pytest.raises(ValueError, match="at least 16. Received: 8"):
        pairs_source.open_pairs("train", 8)
