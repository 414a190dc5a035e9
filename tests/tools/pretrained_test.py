"""The weights that come along: they fill holes in photographs that they never saw, without seams, and draw classes."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from gan_test_case import call_main, imported_main
from keras_an import layers
from tools.exported import folders
from trainers.configs import networks
from trainers.evaluation import fills

FOLDERS = {name: pathlib.Path(folders.PRETRAINED) / name for name in (folders.INPAINTING, folders.GENERATION)}
MOST_BYTES = {folders.INPAINTING: 8_000_000, folders.GENERATION: 6_000_000}


@pytest.fixture(scope="module")
def fill():
    return tf.saved_model.load(folders.pretrained(folders.INPAINTING)).signatures["raw"]


def photograph(size):
    """Of an astronaut, the middle of scikit-image's `astronaut`."""
    from skimage import data

    return np.asarray(Image.fromarray(data.astronaut()[40:296, 90:346]).resize((size, size), Image.Resampling.BICUBIC))


def holes(size):
    """A box, a bar and a corner."""
    mask, unit = np.zeros((size, size, 1), np.uint8), size // 32
    mask[6 * unit : 12 * unit, 5 * unit : 18 * unit] = 1
    mask[20 * unit : 22 * unit, 3 * unit : 30 * unit] = 1
    mask[26 * unit :, 27 * unit :] = 1
    return mask


def step_at_the_edge(picture, mask):
    """The mean difference of neighbours of which one is missing."""
    steps = [
        np.abs(np.diff(picture, axis=axis)).mean(axis=-1)[np.diff(mask[..., 0].astype(int), axis=axis) != 0]
        for axis in (0, 1)
    ]
    return np.concatenate(steps).mean()


@pytest.mark.parametrize("name", FOLDERS)
def test_the_folder_is_small_and_has_a_card(name):
    files = [path for path in FOLDERS[name].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES[name]
    card = (FOLDERS[name] / "README.md").read_text(encoding="utf-8")
    assert "@" not in card  # as where a figure is to come
    assert all(word in card for word in ("## Data", "## Training", "## Scores", "## Limits", "## Licence"))


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_holes_are_filled_better_than_by_opencv_or_smoothly_and_without_seams(fill, size):
    levels, mask = photograph(size), holes(size)
    image = levels[None] / np.float32(127.5) - 1
    found = fill(image=tf.constant(levels[None]), mask=tf.constant(mask[None]))["completed"].numpy()
    np.testing.assert_allclose(found * (1 - mask), image * (1 - mask), atol=1e-6)
    hole = np.broadcast_to(mask, found.shape) > 0
    telea = fills.available()["telea"](image, mask[None].astype(np.float32))
    smooth = layers.DiffusionFill()([image, mask[None]]).numpy()
    error, of_telea, of_smooth = (np.abs(one - image)[hole].mean() for one in (found, telea, smooth))
    assert error < of_telea and error < of_smooth  # which it starts from
    original, completed = (step_at_the_edge(one[0], mask) for one in (image, found))
    assert completed < 1.5 * original


def test_the_weights_can_be_trained_further(fill):
    network = networks.read_file(folders.pretrained(folders.INPAINTING))
    levels, mask = photograph(64)[None], holes(64)[None]
    found = network([levels / np.float32(127.5) - 1, mask.astype(np.float32)], training=False)
    expected = fill(image=tf.constant(levels), mask=tf.constant(mask))
    np.testing.assert_allclose(found["completed"], expected["completed"], atol=1e-5)
    assert len(network.trainable_weights) > 80


def test_the_generator_draws_its_classes_by_name_with_layouts(tmp_path):
    call_main("tools.sample", output_dir=tmp_path, num=100, labels="ship,frog", layouts=True)
    mean = {}
    for label, name in ((8, "ship"), (6, "frog")):
        pictures = [np.asarray(Image.open(path)) for path in sorted(tmp_path.glob(f"*_label{label}.png"))]
        assert len(pictures) == 50 and pictures[0].shape == (32, 32, 3)
        mean[name] = np.mean(pictures, axis=(0, 1, 2))
        assert np.std(pictures, axis=0).mean() > 20.0  # levels; a generator of one picture has none
    # Sea and sky are bluer than red; what frogs sit on is not.
    assert mean["ship"][2] - mean["ship"][0] > 5.0 > mean["frog"][2] - mean["frog"][0]
    assert len(list(tmp_path.glob("*_layouts.png"))) == 100


def test_the_playground_takes_both(parsed_flags):
    with imported_main("tools.playground") as module:
        tabs = module.load_tabs(module.shipped())
    assert set(tabs) == {"inpainting", "gan"}
    assert folders.metadata_of(folders.pretrained(folders.GENERATION))["class_names"][3] == "cat"
