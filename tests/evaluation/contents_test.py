"""The real images of an evaluation: how many of each class there are, and whether they are there at all."""

import logging
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from gan_test_case import fake_inception, small_params
from trainers.configs.networks import build_networks
from trainers.configs.schema import DataConfig
from trainers.data import input_pipelines, tfds_source
from trainers.evaluation import contents, gan_evaluator, inception_features
from trainers.evaluation.real_statistics import RealStatistics

LABELS = [0, 0, 1, 2, 2, 2]


def png(level):
    return tf.io.encode_png(tf.fill((8, 8, 1), tf.constant(level, tf.uint8))).numpy()


def store_tfds(folder, labels):
    """Writes a data set of TFDS, `own`, of 10 classes with a split `test`."""
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    features = {
        "image": tfds.features.Image(shape=(8, 8, 3)),
        "label": tfds.features.ClassLabel(names=[f"class {label}" for label in range(max(labels) + 1)]),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="own",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            "test": tf.data.Dataset.from_tensor_slices({"image": images, "label": np.array(labels, np.int64)})
        },
        data_dir=str(folder),
    )
    return DataConfig("tfds", "own", str(folder), "test")


def store_folder(folder, labels):
    for number, label in enumerate(labels):
        (folder / "test" / f"class {label}").mkdir(parents=True, exist_ok=True)
        (folder / "test" / f"class {label}" / f"{number}.png").write_bytes(png(number))
    return DataConfig("folder", path=str(folder), split="test")


def store_records(folder, labels):
    with tf.io.TFRecordWriter(str(folder / "test-0")) as writer:
        for number, label in enumerate(labels):
            feature = {
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png(number)])),
                "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return DataConfig("tfrecord", path=str(folder), split="test")


STORES = {"folder": store_folder, "tfrecord": store_records, "tfds": store_tfds}


@pytest.mark.parametrize("kind", STORES)
def test_class_with_one_image_has_no_distance(tmp_path, kind):
    def check(data):
        contents.check_classes(data, lambda data: input_pipelines.open_source(data, 8, 3), str(tmp_path / "none"), 3)

    (tmp_path / "few").mkdir()
    (tmp_path / "enough").mkdir()
    name = r"\." if kind == "tfrecord" else r" \(class 1\)\."
    with pytest.raises(ValueError, match=r"^`task.evaluation.intra_class` needs .* Received: 1 of class 1" + name):
        check(STORES[kind](tmp_path / "few", LABELS))
    check(STORES[kind](tmp_path / "enough", [*LABELS, 1]))


def test_labels_are_those_of_the_records_that_can_be_read(tmp_path):
    data = store_records(tmp_path, LABELS)
    content = bytearray((tmp_path / "test-0").read_bytes())
    content[30] ^= 1  # in the first record
    (tmp_path / "test-0").write_bytes(content)
    np.testing.assert_array_equal(input_pipelines.open_source(data, 8, 3).labels(), LABELS[1:])


def test_labels_of_stored_statistics_will_do(tmp_path):
    path = str(tmp_path / "statistics.npz")
    RealStatistics(np.zeros((6, 2), np.float32), np.array(LABELS, np.int32), {}).save(path, {})

    def open_source(data):
        raise AssertionError("reads the images")

    contents.check_classes(DataConfig(), open_source, path, 1)
    with pytest.raises(ValueError, match=r"Received: 0 of class 3\. Add"):
        contents.check_classes(DataConfig(), open_source, path, 4)


def test_distance_within_classes_is_refused_before_training(tmp_path):
    store_folder(tmp_path, [label for label in range(10) for _ in range(1 if label == 7 else 2)])
    data = {"dataset": "folder", "path": tmp_path}
    settings = {f"task__validation_data__{name}": value for name, value in data.items()}
    params = small_params(task__evaluation__intra_class="true", **settings)
    with pytest.raises(ValueError, match=r"Received: 1 of class 7 \(class 7\)"):
        gan_evaluator.GanEvaluator(params, str(tmp_path / "run"), None)


def test_statistics_stand_in_for_a_data_set_of_tfds_that_is_not_there(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(inception_features, "NUM_FEATURES", 6)
    (tmp_path / "run").mkdir()
    data = {"dataset": "tfds", "name": "own", "path": tmp_path / "data"}
    settings = {f"task__validation_data__{name}": value for name, value in data.items()}
    inception = fake_inception(tmp_path / "inception")
    params = small_params(task__evaluation__inception_path=inception, task__model__resolution=8, **settings)
    found = store_tfds(tmp_path / "data", [number % 10 for number in range(30)])
    generator, _ = build_networks(params)

    def evaluate(folder):
        return gan_evaluator.GanEvaluator(params, str(folder), generator).evaluate()

    expected = evaluate(tmp_path / "run")
    assert tfds_source.is_prepared(found)
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    assert not tfds_source.is_prepared(found)
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert evaluate(tmp_path / "run") == pytest.approx(expected, rel=1e-6)
    assert f"are not in {tmp_path / 'data'}, as 'own': " in caplog.text and "stands in for them" in caplog.text
    with pytest.raises(ValueError, match="TFDS cannot prepare the data set 'own'"):
        evaluate(tmp_path / "other")


def test_empty_folder_of_a_disk_that_is_not_mounted_holds_no_images(tmp_path):
    data = DataConfig("folder", path=str(tmp_path), split=".")
    assert not contents.are_there(data)
    (tmp_path / "one.png").write_bytes(png(0))
    assert contents.are_there(data)


def test_statistics_that_cannot_be_kept_are_only_used(tmp_path, monkeypatch, caplog):
    def fail(self, path, description):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(inception_features, "NUM_FEATURES", 6)
    inception = fake_inception(tmp_path / "inception")
    params = small_params(task__evaluation__inception_path=inception, task__model__resolution=8)
    generator, _ = build_networks(params)
    monkeypatch.setattr(RealStatistics, "save", fail)
    assert "fid" in gan_evaluator.GanEvaluator(params, str(tmp_path), generator).evaluate()
    assert "real_statistics_inception.npz cannot be kept, and is made again by the next start: " in caplog.text
