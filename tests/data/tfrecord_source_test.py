"""TFRecord files that are damaged, compressed or of other features: one sentence with the file and the record."""

import gzip
import itertools
import logging

import numpy as np
import pytest
import tensorflow as tf

from trainers.configs.schema import DataConfig
from trainers.data import input_pipelines

ONE = tf.distribute.OneDeviceStrategy("CPU:0")
COUNT = 40


def example(number, image="image/encoded", label="image/class/label"):
    encoded = tf.io.encode_png(tf.fill((4, 4, 3), tf.constant(number * 6, tf.uint8))).numpy()
    feature = {image: tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))}
    if label:
        feature[label] = tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 2]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train-00000-of-00001"


def write(path, *records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def flip(path, record, place=None):
    """Flips a bit of a record: in the middle of its data, or at a place after its begin."""
    content = bytearray(path.read_bytes())
    start = 0
    for _ in range(record):
        start += 16 + int.from_bytes(content[start : start + 8], "little")
    length = int.from_bytes(content[start : start + 8], "little")
    content[start + (12 + length // 2 if place is None else place)] ^= 4
    path.write_bytes(content)


def data_of(path, **settings):
    return DataConfig("tfrecord", path=str(path.parent), **settings)


def numbers_of(images):
    return list(np.round((np.asarray(images)[:, 0, 0, 0] + 1) * 127.5 / 6).astype(int))


@pytest.mark.parametrize("damaged", [0, 15, 16, 21, COUNT - 1])
def test_flipped_bit_names_file_and_record(path, damaged):
    write(path, *map(example, range(COUNT)))
    flip(path, damaged)
    message = f"^record {damaged} of {path}, whose data do not fit their checksum, cannot be read.*skip_corrupt=true.$"
    with pytest.raises(ValueError, match=message):
        input_pipelines.load_arrays(data_of(path), 4, num_classes=2)


def test_flipped_bits_are_left_out_alone_where_wanted(path, caplog):
    write(path, *map(example, range(COUNT)))
    damaged = {3, 4, 20, COUNT - 1}
    for record in damaged:
        flip(path, record)
    data = data_of(path, skip_corrupt=True, global_batch_size=4)
    with caplog.at_level(logging.WARNING, logger="absl"):
        images, _ = input_pipelines.load_arrays(data, 4, num_classes=2)
    assert numbers_of(images) == [number for number in range(COUNT) if number not in damaged]
    assert "4 so far" in caplog.text and f"record 20 of {path}" in caplog.text
    dataset = input_pipelines.training_dataset(ONE, data, 4, 1, num_classes=2)
    seen = [number for batch in itertools.islice(dataset, 20) for number in numbers_of(batch["image"])]
    assert set(seen[:COUNT]) == set(seen[COUNT:]) == set(range(COUNT)) - damaged
    resumed = input_pipelines.training_dataset(ONE, data, 4, 1, 17, num_classes=2)
    assert [n for batch in itertools.islice(resumed, 3) for n in numbers_of(batch["image"])] == seen[-12:]


@pytest.mark.parametrize("place", [0, 2, 7, 9])
def test_flipped_bit_in_a_length_names_file_and_record(path, place):
    write(path, *map(example, range(5)))
    flip(path, 2, place)
    with pytest.raises(ValueError, match=f"{path} is damaged.* length of record 2 .*Copy or write it again"):
        input_pipelines.open_source(data_of(path), 4, 2)


def test_compressed_file_is_told(path):
    write(path, example(0))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ValueError, match=f"must not be compressed: {path} is, by GZIP. Unpack it with gunzip"):
        input_pipelines.open_source(data_of(path), 4, 2)


def test_file_of_something_else_is_told(path):
    path.write_bytes(b"no records, but a text of some length")
    with pytest.raises(ValueError, match=f"{path} is damaged or no TFRecord file"):
        input_pipelines.open_source(data_of(path), 4, 2)


def test_other_features_are_told(path):
    write(path, example(0, "image", "label"))
    message = f"`image/encoded` and `image/class/label`: record 0 of {path} holds `image`, `label`"
    with pytest.raises(ValueError, match=message):
        input_pipelines.open_source(data_of(path), 4, 2)


@pytest.mark.parametrize("num_classes", [None, 1])
def test_labels_may_be_missing_where_they_do_not_matter(path, num_classes):
    write(path, *(example(number, label=None) for number in range(3)))
    images, labels = input_pipelines.load_arrays(data_of(path), 4, num_classes=num_classes)
    assert numbers_of(images) == [0, 1, 2] and not labels.any()
    with pytest.raises(ValueError, match="must hold `image/encoded` and `image/class/label`"):
        input_pipelines.open_source(data_of(path), 4, 2)


def test_file_that_is_gone_is_told(path):
    write(path, *map(example, range(5)))
    dataset = input_pipelines.evaluation_dataset(data_of(path), 4, 5)
    path.unlink()
    told = pytest.raises(ValueError, match=f"^{path} cannot be read: No such file or directory.$")
    with told, input_pipelines.value_errors():
        list(dataset)


def test_damaged_record_of_tfds_names_its_file(tmp_path):
    import tensorflow_datasets as tfds

    images = tf.data.Dataset.from_tensor_slices({"image": np.zeros((9, 4, 4, 3), np.uint8)})
    tfds.dataset_builders.store_as_tfds_dataset(
        name="flat",
        version="1.0.0",
        features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(4, 4, 3))}),
        split_datasets={"train": images},
        data_dir=str(tmp_path),
        disable_shuffling=True,
    )
    (path,) = tmp_path.glob("flat/1.0.0/*.tfrecord*")
    flip(path, 5)
    with pytest.raises(ValueError, match=f"^Record 5 of {path} does not fit its checksum.*delete the folder"):
        input_pipelines.load_arrays(DataConfig("tfds", "flat", str(tmp_path)), 4)


def test_names_of_classes_are_those_of_the_setting(path):
    write(path, *map(example, range(4)))
    unnamed, named = (input_pipelines.open_source(data_of(path, class_names=names), 4, 2) for names in ([], ["a", "b"]))
    assert (unnamed.class_names, unnamed.num_classes) == (None, None)
    assert (named.class_names, named.num_classes) == (("a", "b"), 2)
    assert input_pipelines.open_source(data_of(path, class_names=["a", "b"]), 4, 0).num_classes == 2
    with pytest.raises(ValueError, match=r"must be the number .*, 3 \(a, b, c\), as `class_names` gives them. Rec"):
        input_pipelines.open_source(data_of(path, class_names=["a", "b", "c"]), 4, 2)
    assert input_pipelines.open_source(data_of(path, class_names=["a", "b"]), 4, 1).class_names is None
