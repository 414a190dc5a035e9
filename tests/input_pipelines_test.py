"""The digits, and the order in which training sees them."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from trainers import input_pipelines
from trainers.configs.schema import DataConfig

ONE = tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.fixture
def numbered(monkeypatch):
    """Twelve images in place of the digits, whose labels are their numbers."""
    labels = np.arange(12, dtype=np.int32)
    images = np.broadcast_to(labels[:, None, None, None], (12, 2, 2, 1)).astype(np.float32)
    monkeypatch.setattr(input_pipelines, "load_digits", lambda split, resolution: (images, labels))


def batches(strategy, count, global_batch_size=4, seed=1, start_batch=0):
    """The labels that each replica gets: int `(count, replicas, batch)`."""
    data = DataConfig(global_batch_size=global_batch_size)
    dataset = input_pipelines.training_dataset(strategy, data, 2, seed, start_batch)
    return np.array(
        [
            [part.numpy() for part in strategy.experimental_local_results(batch["label"])]
            for batch in itertools.islice(dataset, count)
        ]
    )


@pytest.mark.parametrize("split, count", [("train", 1437), ("test", 360)])
@pytest.mark.parametrize("resolution", [8, 16])
def test_digits_have_their_shape_range_and_types(split, count, resolution):
    images, labels = input_pipelines.load_digits(split, resolution)
    assert images.shape == (count, resolution, resolution, 1) and images.dtype == np.float32
    assert labels.shape == (count,) and labels.dtype == np.int32
    assert images.min() == -1.0 and images.max() == 1.0
    assert set(labels) == set(range(10))


def test_digits_are_not_changed_at_their_own_resolution():
    from sklearn.datasets import load_digits

    originals = {image.tobytes() for image in (load_digits().images / 8.0 - 1.0).astype(np.float32)}
    images, _ = input_pipelines.load_digits("test", 8)
    assert all(image.tobytes() in originals for image in images[..., 0])


def test_splits_are_disjoint_and_cover_the_digits():
    train, test = (
        {image.tobytes() for image in input_pipelines.load_digits(split, 8)[0]} for split in ("train", "test")
    )
    assert len(train) == 1437 and len(test) == 360
    assert not train & test


def test_splits_are_stratified():
    train, test = (np.bincount(input_pipelines.load_digits(split, 8)[1]) for split in ("train", "test"))
    np.testing.assert_allclose(test / (train + test), 0.2, atol=0.01)


def test_batches_hold_images_with_their_labels():
    images, labels = input_pipelines.load_digits("test", 8)
    label_of = {image.tobytes(): label for image, label in zip(images, labels)}
    dataset = input_pipelines.training_dataset(ONE, DataConfig(split="test", global_batch_size=16), 8, seed=1)
    batch = next(iter(dataset))
    assert batch["image"].shape == (16, 8, 8, 1) and batch["image"].dtype == tf.float32
    assert batch["label"].shape == (16,) and batch["label"].dtype == tf.int32
    assert [label_of[image.tobytes()] for image in batch["image"].numpy()] == list(batch["label"].numpy())


def test_every_epoch_takes_all_images_in_another_order(numbered):
    first, second = batches(ONE, 6).reshape(2, 12)
    assert sorted(first) == sorted(second) == list(range(12))
    assert list(first) != list(second)


def test_order_depends_on_the_seed(numbered):
    np.testing.assert_array_equal(batches(ONE, 9, seed=3), batches(ONE, 9, seed=3))
    assert not np.array_equal(batches(ONE, 9, seed=3), batches(ONE, 9, seed=4))


def test_order_depends_on_nothing_but_the_seed(numbered):
    orders = []
    for other_seed in (5, 6):
        tf.random.set_seed(other_seed)
        tf.random.uniform(())
        orders.append(batches(ONE, 9))
    np.testing.assert_array_equal(*orders)


@pytest.mark.parametrize("start_batch", [1, 3, 7])
def test_start_batch_resumes_the_order(numbered, mirrored, start_batch):
    for strategy in (ONE, mirrored):
        unbroken = batches(strategy, 12)
        np.testing.assert_array_equal(
            batches(strategy, 12 - start_batch, start_batch=start_batch), unbroken[start_batch:]
        )


def test_replicas_see_disjoint_batches_that_cover_an_epoch(numbered, mirrored):
    seen = batches(mirrored, 3)  # two images for each of two replicas
    assert seen.shape == (3, 2, 2)
    assert sorted(seen.flatten()) == list(range(12))


def test_batch_that_does_not_divide_is_an_error(mirrored):
    with pytest.raises(ValueError, match="must divide by the 2 replicas. Received: 5"):
        input_pipelines.training_dataset(mirrored, DataConfig(global_batch_size=5), 8, seed=1)


def test_batch_that_exceeds_the_data_is_an_error(numbered):
    with pytest.raises(ValueError, match="Received: 13"):
        input_pipelines.training_dataset(ONE, DataConfig(global_batch_size=13), 2, seed=1)
