"""The classes of a run: refused where their names have changed, and counted by the data where nobody gives a number."""

import json

import numpy as np
import pytest
from PIL import Image

from gan_test_case import ALONE, train_gan
from trainers import configs
from trainers.configs.schema import DataConfig, InpaintingTaskConfig, ModelConfig, TaskConfig
from trainers.data import classes, input_pipelines


def write_images(folder, *names, count=8):
    random = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            image.save(folder / name / f"{number}.png")


def settings_of(folder, num_classes):
    groups = (f"task.{group}.dataset=folder,task.{group}.path={folder}" for group in ("train_data", "validation_data"))
    return ",".join([ALONE, *groups, f"task.validation_data.split=train,task.model.num_classes={num_classes}"])


def refusal(caplog, *arguments):
    caplog.clear()
    with pytest.raises(SystemExit) as caught:
        train_gan(*arguments)
    assert caught.value.code == 2
    return caplog.records[-1].getMessage()


def test_number_is_taken_from_the_data_once_and_renamed_folders_are_refused(tmp_path, caplog, monkeypatch):
    write_images(tmp_path / "data" / "train", "bee", "cat", "dog")
    monkeypatch.chdir(tmp_path)
    run, override = tmp_path / "run", settings_of("data", 0)
    train_gan(run, "train", override)
    params = configs.load_params(str(run / "params.yaml"))
    assert params.task.model.num_classes == 3
    assert params.task.train_data.path == params.task.validation_data.path == str(tmp_path / "data")
    assert json.loads((run / "class_names.json").read_text()) == ["bee", "cat", "dog"]
    train_gan(run, "train", override)  # is done; the number is the stored one
    (tmp_path / "data" / "train" / "bee").rename(tmp_path / "data" / "train" / "wasp")
    input_pipelines.folder_source.open_folder.cache_clear()
    for mode in ("train", "eval"):
        message = refusal(caplog, run, mode, override)
        assert "bee, cat, dog. Received: cat, dog, wasp" in message


def test_images_without_class_folders_train_a_gan_of_one_class(tmp_path):
    write_images(tmp_path / "train", ".")
    train_gan(tmp_path / "run", "train_and_eval", settings_of(tmp_path, 1))
    assert not (tmp_path / "run" / "class_names.json").exists()
    assert (tmp_path / "run" / "samples.png").exists()


def test_number_that_the_data_do_not_tell_must_be_given(tmp_path):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "train-0")) as writer:
        writer.write(b"")
    with pytest.raises(ValueError, match="num_classes` must be given: .*'train' does not tell"):
        input_pipelines.open_source(DataConfig("tfrecord", path=str(tmp_path)), 8, 0)


def test_stored_number_stands_for_none_alone(tmp_path):
    (tmp_path / "params.yaml").write_text("task: {model: {num_classes: 7}}")
    for given, taken in ((0, 7), (5, 5)):
        model = ModelConfig(num_classes=given)
        classes.take_stored_number(model, str(tmp_path))
        assert model.num_classes == taken


def test_names_are_compared_where_both_are_known(tmp_path):
    classes.check_names(str(tmp_path), ("a", "b"), "data")
    (tmp_path / "class_names.json").write_text('["a", "b"]')
    classes.check_names(str(tmp_path), ("a", "b"), "data")
    classes.check_names(str(tmp_path), None, "data")
    with pytest.raises(ValueError, match="classes of data must be those.*: a, b. Received: b, a"):
        classes.check_names(str(tmp_path), ("b", "a"), "data")


def test_paths_are_good_in_any_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    wanted = {"some/data": f"{tmp_path}/some/data", "~/data": f"{tmp_path}/home/data", "/data": "/data", "": ""}
    wanted["gs://bucket/data"] = "gs://bucket/data"
    for given, made in wanted.items():
        task = InpaintingTaskConfig()
        task.train_data.path = task.validation_data.path = task.masks.path = given
        task.evaluation.inception_path = task.losses.vgg_weights = given
        gan = TaskConfig()
        gan.evaluation.statistics_dir = gan.evaluation.inception_path = given
        for each in (task, gan):
            input_pipelines.make_paths_absolute(each)
        assert task.train_data.path == task.validation_data.path == task.masks.path == made
        assert task.evaluation.inception_path == task.losses.vgg_weights == made
        assert gan.evaluation.statistics_dir == gan.evaluation.inception_path == made
