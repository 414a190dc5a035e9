"""The classifier that stands in for Inception: trained once, kept whole, told apart by its weights."""

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import small_params
from keras_an.backend import keras
from trainers.data import input_pipelines
from trainers.evaluation import classifier_features
from trainers.evaluation.classifier_features import WEIGHTS_FILE, ClassifierFeatures, build_classifier


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
