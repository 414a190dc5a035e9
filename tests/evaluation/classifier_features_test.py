"""The classifier that stands in for Inception: trained once, kept whole, told apart by its weights."""

import errno
import functools
import logging
import os
import re
import shutil
import tempfile

import numpy as np
import pytest
import tensorflow as tf

import gan_test_case
from keras_an.backend import IS_KERAS_3, keras
from trainers.data import input_pipelines
from trainers.evaluation import classifier_features, classifier_training
from trainers.evaluation.classifier_features import WEIGHTS_FILE, ClassifierFeatures, build_classifier
from trainers.evaluation.classifier_training import ClassifierTraining

# Digits of 8 pixels look too much alike.
small_params = functools.partial(gan_test_case.small_params, task__model__resolution=16)


def make(folder, epochs=1):
    return ClassifierFeatures(small_params(task__evaluation__classifier_epochs=epochs).task, str(folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    make(folder, epochs=6).prepare()
    return folder


def test_classifier_learns_the_training_images(folder):
    images, labels = input_pipelines.load_arrays(small_params().task.validation_data, 16)
    extractor = make(folder)
    extractor.prepare()
    features, logits = extractor(images)
    assert features.shape == (len(images), 64) and logits.shape == (len(images), 10)
    assert features.dtype == logits.dtype == tf.float32
    assert np.mean(np.argmax(logits, axis=-1) == labels) > 0.85


def test_weights_are_kept_and_taken_up_again(folder, monkeypatch):
    assert [path.name for path in folder.iterdir()] == [WEIGHTS_FILE]
    monkeypatch.setattr(ClassifierFeatures, "_train", lambda *args: pytest.fail("trained again"))
    images = tf.random.stateless_uniform((3, 16, 16, 1), (0, 0), -1.0, 1.0)
    first, second = make(folder), make(folder)
    for extractor in (first, second):
        assert extractor.is_trained
        extractor.prepare()
        extractor.prepare()
    for ours, theirs in zip(first(images), second(images)):
        np.testing.assert_array_equal(ours, theirs)
    assert first.digest == second.digest and len(first.digest) == 64


def test_digest_is_that_of_the_weights(folder, tmp_path):
    extractor = make(tmp_path)
    assert not extractor.is_trained
    extractor.prepare()
    assert extractor.is_trained and extractor.digest != make(folder).digest


def test_training_that_dies_leaves_no_weights(tmp_path, monkeypatch):
    def die(self, classifier):
        raise InterruptedError

    monkeypatch.setattr(ClassifierFeatures, "_train", die)
    with pytest.raises(InterruptedError):
        make(tmp_path).prepare()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told_before_the_training(tmp_path, monkeypatch):
    def refuse(dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(ClassifierFeatures, "_train", lambda *args: pytest.fail("trained in vain"))
    told = re.escape(f"cannot be kept in {tmp_path}: Read-only file system. Set task.evaluation.classifier_dir")
    with pytest.raises(ValueError, match=told):
        make(tmp_path).prepare()
    with pytest.raises(ValueError, match=r"task.evaluation.classifier_dir=.*/a \[b\] must have no \[ in it"):
        make(tmp_path / "a [b]").prepare()


def test_every_epoch_sees_as_many_images_as_there_are(tmp_path, monkeypatch):
    seen = []

    def fit(self, batches, steps_per_epoch, epochs, **kwargs):
        image, label = next(iter(batches))
        seen.append((image.shape, label.shape, steps_per_epoch, epochs))

    monkeypatch.setattr(keras.Model, "fit", fit)
    make(tmp_path, epochs=3).prepare()
    assert seen == [((64, 16, 16, 1), (64,), -(-1437 // 64), 3)]


def test_features_are_named_and_come_in_any_precision_as_float32():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    features, logits = build_classifier(16, 3, 5)(tf.zeros((2, 16, 16, 3)))
    assert features.shape == (2, 64) and logits.shape == (2, 5)
    assert features.dtype == logits.dtype == tf.float32


def test_its_scores_have_no_name_of_inception():
    assert ClassifierFeatures.kind == "classifier" and ClassifierFeatures.names.frechet == "frechet_distance"
    assert classifier_features.ClassifierFeatures.resizer == "none"


class StoppedError(BaseException):
    """Stands for a signal."""


def stop_at(step, monkeypatch):
    """Stops the training once a step is done, of all those of one fit."""
    seen = []

    def end(self, batch, logs=None):
        real(self, batch, logs)
        seen.append(batch)
        if len(seen) == step:
            raise StoppedError

    real = ClassifierTraining.on_train_batch_end
    monkeypatch.setattr(ClassifierTraining, "on_train_batch_end", end)


def weights_of(extractor):
    return [tf.convert_to_tensor(weight).numpy() for weight in extractor._model.weights]


@pytest.mark.parametrize("stopped_at", [46, 50])  # 23 steps make an epoch
def test_training_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch, caplog, stopped_at):
    monkeypatch.setattr(classifier_training, "_SAVE_SECONDS", 0.0)
    keras.utils.set_random_seed(7)
    whole = make(tmp_path / "whole", epochs=3)
    (tmp_path / "whole").mkdir()
    whole.prepare()
    (tmp_path / "stopped").mkdir()
    keras.utils.set_random_seed(7)
    with monkeypatch.context() as patches, pytest.raises(StoppedError):
        stop_at(stopped_at, patches)
        make(tmp_path / "stopped", epochs=3).prepare()
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == [classifier_training.PART_FOLDER]
    keras.utils.set_random_seed(8)
    extractor = make(tmp_path / "stopped", epochs=3)
    with monkeypatch.context() as patches, caplog.at_level(logging.INFO, logger="absl"):
        stop_at(69 - stopped_at + 1, patches)  # no more than are left
        extractor.prepare()
    assert f"The classifier goes on from step {stopped_at}." in caplog.text
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == [WEIGHTS_FILE]
    if IS_KERAS_3:  # Keras 2 keeps the state of its random layers to itself
        for first, second in zip(weights_of(whole), weights_of(extractor)):
            np.testing.assert_array_equal(first, second)


def test_training_tells_where_it_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(classifier_training, "_TELL_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, logger="absl"):
        make(tmp_path, epochs=2).prepare()
    lines = [record.getMessage() for record in caplog.records if "Classifier: step" in record.getMessage()]
    assert len(lines) == 46 and lines[-1].startswith("Classifier: step 46 of 46, loss ") and "ETA 0:00:00" in lines[-1]


def test_checkpoint_of_another_classifier_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier_training, "_SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patches, pytest.raises(StoppedError):
        stop_at(2, patches)
        make(tmp_path).prepare()
    for path in (tmp_path / classifier_training.PART_FOLDER).glob("*.data*"):
        path.write_bytes(b"none")
    with pytest.raises(ValueError, match="is no checkpoint of this classifier: .* Remove .*classifier_part, to begin"):
        make(tmp_path).prepare()


def test_evaluation_beside_this_one_that_is_done_first_decides(folder, tmp_path, monkeypatch):
    """Two processes that evaluate one run score with one classifier."""

    def train(self, classifier):
        training = real(self, classifier)
        shutil.copy(folder / WEIGHTS_FILE, tmp_path)
        return training

    real = ClassifierFeatures._train
    monkeypatch.setattr(ClassifierFeatures, "_train", train)
    second, first = make(tmp_path), make(folder)
    for extractor in (first, second):
        extractor.prepare()
    assert second.digest == first.digest and [path.name for path in tmp_path.iterdir()] == [WEIGHTS_FILE]
    for ours, theirs in zip(weights_of(second), weights_of(first)):
        np.testing.assert_array_equal(ours, theirs)


def test_training_goes_on_where_it_cannot_be_saved(tmp_path, monkeypatch, caplog):
    def fail(self, step):
        raise tf.errors.NotFoundError(None, None, "no such folder\nand so on")

    monkeypatch.setattr(classifier_training, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(tf.train.CheckpointManager, "save", fail)
    make(tmp_path).prepare()
    assert "The classifier is not saved at step 1: no such folder" in caplog.text
    assert (tmp_path / WEIGHTS_FILE).exists()
