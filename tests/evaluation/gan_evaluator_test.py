"""The evaluator: what it scores and against what, on one replica and on two, and what it keeps and refuses.

The file is long because all tests share one evaluator and what it has measured.
"""

import functools
import os

import numpy as np
import pytest
import tensorflow as tf

import gan_test_case
from gan_test_case import SCORES, fake_inception
from trainers.configs.networks import build_networks
from trainers.data import folder_source, input_pipelines
from trainers.evaluation import contents, gan_evaluator, inception_features, real_statistics

# Digits of 8 pixels look too much alike.
small_params = functools.partial(gan_test_case.small_params, task__model__resolution=16)
STATISTICS = "real_statistics_classifier.npz"


@pytest.fixture(scope="module")
def networks():
    return build_networks(small_params())


def make_evaluator(model_dir, networks, seed=1, strategy=None, **overrides):
    params = small_params(task__evaluation__classifier_epochs=4, runtime__seed=seed, **overrides)
    return gan_evaluator.GanEvaluator(params, str(model_dir), *networks, strategy=strategy)


@pytest.fixture(scope="module")
def evaluated(networks, tmp_path_factory):
    """An evaluator that has trained its classifier, its folder, and the scores."""
    model_dir = tmp_path_factory.mktemp("evaluated")
    evaluator = make_evaluator(model_dir, networks)
    return evaluator, model_dir, evaluator.evaluate()


@pytest.fixture
def evaluator(evaluated):
    return evaluated[0]


@pytest.fixture
def inception(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(inception_features, "NUM_FEATURES", 6)
    return fake_inception(tmp_path_factory.mktemp("inception") / "model")


def digits(split="test"):
    return input_pipelines.load_arrays(small_params(task__train_data__split=split).task.train_data, 16)


def test_scores_are_finite_and_named(evaluated):
    _, _, scores = evaluated
    assert set(scores) == SCORES
    assert all(np.isfinite(value) for value in scores.values())


def test_classifier_knows_real_digits_and_scores_tell_real_from_noise(evaluated):
    _, _, scores = evaluated
    assert scores["classifier_test_accuracy"] > 0.8
    assert scores["label_accuracy"] < 0.4
    assert 0.0 < scores["frechet_distance_floor"] < 0.1 * scores["frechet_distance"]
    assert scores["recall"] < 0.3 and scores["kernel_distance"] > 0.1


def test_scores_of_real_digits_in_place_of_generated_ones_are_good(evaluated, monkeypatch):
    evaluator, _, _ = evaluated
    images, labels = digits()
    assert len(labels) > 300
    batches = [(images[start : start + 30], labels[start : start + 30]) for start in range(0, len(labels), 30)]
    monkeypatch.setattr(evaluator, "sample_batches", lambda count: iter(batches))
    scores = evaluator.evaluate()
    assert scores["label_accuracy"] == scores["classifier_test_accuracy"]
    assert scores["frechet_distance"] == pytest.approx(0.0, abs=1e-3)
    # Of equal sets the unbiased estimate is negative: only between the sets are images compared with themselves.
    assert -0.05 * evaluated[2]["kernel_distance"] < scores["kernel_distance"] <= 0.0
    assert scores["spread_ratio"] == pytest.approx(1.0, rel=1e-6)
    assert scores["precision"] == scores["recall"] == 1.0
    assert 7.0 < scores["classifier_score"] <= 10.0


def test_classifier_and_statistics_are_made_once_a_folder(evaluated, networks, monkeypatch):
    evaluator, model_dir, scores = evaluated
    assert {path.name for path in model_dir.iterdir()} == {"classifier.weights.h5", STATISTICS}
    before = {path: path.read_bytes() for path in model_dir.iterdir()}
    second = make_evaluator(model_dir, networks, seed=2)
    monkeypatch.setattr(second, "_measured", lambda data: pytest.fail("measured again"))
    second_scores = second.evaluate()
    assert {path: path.read_bytes() for path in model_dir.iterdir()} == before
    for name in ("classifier_test_accuracy", "frechet_distance_floor"):
        assert second_scores[name] == scores[name]
    assert second_scores["frechet_distance"] != scores["frechet_distance"]


@pytest.mark.parametrize(
    "override, message",
    [
        ({"task__validation_data__split": "train"}, "validation_data.split: 'test' in the file, 'train' here"),
        ({"task__train_data__split": "test"}, "train_data.split: 'train' in the file, 'test' here"),
    ],
)
def test_statistics_of_other_data_are_refused_at_once(evaluated, networks, override, message):
    _, model_dir, _ = evaluated
    with pytest.raises(real_statistics.StatisticsError) as caught:
        make_evaluator(model_dir, networks, **override)
    assert message in str(caught.value) and str(model_dir / STATISTICS) in str(caught.value)


def test_statistics_by_another_classifier_are_refused(evaluated, networks, tmp_path):
    evaluator, model_dir, _ = evaluated
    (tmp_path / STATISTICS).write_bytes((model_dir / STATISTICS).read_bytes())
    second = make_evaluator(tmp_path, networks, seed=2)  # has no weights yet that could be compared
    with pytest.raises(real_statistics.StatisticsError, match="weights_sha256: '") as caught:
        second.evaluate()
    assert evaluator.description()["weights_sha256"] in str(caught.value)
    assert second.description()["weights_sha256"] in str(caught.value)


def test_how_data_are_read_in_training_plays_no_part(evaluated, networks):
    _, model_dir, _ = evaluated
    changes = {"task__validation_data__global_batch_size": 31, "task__train_data__cache": "true"}
    make_evaluator(model_dir, networks, **changes, task__validation_data__class_names="[zero,one]")


def test_inception_gives_fid_and_nothing_of_a_classifier(networks, inception, tmp_path):
    evaluator = make_evaluator(
        tmp_path / "run",
        networks,
        task__evaluation__inception_path=inception,
        task__evaluation__intra_class="true",
        task__evaluation__statistics_dir=tmp_path / "statistics",
    )
    scores = evaluator.evaluate()
    of_generator = {"fid", "kid", "inception_score", "intra_fid", "precision", "recall"}
    assert set(scores) == {*of_generator, "discriminator_slope"}
    assert all(np.isfinite(value) for value in scores.values())
    assert [path.name for path in tmp_path.iterdir()] == ["statistics"]
    assert [path.name for path in (tmp_path / "statistics").iterdir()] == ["real_statistics_inception.npz"]
    description = evaluator.description()
    assert description["num_images"] == 360 and description["validation_data.split"] == "test"
    assert "299 x 299" in description["resizer"] and "to 16;" in description["resizer"]


def test_other_inception_is_refused_at_once(networks, inception, tmp_path):
    make_evaluator(tmp_path, networks, task__evaluation__inception_path=inception).evaluate()
    other = fake_inception(tmp_path / "other", seed=1)
    with pytest.raises(real_statistics.StatisticsError, match="weights_sha256"):
        make_evaluator(tmp_path, networks, task__evaluation__inception_path=other)


def test_missing_inception_is_an_error_at_once(networks, tmp_path):
    with pytest.raises(ValueError, match="--inception_path must be"):
        make_evaluator(tmp_path, networks, task__evaluation__inception_path=tmp_path / "none")


def test_too_few_real_images_are_an_error_at_once(networks, tmp_path, monkeypatch):
    few = input_pipelines.image_sources.array_source(*(part[:3] for part in digits()))
    monkeypatch.setattr(input_pipelines, "open_source", lambda *args: few)
    with pytest.raises(ValueError, match=r"`task.validation_data` must hold at least 4 images\. Received: 3"):
        make_evaluator(tmp_path, networks)


@pytest.mark.parametrize("features", ["classifier", "inception"])
def test_two_replicas_give_the_scores_of_one(evaluated, mirrored, inception, features, tmp_path):
    _, model_dir, _ = evaluated
    # A batch of 29 does not divide by two, nor 50 images by either batch.
    overrides = {"task__validation_data__global_batch_size": 29}
    if features == "inception":
        overrides.update(task__evaluation__inception_path=inception, task__evaluation__statistics_dir=tmp_path)
    alone = build_networks(small_params())
    one = make_evaluator(model_dir, alone, **overrides)
    expected, expected_images = one.evaluate(), one.sample(50)[0]
    with mirrored.scope():
        networks = build_networks(small_params())
    for network, other in zip(networks, alone):
        for variable, value in zip(network.variables, other.variables):
            variable.assign(value)
    two = make_evaluator(model_dir, networks, strategy=mirrored, **overrides)
    images, labels = two.sample(50)
    np.testing.assert_allclose(images, expected_images, atol=1e-5)
    np.testing.assert_array_equal(labels, np.arange(50) % 10)
    assert two.evaluate() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_each_replica_generates_its_share(mirrored, networks, tmp_path):
    seen = []

    def generator(inputs, training):
        z, labels = inputs
        seen.append((tf.distribute.get_replica_context().replica_id_in_sync_group, z.shape[0]))
        return tf.reshape(z, (-1, 2, 4, 1)) + tf.cast(labels, tf.float32)[:, None, None, None]

    params = small_params(runtime__seed=1)
    evaluator = gan_evaluator.GanEvaluator(params, str(tmp_path), generator, strategy=mirrored)
    images, labels = evaluator.sample(65)
    assert sorted(size for _, size in seen) == [15, 15] and len(seen) == 2  # one trace, a half for each
    z = tf.random.stateless_normal((65, 8), (1, 0), alg="philox").numpy()
    np.testing.assert_allclose(images.reshape(65, 8), z + labels[:, None], atol=1e-6)


@pytest.mark.parametrize("count", [7, 30, 65])  # in batches of 30
def test_sample_takes_labels_in_turn_and_gives_the_same_images_twice(evaluator, count):
    images, labels = evaluator.sample(count)
    assert images.shape == (count, 16, 16, 1) and images.dtype == np.float32
    assert np.abs(images).max() <= 1.0
    np.testing.assert_array_equal(labels, np.arange(count) % 10)
    again, _ = evaluator.sample(count)
    np.testing.assert_array_equal(images, again)
    assert len({image.tobytes() for image in images}) == count


def test_sample_is_what_the_generator_gives_for_noise_of_the_seed(tmp_path, networks):
    images, labels = make_evaluator(tmp_path, networks, seed=6).sample(35)
    z = tf.random.stateless_normal((35, 8), (6, 0), alg="philox")
    np.testing.assert_allclose(images, networks[0]([z, tf.constant(labels)], training=False), atol=1e-5)
    other_seed = gan_evaluator.GanEvaluator(small_params(runtime__seed=1), str(tmp_path), networks[0], seed=6)
    np.testing.assert_array_equal(other_seed.sample(35)[0], images)


def test_pictures_are_classes_by_samples_and_rows_of_layouts(evaluator):
    pictures = evaluator.pictures()
    assert set(pictures) == {"samples", "layouts"}
    side = 10 * 16 + 9 * 2
    assert pictures["samples"].shape == (side, side, 3)
    assert pictures["layouts"].shape == (22 + 8 * 98 - 2, (3 + 3) * 98 - 2, 3)
    images, _ = evaluator.sample(100)
    second_of_class_three = np.clip(images[13] * 127.5 + 127.5, 0, 255).round()
    np.testing.assert_array_equal(pictures["samples"][54:70, 18:34, :1], second_of_class_three)


def test_pictures_show_the_first_classes_of_many(evaluator, monkeypatch):
    monkeypatch.setattr(gan_evaluator, "_MOST_CLASSES", 3)
    assert evaluator.pictures()["samples"].shape == (3 * 16 + 2 * 2, 10 * 16 + 9 * 2, 3)


def test_probes_watch_both_networks_with_labels(evaluator):
    views = [view for name, probe in evaluator.probes.items() for view in probe.views(name)]
    assert [view.name for view in views] == ["generator/block1_attention", "discriminator/block1_attention"]
    assert views[0].labels[:12] == [*"0123456789", "0", "1"] and len(views[1].labels) == 50
    assert all(view.images.shape == (50, 16, 16, 1) for view in views)
    names, means = views[0].table()
    assert names == [*"0123456789"]
    np.testing.assert_allclose(means[3], views[0].layout[3::10].mean(axis=(0, 1, 2)), rtol=1e-4)


@pytest.fixture
def corrupt(tmp_path):
    """Settings of validation data of ten classes of which no image can be decoded."""
    for label in range(10):
        (tmp_path / "images" / "test" / str(label)).mkdir(parents=True)
        (tmp_path / "images" / "test" / str(label) / "0.png").write_bytes(b"none")
    return {
        "task__validation_data__dataset": "folder",
        "task__validation_data__path": tmp_path / "images",
        "task__validation_data__skip_corrupt": "true",
    }


def test_real_images_of_a_class_that_are_equal_leave_out_their_spread_alone(networks, tmp_path, monkeypatch, caplog):
    images, labels = digits()
    first = np.array([np.flatnonzero(labels == label)[0] for label in labels])
    open_source = input_pipelines.open_source
    equal = input_pipelines.image_sources.array_source(images[first], labels, tuple("0123456789"))
    monkeypatch.setattr(
        input_pipelines, "open_source", lambda data, *args: equal if data.split == "test" else open_source(data, *args)
    )
    found = make_evaluator(tmp_path, networks).evaluate()
    assert set(found) == SCORES - {"spread_ratio"} and all(np.isfinite(value) for value in found.values())
    assert "Without spread_ratio: A ratio of spreads needs 2 images of a class" in caplog.text


def test_validation_data_that_are_all_left_out_leave_the_scores_without_them(networks, tmp_path, corrupt, caplog):
    evaluator = make_evaluator(tmp_path, networks, **corrupt)
    assert set(evaluator.probes) == {"generator"}
    assert "no validation image can be used" in caplog.text
    assert set(evaluator.evaluate()) == {"label_accuracy", "classifier_score"} and set(evaluator.pictures())
    for name in ("frechet_distance", "kernel_distance", "precision, recall", "spread_ratio", "frechet_distance_floor"):
        assert f"Without {name}: " in caplog.text
    assert not (tmp_path / STATISTICS).exists()  # which would hold when the images are mended


@pytest.fixture
def folders(tmp_path):
    """Settings of training and validation data that are PNG files of the digits, 8 of each class."""
    images, labels = digits("train")
    (tmp_path / "run").mkdir()
    for split in ("train", "test"):
        for label in range(10):
            folder = tmp_path / "data" / split / str(label)
            folder.mkdir(parents=True)
            for number, image in enumerate(images[labels == label][:8]):
                png = tf.io.encode_png(tf.cast(image * 127.5 + 127.5, tf.uint8)).numpy()
                (folder / f"{number}.png").write_bytes(png)
    return {
        f"task__{group}__{name}": value
        for group in ("train_data", "validation_data")
        for name, value in (("dataset", "folder"), ("path", tmp_path / "data"))
    }


def test_layers_are_watched_on_all_classes_of_a_folder_by_name(networks, tmp_path, folders):
    for split in ("train", "test"):
        (tmp_path / "data" / split / "3").rename(tmp_path / "data" / split / "3 dé")
    probes = make_evaluator(tmp_path / "run", networks, **folders).probes
    views = [view for name, probe in probes.items() for view in probe.views(name)]
    assert [set(view.labels) for view in views] == [{*"012456789", "3 dé"}] * 2
    assert [len(view.labels) for view in views] == [50, 50]


def other_image(path):
    (path / "3.png").write_bytes((path / "4.png").read_bytes())


def same_size(path):
    """Another image of the same size, of which only the contents tell."""
    content = bytearray((path / "3.png").read_bytes())
    content[-20] ^= 1
    (path / "3.png").write_bytes(content)


@pytest.mark.parametrize("change", [other_image, same_size])
@pytest.mark.parametrize("split, group", [("test", "validation_data"), ("train", "train_data")])
def test_statistics_of_images_that_changed_are_refused(networks, tmp_path, folders, monkeypatch, change, split, group):
    monkeypatch.setattr(contents, "_SAMPLE", 80)  # all
    make_evaluator(tmp_path / "run", networks, **folders).evaluate()
    make_evaluator(tmp_path / "run", networks, **folders)
    change(tmp_path / "data" / split / "7")
    with pytest.raises(real_statistics.StatisticsError, match=f"{group}.contents: '80 files of "):
        make_evaluator(tmp_path / "run", networks, **folders)


def test_statistics_fit_a_copy_whose_files_have_other_times(networks, tmp_path, folders):
    make_evaluator(tmp_path / "run", networks, **folders).evaluate()
    for path in (tmp_path / "data").rglob("*.png"):
        os.utime(path, (1, 1))
    make_evaluator(tmp_path / "run", networks, **folders)


def test_statistics_know_the_place_whatever_it_is_called(networks, tmp_path, folders, monkeypatch):
    make_evaluator(tmp_path / "run", networks, **folders).evaluate()
    monkeypatch.chdir(tmp_path)
    relative = {key: "data" if key.endswith("path") else value for key, value in folders.items()}
    make_evaluator(tmp_path / "run", networks, **relative)
    (tmp_path / "data").rename(tmp_path / "moved")
    folder_source.open_folder.cache_clear()
    moved = {key: "moved" if key.endswith("path") else value for key, value in folders.items()}
    with pytest.raises(
        real_statistics.StatisticsError, match="validation_data.path: '.*/data' in the file, '.*/moved'"
    ):
        make_evaluator(tmp_path / "run", networks, **moved)


def test_statistics_stand_in_for_images_that_are_not_there(networks, tmp_path, folders, caplog):
    expected = make_evaluator(tmp_path / "run", networks, **folders)
    scores = expected.evaluate()
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    folder_source.open_folder.cache_clear()  # as in a later process
    with pytest.raises(ValueError, match="there is no folder"):  # training looks at images
        make_evaluator(tmp_path / "run", networks, **folders)
    with pytest.raises(ValueError, match="there is no folder"):
        make_evaluator(tmp_path / "other", networks[:1], **folders)
    evaluator = make_evaluator(tmp_path / "run", networks[:1], **folders)
    del scores["discriminator_slope"]
    assert evaluator.evaluate() == pytest.approx(scores, rel=1e-6)
    assert evaluator.description() == expected.description()
    assert "`task.validation_data` are not in" in caplog.text and "stands in for them" in caplog.text


def test_statistics_of_other_digits_are_refused(evaluated, networks, monkeypatch):
    _, model_dir, _ = evaluated
    images, labels = digits()
    changed = images.copy()
    changed[0, 5, 5] = 0.5
    other = input_pipelines.image_sources.array_source(changed, labels, tuple("0123456789"))
    monkeypatch.setattr(input_pipelines, "open_source", lambda data, *args: other)
    with pytest.raises(real_statistics.StatisticsError, match="validation_data.contents: 'sha256 "):
        make_evaluator(model_dir, networks)
