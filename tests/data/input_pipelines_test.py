"""Images from every source: what comes, in which order, and what every fault is told.

The file is long because sources, order, workers and errors share the images that its fixtures write.
"""

import dataclasses
import io
import itertools
import logging
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from trainers.configs.schema import DataConfig
from trainers.data import bundled_sources, image_batches, input_pipelines, picture_files

ONE = tf.distribute.OneDeviceStrategy("CPU:0")
RANDOM = np.random.default_rng(0)
LOSSLESS = {"lossless": True}


class Workers:
    """Stands in for a strategy: gives the data set of one of several workers, each with one replica."""

    def __init__(self, number, count):
        self.num_replicas_in_sync = count
        self._context = tf.distribute.InputContext(count, number, count)

    def distribute_datasets_from_function(self, make):
        return make(self._context)

    def experimental_local_results(self, value):
        return (value,)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def of_colour(value, kind="PNG", side=4):
    """A flat image in one of 256 colours that no kind of coding confounds."""
    return encoded(np.full((side, side, 3), value, np.uint8), kind, **(LOSSLESS if kind == "WEBP" else {}))


def write_folder(folder, *counts):
    """Class folders with flat images, whose colours count up over all."""
    colour = itertools.count()
    for label, count in enumerate(counts):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(count):
            (folder / f"class{label}" / f"{number:03}.png").write_bytes(of_colour(next(colour) * 8))
    return folder


def example(image, label):
    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_records(path, images, labels):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image, label in zip(images, labels):
            writer.write(example(image, label))
    return path


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """A data set of TFDS with 12 images in the split train and 3 in test, as they lie on disk."""
    folder = str(tmp_path_factory.mktemp("tfds"))

    def examples(numbers):
        numbers = np.array(numbers)
        images = np.broadcast_to(8 * numbers[:, None, None, None], (len(numbers), 4, 4, 3)).astype(np.uint8)
        return tf.data.Dataset.from_tensor_slices({"image": images, "label": numbers % 3})

    tfds.dataset_builders.store_as_tfds_dataset(
        name="flat",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(4, 4, 3)), "label": tfds.features.ClassLabel(names=["a", "b", "c"])}
        ),
        split_datasets={"train": examples(range(12)), "test": examples(range(12, 15))},
        data_dir=folder,
        disable_shuffling=True,
    )
    return folder


@pytest.fixture(scope="module", params=["folder", "cache", "tfrecord", "tfds"])
def numbered(request, tmp_path_factory):
    """Twelve images of each source, whose colours are eight times their numbers."""
    folder, colours = tmp_path_factory.mktemp(request.param), [of_colour(8 * number) for number in range(12)]
    if request.param in ("folder", "cache"):
        write_folder(folder / "train", 5, 7)
        return DataConfig("folder", path=str(folder), cache=request.param == "cache")
    if request.param == "tfrecord":
        for file in range(4):
            part = slice(3 * file, 3 * file + 3)
            write_records(folder / f"train-{file:05}-of-00004", colours[part], range(12)[part])
        return DataConfig("tfrecord", path=str(folder), shuffle_buffer_size=5)
    return DataConfig("tfds", "flat", request.getfixturevalue("tfds_dir"))


@pytest.fixture(scope="module")
def unbroken(numbered):
    """Three epochs of seed 1: the numbers of `(batch, image)`."""
    tf.random.set_seed(5)
    return batches(numbered, 9)


def numbers_of(images):
    """The number of each flat image."""
    return np.round((np.asarray(images)[:, 0, 0, 0] + 1) * 127.5 / 8).astype(int)


def batches(data, count, strategy=ONE, seed=1, start_batch=0, size=4):
    """The numbers of the images of batches of `size`, of all replicas in turn: `(count, size)`."""
    data = dataclasses.replace(data, global_batch_size=size)
    dataset = input_pipelines.training_dataset(strategy, data, 4, seed, start_batch)
    return np.array(
        [
            np.concatenate([numbers_of(part) for part in strategy.experimental_local_results(batch["image"])])
            for batch in itertools.islice(dataset, count)
        ]
    )


def test_every_epoch_takes_all_images_in_another_order(unbroken):
    first, second, third = unbroken.reshape(3, 12)
    assert sorted(first) == sorted(second) == sorted(third) == list(range(12))
    assert list(first) != list(range(12)) and list(first) != list(second) and list(second) != list(third)


def test_order_depends_on_the_seed(numbered, unbroken):
    assert not np.array_equal(batches(numbered, 3, seed=4), unbroken[:3])


def test_start_batch_resumes_the_order_whatever_the_seed_of_the_process(numbered, unbroken):
    tf.random.set_seed(6)
    tf.random.uniform(())
    np.testing.assert_array_equal(batches(numbered, 2, start_batch=7), unbroken[7:])


def test_replicas_share_the_order_of_one(numbered, unbroken, mirrored):
    seen = batches(numbered, 3, strategy=mirrored, start_batch=2)  # two images for each of two replicas
    np.testing.assert_array_equal(seen, unbroken[2:5])


def assert_workers_share_epochs(data, count):
    seen = [batches(data, 24 // count, Workers(number, count), size=count).flatten() for number in range(count)]
    share = 12 // count
    assert sorted(np.concatenate([part[:share] for part in seen])) == list(range(12))
    for part in seen:
        assert sorted(part[share:]) == sorted(part[:share]) and list(part[share:]) != list(part[:share])
    resumed = batches(data, 4, Workers(1, count), start_batch=3, size=count).flatten()
    np.testing.assert_array_equal(resumed, seen[1][3:7])


def test_workers_see_disjoint_images_that_cover_an_epoch(numbered, unbroken):
    if numbered.dataset == "folder":  # of which workers share the global batches of one order, that of a worker alone
        parts = [batches(numbered, 9, Workers(number, 2)) for number in range(2)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), unbroken)
        np.testing.assert_array_equal(batches(numbered, 4, Workers(1, 2), start_batch=3), parts[1][3:7])
    else:
        assert_workers_share_epochs(numbered, 2)


def test_workers_share_a_file_where_there_are_fewer_than_workers(tmp_path):
    write_records(tmp_path / "train-00000-of-00001", [of_colour(8 * number) for number in range(12)], range(12))
    assert_workers_share_epochs(DataConfig("tfrecord", path=str(tmp_path)), 3)


def test_evaluation_takes_all_images_once_in_order(numbered):
    found = list(input_pipelines.evaluation_dataset(numbered, 4, 5))
    assert [len(batch["label"]) for batch in found] == [5, 5, 2]
    np.testing.assert_array_equal(np.concatenate([numbers_of(batch["image"]) for batch in found]), range(12))


def test_batches_have_their_shapes_types_and_range(numbered):
    data = dataclasses.replace(numbered, global_batch_size=6)
    batch = next(iter(input_pipelines.training_dataset(ONE, data, 4, 1, image_channels=1)))
    assert batch["image"].shape == (6, 4, 4, 1) and batch["image"].dtype == tf.float32
    assert batch["label"].shape == (6,) and batch["label"].dtype == tf.int32
    expected = np.broadcast_to(numbers_of(batch["image"])[:, None, None, None] * 8 / 127.5 - 1, (6, 4, 4, 1))
    np.testing.assert_allclose(batch["image"], expected, atol=1e-6)


def test_labels_belong_to_their_images(tmp_path, tfds_dir):
    folder = DataConfig("folder", path=str(write_folder(tmp_path / "images", 3, 5).parent), split="images")
    _, labels = input_pipelines.load_arrays(folder, 4, num_classes=2)
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1, 1, 1])
    write_records(tmp_path / "some.tfrecord", [of_colour(0)] * 3, [3, 1, 2])
    records = DataConfig("tfrecord", path=str(tmp_path), split="some", label_offset=-1)
    np.testing.assert_array_equal(input_pipelines.load_arrays(records, 4, num_classes=3)[1], [2, 0, 1])
    for split, numbers in (("train", range(12)), ("test", range(12, 15)), ("train[50%:]", range(6, 12))):
        images, labels = input_pipelines.load_arrays(DataConfig("tfds", "flat", tfds_dir, split), 4, num_classes=3)
        np.testing.assert_array_equal(numbers_of(images), numbers)
        np.testing.assert_array_equal(labels, np.array(numbers) % 3)


def test_flips_mirror_about_half_of_the_images_and_resume_on_any_number_of_replicas(tmp_path, mirrored):
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, 0] = 255
    write_records(tmp_path / "left.tfrecord", [encoded(image)] * 64, [0] * 64)
    data = DataConfig("tfrecord", path=str(tmp_path), split="left", global_batch_size=64)

    def flipped(count, start=0, seed=1, strategy=ONE, random_flip=True):
        settings = dataclasses.replace(data, random_flip=random_flip)
        dataset = itertools.islice(input_pipelines.training_dataset(strategy, settings, 4, seed, start), count)
        images = [part for batch in dataset for part in strategy.experimental_local_results(batch["image"])]
        left, right = (np.float32(side / 127.5 - 1) for side in (image, image[:, ::-1]))
        is_left, is_right = (np.all(np.concatenate(images) == side, axis=(1, 2, 3)) for side in (left, right))
        assert np.all(is_left ^ is_right)
        return is_right

    unbroken = flipped(20)
    assert 0.45 < unbroken.mean() < 0.55
    np.testing.assert_array_equal(flipped(3, start=17), unbroken[17 * 64 :])
    np.testing.assert_array_equal(flipped(2, strategy=mirrored), unbroken[: 2 * 64])
    assert not np.array_equal(flipped(1, seed=2), unbroken[:64])
    assert not np.array_equal(flipped(2, strategy=Workers(1, 2)), unbroken[:64])
    assert not flipped(1, random_flip=False).any()


# Decoding, cropping and resizing.


def prepared(data, resolution=8, channels=3):
    """What becomes of a file, in [0, 255], in a graph and outside."""

    def prepare(data):
        image = image_batches.crop_square(image_batches.decode_image(data), resolution)
        return image_batches.to_channels(image, channels)

    image = prepare(tf.constant(data)).numpy()
    np.testing.assert_allclose(tf.function(prepare)(tf.constant(data)), image, atol=1e-3)
    return image


SMOOTH = np.asarray(Image.fromarray(RANDOM.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((36, 24), Image.BICUBIC))


@pytest.mark.parametrize("shape", [(24, 36), (36, 24), (24, 24), (5, 8), (40, 41)])
@pytest.mark.parametrize("resolution", [8, 24])
def test_shorter_side_is_resized_and_the_center_kept(shape, resolution):
    image = np.asarray(Image.fromarray(SMOOTH).resize(shape[::-1], Image.BICUBIC))
    side = min(shape)
    top, left = ((length - side) // 2 for length in shape)
    square = Image.fromarray(image[top : top + side, left : left + side])
    expected = np.asarray(square.resize((resolution, resolution), Image.BICUBIC), np.float32)
    found = prepared(encoded(image), resolution)
    assert found.min() >= 0.0 and found.max() <= 255.0
    np.testing.assert_allclose(found, expected, atol=1.1)


def test_images_of_the_resolution_are_not_changed():
    np.testing.assert_array_equal(prepared(encoded(SMOOTH), 24), SMOOTH[:, 6:30])


def test_resizing_antialiases():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 254
    np.testing.assert_allclose(prepared(encoded(stripes), 8)[:, 1:-1], 127, atol=6)


@pytest.mark.parametrize(
    "kind, options, tolerance", [("PNG", {}, 0), ("JPEG", {"quality": 95}, 8), ("WEBP", LOSSLESS, 0)]
)
def test_formats_are_decoded(kind, options, tolerance):
    found = prepared(encoded(SMOOTH[:, 6:30], kind, **options), 24)
    assert np.abs(found - SMOOTH[:, 6:30]).mean() <= tolerance


@pytest.mark.parametrize(
    "mode, kind",
    [("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("1", "PNG"), ("I;16", "PNG")]
    + [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "WEBP")],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_alpha_and_palettes_become_what_is_wanted(mode, kind, channels):
    image = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    if mode != "I;16":
        image = Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    found = prepared(file.getvalue(), channels=channels)
    assert found.shape == (8, 8, channels)
    np.testing.assert_allclose(found, 255, atol=2)


def test_grey_is_kept_and_colour_becomes_its_luma():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    np.testing.assert_allclose(prepared(encoded(grey), channels=1)[..., 0], grey, atol=1e-3)
    red = np.broadcast_to(np.uint8([200, 0, 0]), (8, 8, 3))
    np.testing.assert_allclose(prepared(encoded(red), channels=1), 0.299 * 200, atol=1e-3)
    np.testing.assert_array_equal(image_batches.to_channels(tf.ones((2, 2, 1)), 3), np.ones((2, 2, 3)))


# Sources.


@pytest.mark.parametrize("split, count", [("train", 1437), ("test", 360)])
@pytest.mark.parametrize("resolution", [8, 16])
def test_digits_have_their_shape_range_and_types(split, count, resolution):
    images, labels = bundled_sources.load_digits(split, resolution)
    assert images.shape == (count, resolution, resolution, 1) and images.dtype == np.float32
    assert labels.shape == (count,) and labels.dtype == np.int32
    assert images.min() == -1.0 and images.max() == 1.0
    assert set(labels) == set(range(10))


def test_digits_are_not_changed_at_their_own_resolution():
    from sklearn.datasets import load_digits

    originals = {image.tobytes() for image in (load_digits().images / 8.0 - 1.0).astype(np.float32)}
    images, _ = input_pipelines.load_arrays(DataConfig(split="test"), 8, num_classes=10)
    assert all(image.tobytes() in originals for image in images[..., 0])


def test_splits_of_digits_are_disjoint_stratified_and_cover_them():
    parts = [bundled_sources.load_digits(split, 8) for split in ("train", "test")]
    first, second = ({image.tobytes() for image in images} for images, _ in parts)
    assert len(first) == 1437 and len(second) == 360 and not first & second
    train, test = (np.bincount(labels) for _, labels in parts)
    np.testing.assert_allclose(test / (train + test), 0.2, atol=0.01)


def test_digits_keep_their_labels():
    images, labels = bundled_sources.load_digits("test", 8)
    label_of = {image.tobytes(): label for image, label in zip(images, labels)}
    dataset = input_pipelines.training_dataset(ONE, DataConfig(split="test", global_batch_size=16), 8, seed=1)
    batch = next(iter(dataset))
    assert [label_of[image.tobytes()] for image in batch["image"].numpy()] == list(batch["label"].numpy())


def test_folder_is_searched_in_depth_by_sorted_classes_without_hidden_files(tmp_path):
    for name in (
        "b/2.png",
        "b/deep/er/1.jpeg",
        "a/x.WEBP",
        ".hidden/no.png",
        "a/.no.png",
        "a/.no/no.png",
        "a/notes.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    source = input_pipelines.open_source(DataConfig("folder", path=str(tmp_path), split="."), 8, num_classes=2)
    assert source.class_names == ("a", "b")
    names = [source.name_of(tf.constant(i)).numpy().decode() for i in range(source.num_images)]
    assert names == [f"{tmp_path}/{name}" for name in ("a/x.WEBP", "b/2.png", "b/deep/er/1.jpeg")]


def test_folder_without_classes_gives_every_image_below_it(tmp_path):
    write_folder(tmp_path / "photos", 2, 3)
    (tmp_path / "photos" / "one.png").write_bytes(of_colour(248))
    images, labels = input_pipelines.load_arrays(DataConfig("folder", path=str(tmp_path), split="photos"), 4)
    assert len(images) == 6 and not labels.any()


def test_data_set_of_tfds_by_name_resumes(mirrored):
    data = DataConfig("tfds", "cifar10", global_batch_size=4, random_flip=True)
    with tfds.testing.mock_data(num_examples=9):

        def take(count, start=0):
            dataset = input_pipelines.training_dataset(mirrored, data, 32, 1, start, num_classes=10)
            found = [mirrored.experimental_local_results(b["image"]) for b in itertools.islice(dataset, count)]
            return np.array([np.concatenate(parts) for parts in found])

        unbroken = take(5)
        assert unbroken.shape == (5, 4, 32, 32, 3) and np.abs(unbroken).max() <= 1.0
        assert len({image.tobytes() for image in np.concatenate(unbroken)[:9]}) == 9
        np.testing.assert_array_equal(take(2, start=3), unbroken[3:])


@pytest.mark.parametrize("name, side", [("imagenet2012", 32), ("imagenet_resized/64x64", 64)])
def test_data_sets_of_tfds_are_known_by_name(name, side):
    data = DataConfig("tfds", name, global_batch_size=4)
    with tfds.testing.mock_data(num_examples=9):
        source = input_pipelines.check(ONE, data, side, num_classes=1000, validation_data=data)
        assert source.num_images == 9 and source.num_classes == 1000 and len(set(source.class_names)) == 1000
        images, labels = input_pipelines.load_arrays(data, side, num_classes=1000)
        assert images.shape == (9, side, side, 3) and labels.max() < 1000


def test_files_of_another_split_are_left_alone(tmp_path):
    for name, value in (("train-00000-of-00001", 8), ("train2-00000-of-00001", 16), ("val-00000-of-00001", 24)):
        write_records(tmp_path / name, [of_colour(value)], [0])
    images, _ = input_pipelines.load_arrays(DataConfig("tfrecord", path=str(tmp_path)), 4)
    np.testing.assert_array_equal(numbers_of(images), [1])


# Faults that are found before anything starts.


def test_batch_that_does_not_divide_is_an_error(mirrored):
    with pytest.raises(ValueError, match="must divide by the 2 replicas. Received: 5"):
        input_pipelines.check(mirrored, DataConfig(global_batch_size=5), 8)


def test_batch_that_exceeds_the_data_is_an_error(numbered):
    data = dataclasses.replace(numbered, global_batch_size=13)
    for call in (lambda: input_pipelines.check(ONE, data, 4), lambda: batches(data, 1, size=13)):
        with pytest.raises(ValueError, match="must not exceed the 12 images of .*'train'. Received: 13"):
            call()


@pytest.mark.parametrize("num_classes", [1, 4])
def test_another_number_of_classes_is_an_error(tmp_path, tfds_dir, num_classes):
    write_folder(tmp_path, 1, 1, 1)
    for data in (DataConfig("folder", path=str(tmp_path), split="."), DataConfig("tfds", "flat", tfds_dir)):
        with pytest.raises(ValueError, match=rf"num_classes.*3 \((class0|a), .*\). Received: {num_classes}"):
            input_pipelines.open_source(data, 4, num_classes)


def test_validation_data_of_other_classes_are_an_error(tmp_path):
    write_folder(tmp_path / "train", 1, 1)
    write_folder(tmp_path / "test", 1, 1)
    (tmp_path / "test" / "class1").rename(tmp_path / "test" / "other")
    train, test = (DataConfig("folder", path=str(tmp_path), split=s, global_batch_size=1) for s in ("train", "test"))
    input_pipelines.check(ONE, train, 4, num_classes=2, validation_data=train)
    with pytest.raises(ValueError, match="same classes.*class0, class1.*class0, other"):
        input_pipelines.check(ONE, train, 4, num_classes=2, validation_data=test)


def test_missing_folder_names_it_and_what_there_is(tmp_path):
    write_folder(tmp_path / "train", 1)
    for path, split, there in (("", "test", "train"), ("nowhere", "test", "train")):
        with pytest.raises(ValueError, match=f"{tmp_path}.*{split}.*{tmp_path} there are: {there}"):
            input_pipelines.open_source(DataConfig("folder", path=str(tmp_path / path), split=split), 4, 2)


def test_folder_without_class_or_image_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=f"folder for each class: {tmp_path} holds none"):
        input_pipelines.open_source(DataConfig("folder", path=str(tmp_path), split="."), 4, 2)
    with pytest.raises(ValueError, match="holds no image"):
        input_pipelines.open_source(DataConfig("folder", path=str(tmp_path), split="."), 4)


def test_empty_class_is_an_error_or_is_logged(tmp_path, caplog):
    write_folder(tmp_path, 2, 0, 1)
    data = DataConfig("folder", path=str(tmp_path), split=".")
    with pytest.raises(ValueError, match=f"{tmp_path}/class1 holds no image"):
        input_pipelines.open_source(data, 4, 3)
    data.skip_corrupt = True
    with caplog.at_level(logging.WARNING, logger="absl"):
        _, labels = input_pipelines.load_arrays(data, 4, num_classes=3)
    assert f"{tmp_path}/class1 holds no image" in caplog.text and "class 1 stays empty" in caplog.text
    np.testing.assert_array_equal(labels, [0, 0, 2])


def test_missing_tfrecord_split_names_it_and_what_there_is(tmp_path):
    write_records(tmp_path / "train-00000-of-00001", [of_colour(0)], [0])
    with pytest.raises(ValueError, match=rf"no file {tmp_path}/test-\*.*there are: train-00000-of-00001"):
        input_pipelines.open_source(DataConfig("tfrecord", path=str(tmp_path), split="test"), 4, 2)


def test_tfrecord_that_is_cut_off_is_an_error(tmp_path):
    path = write_records(tmp_path / "train-00000-of-00001", [of_colour(0)] * 3, [0] * 3)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=f"record 2 of {path}.*cut off"):
        input_pipelines.open_source(DataConfig("tfrecord", path=str(tmp_path)), 4, 2)
    write_records(path, [], [])
    with pytest.raises(ValueError, match="hold no record"):
        input_pipelines.open_source(DataConfig("tfrecord", path=str(tmp_path)), 4, 2)


def test_missing_split_of_tfds_names_those_there_are(tfds_dir):
    with pytest.raises(ValueError, match=r"\['test', 'train'\].*'validation'"):
        input_pipelines.open_source(DataConfig("tfds", "flat", tfds_dir, "validation"), 4, 3)


def test_unknown_data_set_of_tfds_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=f"'flatt' in {tmp_path}"):
        input_pipelines.open_source(DataConfig("tfds", "flatt", str(tmp_path)), 4, 3)


def test_data_set_of_tfds_without_images_and_labels_is_an_error():
    with tfds.testing.mock_data(num_examples=3), pytest.raises(ValueError, match="images with labels.*text"):
        input_pipelines.open_source(DataConfig("tfds", "imdb_reviews"), 4, 2)


# Faults of single images.


CUT_JPEG = pytest.mark.parametrize("corrupt", ["cut.jpg"], indirect=True)


@pytest.fixture(params=["cut.jpg", "empty.png", "text.png", "cut.webp"])
def corrupt(request, tmp_path):
    """A folder of seven good images and one that is none, and the path of that one."""
    write_folder(tmp_path / "train", 3, 4)
    path = tmp_path / "train" / "class1" / request.param
    kind = {"cut.jpg": "JPEG", "cut.webp": "WEBP"}.get(request.param)
    content = encoded(RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8), kind) if kind else b"no image at all"
    path.write_bytes(b"" if request.param == "empty.png" else content[: len(content) // 2])
    return DataConfig("folder", path=str(tmp_path), global_batch_size=4), path


def test_corrupt_image_names_its_file(corrupt):
    data, path = corrupt
    with pytest.raises(ValueError, match=f"{path} cannot be read and decoded.*task.train_data.skip_corrupt"):
        input_pipelines.load_arrays(data, 4, num_classes=2)


@CUT_JPEG
def test_corrupt_image_stops_training_by_its_name(corrupt):
    data, path = corrupt
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{path} cannot be read and decoded"):
        batches(data, 2)


@CUT_JPEG
def test_corrupt_image_is_skipped_counted_and_logged_where_wanted(corrupt, caplog):
    data, path = corrupt
    data.skip_corrupt = True
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = batches(data, 6)  # three epochs
    assert [re.sub(".*Left out", "Left out", r.getMessage()) for r in caplog.records] == [
        f"Left out, 1 so far: {path} cannot be read and decoded as {', '.join(picture_files.formats())}."
    ]
    for epoch in found.reshape(3, 8):
        assert set(epoch) == set(range(7))
    np.testing.assert_array_equal(batches(data, 3, start_batch=3), found[3:])
    images, labels = input_pipelines.load_arrays(data, 4, num_classes=2)
    np.testing.assert_array_equal(numbers_of(images), range(7))
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1, 1])


@CUT_JPEG
def test_batch_without_any_good_image_is_an_error(corrupt):
    data, path = corrupt
    data.skip_corrupt = True
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"must hold an image.*Received none: {path}"):
        batches(data, 8, size=1)


def test_image_that_is_gone_names_its_file(tmp_path):
    write_folder(tmp_path / "train", 3)
    data = DataConfig("folder", path=str(tmp_path))
    input_pipelines.open_source(data, 4, 1)
    (tmp_path / "train" / "class0" / "001.png").unlink()
    with pytest.raises(ValueError, match=f"{tmp_path}/train/class0/001.png cannot be read"):
        input_pipelines.load_arrays(data, 4, num_classes=1)


@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range_names_record_and_file(tmp_path, label, caplog):
    path = write_records(tmp_path / "train-00000-of-00001", [of_colour(8 * i) for i in range(4)], [0, 2, label, 1])
    data = DataConfig("tfrecord", path=str(tmp_path), global_batch_size=4)
    message = rf"record 2 of {path} has the label {label}, which is not in \[0, 3\)"
    with pytest.raises(ValueError, match=message):
        input_pipelines.load_arrays(data, 4, num_classes=3)
    data.skip_corrupt = True
    with caplog.at_level(logging.WARNING, logger="absl"):
        _, labels = input_pipelines.load_arrays(data, 4, num_classes=3)
    np.testing.assert_array_equal(labels, [0, 2, 1])
    assert "1 so far" in caplog.text


def test_corrupt_record_names_record_and_file(tmp_path):
    path = write_records(tmp_path / "train-00000-of-00001", [of_colour(8), b"no image", of_colour(16)], [0, 1, 2])
    data = DataConfig("tfrecord", path=str(tmp_path))
    with pytest.raises(ValueError, match=f"record 1 of {path} cannot be read and decoded"):
        input_pipelines.load_arrays(data, 4, num_classes=3)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"no example")
    with pytest.raises(ValueError, match=f"record 0 of {path} cannot be read and decoded"):
        input_pipelines.load_arrays(data, 4, num_classes=3)


def test_corrupt_record_of_tfds_names_the_set_and_the_record():
    message = "record cifar10 train__1 cannot be read and decoded"
    mocked = tfds.testing.mock_data(num_examples=3, as_dataset_fn=_unreadable)
    with mocked, pytest.raises(ValueError, match=message):
        input_pipelines.load_arrays(DataConfig("tfds", "cifar10"), 4, num_classes=10)


def _unreadable(builder, split, **unused):
    images = [of_colour(8), b"no image", of_colour(16)]
    names = [f"{split}__{number}" for number in range(3)]
    return tf.data.Dataset.from_tensor_slices({"image": images, "label": [0, 1, 2], "tfds_id": names})


@CUT_JPEG
def test_cache_reports_corrupt_images_too(corrupt, caplog):
    data, path = corrupt
    data.cache = True
    with pytest.raises(ValueError, match=f"{path} cannot be read and decoded"):
        batches(data, 1)
    data.skip_corrupt = True
    assert set(batches(data, 7).flatten()[:7]) == set(range(7))


def test_photographs_are_apart_and_give_squares():
    train, test = bundled_sources.load_photos("train", 64), bundled_sources.load_photos("test", 64)
    assert train.shape[1:] == (256, 256, 3) and test.shape == (6 * 16, 64, 64, 3)
    assert train.dtype == test.dtype == np.uint8
    assert not set(bundled_sources.photo_paths("train")) & set(bundled_sources.photo_paths("test"))
    assert len(bundled_sources.photo_paths("train")) == 14


def test_random_crops_are_parts_of_the_photographs_and_follow_the_seed():
    data = DataConfig("photos", global_batch_size=4, random_crop=True)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")

    def crops(seed, start=0, number=3):
        iterator = iter(input_pipelines.training_dataset(strategy, data, 16, seed, start))
        return np.concatenate([next(iterator)["image"].numpy() for _ in range(number)])

    first = crops(1)
    np.testing.assert_array_equal(crops(1, start=1, number=2), first[4:])
    assert not np.array_equal(crops(2), first)
    squares = bundled_sources.load_photos("train", 16)
    places = set()
    for crop in np.round((first + 1) * 127.5).astype(np.uint8):
        windows = np.lib.stride_tricks.sliding_window_view(squares[..., 0], (16, 16), axis=(1, 2))
        found = np.argwhere((windows[:, :, :, ::5, ::5] == crop[::5, ::5, 0]).all(axis=(-1, -2)))
        assert len(found)
        places.add(tuple(found[0][1:]))
    assert len(places) > 8


def test_random_crop_moves_along_the_longer_side_of_a_file():
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None], (8, 40, 3))
    middle = image_batches.crop_square(ramp, 8).numpy()
    first, last = (image_batches.crop_square(ramp, 8, tf.constant([0.5, place, 1.0])).numpy() for place in (0.0, 0.999))
    assert [crop[0, 0, 0] for crop in (middle, first, last)] == [16, 0, 32]


def places(height=200, width=250):
    """A picture whose red tells the row of a pixel, and whose green its column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def squares_of(images):
    """Top, left and side of the squares that were cut out of `places`, from 16 x 16 images in [-1, 1]: `(batch, 3)`."""
    levels = (np.asarray(images) + 1) * 127.5
    # Between the middles of the second and the last but one pixel, where the filter meets no edge, lie 13 of 16.
    side = (levels[:, 2:-2, 2:-2, 0].max(axis=(1, 2)) - levels[:, 2:-2, 2:-2, 0].min(axis=(1, 2))) * 16 / 11
    top, left = (levels[:, 2:-2, 2:-2, axis].mean(axis=(1, 2)) + 0.5 - side / 2 for axis in (0, 1))
    return np.stack([top, left, side], axis=1)


@pytest.fixture(scope="module", params=["folder", "cache", "tfrecord", "photos"])
def cut_anywhere(request, tmp_path_factory):
    """Squares of 4 % to 81 % of the largest one's area, of a picture that tells its places."""
    folder = tmp_path_factory.mktemp(request.param)
    data = {"path": str(folder), "global_batch_size": 4, "random_crop": True, "random_crop_area": [0.04, 0.81]}
    if request.param == "photos":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bundled_sources, "load_photos", lambda *_: np.stack([places()] * 4))
            yield DataConfig("photos", **data)
        return
    if request.param == "tfrecord":
        write_records(folder / "train-00000-of-00001", [encoded(places())] * 4, range(4))
    else:
        (folder / "train").mkdir()
        for number in range(4):
            (folder / "train" / f"{number}.png").write_bytes(encoded(places()))
    yield DataConfig("tfrecord" if request.param == "tfrecord" else "folder", cache=request.param == "cache", **data)


def cut(data, count, seed=1, start=0):
    dataset = input_pipelines.training_dataset(ONE, data, 16, seed, start)
    return np.concatenate([batch["image"].numpy() for batch in itertools.islice(dataset, count)])


def test_areas_of_random_squares_are_uniform_and_so_are_their_places(cut_anywhere):
    found = squares_of(cut(cut_anywhere, 100))
    top, left, side = found.T
    assert side.min() > 39 and side.max() < 181
    for values in (
        ((side / 200) ** 2 - 0.04) / 0.77,
        top / np.maximum(200 - side, 1),
        left / (250 - side),
    ):
        # Kolmogorov and Smirnov's distance of 400 draws: above 0.1 once in a thousand times.
        distance = np.abs(np.sort(values) - (np.arange(400) + 0.5) / 400).max()
        assert distance < 0.1, (distance, values.min(), values.max())


def test_random_squares_follow_the_seed_and_go_on_where_they_were(cut_anywhere):
    first = cut(cut_anywhere, 3)
    np.testing.assert_array_equal(cut(cut_anywhere, 2, start=1), first[4:])
    assert not np.array_equal(cut(cut_anywhere, 3, seed=2), first)


def test_workers_together_cut_what_one_alone_would(tmp_path):
    (tmp_path / "train").mkdir()
    for number in range(4):
        (tmp_path / "train" / f"{number}.png").write_bytes(encoded(places()))
    data = DataConfig(
        "folder", path=str(tmp_path), global_batch_size=4, random_crop=True, random_crop_area=[0.1, 1.0], cache=True
    )
    parts = [input_pipelines.training_dataset(Workers(number, 2), data, 16, 1) for number in (0, 1)]
    found = np.concatenate([next(iter(part))["image"].numpy() for part in parts])
    np.testing.assert_array_equal(found, cut(data, 1))


def test_cached_pictures_are_decoded_once_and_whole(tmp_path, monkeypatch):
    """They are cut at other places in each epoch, after the files are gone."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0.png").write_bytes(encoded(places()))
    (tmp_path / "train" / "1.png").write_bytes(encoded(places(64, 48)))
    data = DataConfig("folder", path=str(tmp_path), global_batch_size=2, random_crop=True, cache=True)
    dataset = input_pipelines.training_dataset(ONE, data, 16, 1)
    for path in (tmp_path / "train").iterdir():
        path.unlink()
    epochs = np.stack([batch["image"].numpy() for batch in itertools.islice(dataset, 20)])
    found = squares_of(epochs.reshape(-1, 16, 16, 3))
    sides = np.sort(found[:, 2].reshape(20, 2), axis=1)
    np.testing.assert_allclose(sides, np.broadcast_to([48, 200], (20, 2)), atol=1.5)
    assert len(np.unique(np.round(found[found[:, 2] > 100, 1]))) > 10


@CUT_JPEG
def test_cached_pictures_report_corrupt_ones_too(corrupt, caplog):
    data, path = corrupt
    data = dataclasses.replace(data, cache=True, random_crop=True, skip_corrupt=False)
    with pytest.raises(ValueError, match=f"{path} cannot be read and decoded"):
        batches(data, 1)
    data.skip_corrupt = True
    assert set(batches(data, 7).flatten()[:7]) == set(range(7))


def test_random_areas_of_the_photographs_are_cut_and_resized():
    data = DataConfig("photos", global_batch_size=4, random_crop=True)
    whole, parts = cut(data, 2), cut(dataclasses.replace(data, random_crop_area=[0.25, 1.0]), 2)
    assert parts.shape == whole.shape and not np.array_equal(parts, whole)
    # A square of 16 pixels is a small part of 256; one of 128 to 256, resized to 16, is rougher.
    assert np.abs(np.diff(parts, axis=2)).mean() > 1.5 * np.abs(np.diff(whole, axis=2)).mean()
