"""The Inception SavedModel: what goes in, what comes out, what is refused. The tests' one has 6 features."""

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import fake_inception
from trainers.evaluation import inception_features
from trainers.evaluation.inception_features import InceptionFeatures


@pytest.fixture(autouse=True)
def _few_features(monkeypatch):
    monkeypatch.setattr(inception_features, "NUM_FEATURES", 6)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return fake_inception(tmp_path_factory.mktemp("inception") / "model")


def save(path, function, signature="serving_default"):
    module = tf.Module()
    module.function = tf.function(function, input_signature=[tf.TensorSpec((None, None, None, 3))])
    tf.saved_model.save(module, str(path), signatures={signature: module.function})
    return str(path)


def outputs(num_features=6):
    def function(images):
        means = tf.reduce_mean(images, axis=(1, 2))[:, :1]
        return {"pool_3": means * tf.ones((1, num_features)), "logits": means * tf.ones((1, 4))}

    return function


def test_features_and_logits_are_flat_float32(path):
    features, logits = InceptionFeatures(path)(tf.zeros((3, 16, 16, 3)))
    assert features.shape == (3, 6) and logits.shape == (3, 5)
    assert features.dtype == logits.dtype == tf.float32


def test_images_are_resized_and_stay_in_their_range(tmp_path):
    seen = InceptionFeatures(save(tmp_path / "means", outputs()))
    for value in (-1.0, 1.0, 3.0):
        np.testing.assert_allclose(seen(tf.fill((1, 16, 16, 3), value))[0], np.clip(value, -1.0, 1.0), atol=1e-6)


def test_images_are_rounded_as_files_of_8_bits_are(tmp_path):
    seen = InceptionFeatures(save(tmp_path / "means", outputs()))
    features, _ = seen(tf.constant([100.2, 100.4, 100.6])[:, None, None, None] / 127.5 - tf.ones((1, 8, 8, 3)))
    np.testing.assert_allclose(features[:, 0] * 127.5 + 127.5, [100.0, 100.0, 101.0], atol=0.02)


def test_grey_images_are_taken_as_colour(path):
    grey = tf.random.stateless_uniform((2, 16, 16, 1), (0, 0), -1.0, 1.0)
    extractor = InceptionFeatures(path)
    np.testing.assert_allclose(extractor(grey)[0], extractor(tf.repeat(grey, 3, axis=-1))[0], atol=1e-6)


def test_digest_is_that_of_the_weights(path, tmp_path):
    same, other = (fake_inception(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    digests = [InceptionFeatures(each).digest for each in (path, path, other)]
    assert digests[0] == digests[1] != digests[2] and len(digests[0]) == 64
    assert InceptionFeatures(same).digest != digests[2]


def test_handle_of_tf_hub_is_fetched(path, monkeypatch):
    import tensorflow_hub

    asked = []
    monkeypatch.setattr(tensorflow_hub, "resolve", lambda handle: asked.append(handle) or path)
    handle = "https://tfhub.dev/tensorflow/tfgan/eval/inception/1"
    assert InceptionFeatures(handle).digest == InceptionFeatures(path).digest and asked == [handle]


def test_handle_that_cannot_be_fetched_is_an_error(monkeypatch):
    import tensorflow_hub

    def fail(handle):
        raise OSError("no network")

    monkeypatch.setattr(tensorflow_hub, "resolve", fail)
    with pytest.raises(ValueError, match=r"--inception_path=https://a/b cannot be fetched from TF-Hub: no network"):
        InceptionFeatures("https://a/b")


def test_path_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"must be the folder of a SavedModel or a TF-Hub handle\. Received: .*none'"):
        InceptionFeatures(str(tmp_path / "none"))


def test_folder_without_a_saved_model_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=rf"--inception_path={tmp_path} cannot be loaded as a SavedModel"):
        InceptionFeatures(str(tmp_path))


def test_saved_model_without_a_call_is_an_error(tmp_path):
    path = save(tmp_path / "bare", outputs(), signature="other")
    with pytest.raises(ValueError, match=r"must be callable or have the signature `serving_default`\. .*\['other'\]"):
        InceptionFeatures(path)


def test_other_number_of_features_is_no_inception(tmp_path):
    path = save(tmp_path / "narrow", outputs(5))
    with pytest.raises(ValueError, match=r"outputs `pool_3` of 6 and `logits`\. Received: .*'pool_3': 5") as caught:
        InceptionFeatures(path)
    assert path in str(caught.value)


def test_missing_output_is_an_error(tmp_path):
    path = save(tmp_path / "nameless", lambda images: {"pool_3": tf.zeros((1, 6))})
    with pytest.raises(ValueError, match=r"outputs `pool_3` of 6 and `logits`\. Received: \{'pool_3': 6\}"):
        InceptionFeatures(path)


def test_other_input_is_an_error(tmp_path):
    path = save(tmp_path / "small", lambda images: {"pool_3": tf.ensure_shape(images, (None, 64, 64, 3))})
    with pytest.raises(ValueError, match=r"for images of 299 x 299 x 3\. .*small raised"):
        InceptionFeatures(path)


def test_real_inception_has_2048_features(monkeypatch):
    monkeypatch.undo()
    assert inception_features.NUM_FEATURES == 2048 and inception_features.IMAGE_SIZE == 299
