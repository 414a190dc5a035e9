"""Sampling: what the SavedModel says for latents known by their number, as files, grids and strips; and refusals.

The file is long because all tests share one exported generator.
"""

import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import call_main, contents, exported_run
from tools import program
from tools.exported import folders

CLASSES = 5
GAP = 2
# A level of a picture in units of the latents that `write_generator` shows.
LEVEL = 8 / 127.5


def write_generator(path, layouts=True, num_classes=CLASSES):
    """Writes an export that shows its latents, an eighth of each, and gives each class an entity of its own."""

    def serve(z, label):
        return {"images": tf.reshape(z, (-1, 4, 4, 1)) / 8.0}

    def serve_layouts(z, label):
        return {**serve(z, label), "layouts": tf.tile(tf.one_hot(label, CLASSES)[:, None, None], (1, 2, 2, 1))}

    inputs = [tf.TensorSpec((None, 16), tf.float32, "z"), tf.TensorSpec((None,), tf.int32, "label")]
    functions = {"serving_default": serve, **({"layouts": serve_layouts} if layouts else {})}
    signatures = {name: tf.function(call, inputs).get_concrete_function() for name, call in functions.items()}
    tf.saved_model.save(tf.Module(), str(path), signatures=signatures)
    (path / "keras_an_export.json").write_text(json.dumps({"num_classes": num_classes}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("generator") / "saved_model")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exported_run(tmp_path_factory)


def sample(saved_model, output_dir, **flag_values):
    """Runs the tool and returns its pictures by name, uint8 (height, width, 3)."""
    call_main("tools.sample", saved_model=saved_model, output_dir=output_dir, **flag_values)
    files = sorted(pathlib.Path(output_dir).iterdir())
    return {path.name: tf.io.decode_png(path.read_bytes()).numpy() for path in files}


def refusal(caplog, saved_model, output_dir, **flag_values):
    """What the tool says where it ends with 2."""
    with pytest.raises(SystemExit) as caught:
        sample(saved_model, output_dir, **flag_values)
    assert caught.value.code == 2
    (message,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
    assert "\n" not in message
    return message


def latent(index, seed=0, latent_dim=16):
    return tf.random.stateless_normal((latent_dim,), tf.constant([seed, index], tf.int64), alg="philox").numpy()


def test_without_a_saved_model_the_weights_of_the_project_are_taken(generator, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(folders, "PRETRAINED", str(tmp_path))
    message = refusal(caplog, "", tmp_path / "out", num=2)
    assert f"{tmp_path}/gan_cifar10/saved_model holds none: get that folder back" in message
    shutil.copytree(generator, tmp_path / "gan_cifar10" / "saved_model")
    found, wanted = sample("", tmp_path / "out", num=2), sample(generator, tmp_path / "other", num=2)
    assert set(found) == set(wanted) and len(found) == 2
    for name, picture in wanted.items():
        np.testing.assert_array_equal(found[name], picture)


def shown(picture):
    """The latent in a picture of `write_generator`'s."""
    return (picture[..., 0].ravel() / 127.5 - 1.0) * 8.0


def tiles_of(grid, height, width, gap=GAP):
    """The tiles of a grid, (rows, columns, height, width, 3), after a look at the white between them."""
    rows, columns = (grid.shape[0] + gap) // (height + gap), (grid.shape[1] + gap) // (width + gap)
    padded = np.full((rows * (height + gap), columns * (width + gap), 3), 255, np.uint8)
    padded[: grid.shape[0], : grid.shape[1]] = grid
    cells = padded.reshape(rows, height + gap, columns, width + gap, 3).swapaxes(1, 2)
    assert (cells[:, :, height:] == 255).all() and (cells[:, :, :, width:] == 255).all()
    return cells[:, :, :height, :width]


def test_images_are_what_the_saved_model_says_for_the_latents_of_their_number(exported, tmp_path):
    pictures = sample(exported, tmp_path / "out", labels="7,2", num=5, seed=3, batch_size=2)
    labels = [7, 2, 7, 2, 7]
    assert list(pictures) == [f"{index:05d}_label{label}.png" for index, label in enumerate(labels)]
    serve = tf.saved_model.load(str(exported)).signatures["serving_default"]
    z = tf.stack([latent(index, seed=3, latent_dim=8) for index in range(5)])
    expected = serve(z=z, label=tf.constant(labels))["images"].numpy() * 127.5 + 127.5
    found = np.stack(list(pictures.values()))
    assert found.shape == (5, 8, 8, 3) and found.dtype == np.uint8 and found.std() > 1
    np.testing.assert_allclose(found, expected.repeat(3, axis=-1), atol=0.51)


@pytest.mark.parametrize("flag_values", [{"num": 7, "batch_size": 3}, {"num": 9, "batch_size": 1}, {"num": 20}])
def test_batch_size_and_number_leave_an_image_as_it_is(exported, tmp_path, flag_values):
    first = sample(exported, tmp_path / "first", num=7, labels="1,2,3")
    second = sample(exported, tmp_path / "second", labels="1,2,3", **flag_values)
    assert set(first) <= set(second) and len(second) == flag_values["num"]
    for name, picture in first.items():
        # Sums of another batch size may round otherwise.
        np.testing.assert_allclose(second[name].astype(int), picture.astype(int), atol=1)


def test_same_command_writes_the_same_files(exported, tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        sample(exported, folder, num=4, grid=True, interpolate=True, layouts=True, labels="0,1")
    first, second = ([data for _, data in contents(folder).items()] for folder in folders)
    assert first == second and len(first) == 4 + 4 + 3


def test_seeds_give_other_images(generator, tmp_path):
    first, second = (sample(generator, tmp_path / str(seed), num=3, seed=seed) for seed in (0, 1))
    assert not any(np.array_equal(first[name], second[name]) for name in first)


def test_seeds_of_64_bits_are_taken(generator, tmp_path):
    large = sample(generator, tmp_path / "large", num=1, seed=2**40 + 1)
    small = sample(generator, tmp_path / "small", num=1, seed=1)
    assert not np.array_equal(*large.values(), *small.values())


def test_all_classes_in_turn_by_default(generator, tmp_path):
    pictures = sample(generator, tmp_path / "out")
    assert list(pictures) == [f"{index:05d}_label{index % CLASSES}.png" for index in range(64)]


def test_latents_are_normal_by_default(generator, tmp_path):
    pictures = sample(generator, tmp_path / "out", num=100)
    found = np.stack([shown(picture) for picture in pictures.values()])
    np.testing.assert_allclose(found, [latent(index) for index in range(100)], atol=LEVEL)
    assert np.abs(found).max() > 2.5


@pytest.mark.parametrize("truncation", [0.5, 0.9, 2.0])
def test_truncation_cuts_at_two_and_scales(generator, tmp_path, truncation):
    pictures = sample(generator, tmp_path / "out", num=100, truncation=truncation)
    found = np.stack([shown(picture) for picture in pictures.values()])
    assert 1.8 * truncation < np.abs(found).max() <= 2.0 * truncation + LEVEL
    # The deviation of a normal distribution without what lies beyond 2.
    assert found.std() == pytest.approx(0.88 * truncation, rel=0.05)


@pytest.mark.parametrize(
    "num, labels, rows, columns",
    [(64, "0,3,4", 8, 9), (64, "2", 8, 8), (10, "0,1,2,3,4", 2, 5), (3, "0,1,2,3,4", 2, 2), (1, "4", 1, 1)],
)
def test_grid_holds_the_images_in_order(generator, tmp_path, num, labels, rows, columns):
    pictures = sample(generator, tmp_path / "out", num=num, labels=labels, grid=True, batch_size=7)
    tiles = tiles_of(pictures.pop("grid.png"), 4, 4)
    assert tiles.shape[:2] == (rows, columns) and len(pictures) == num
    tiles = tiles.reshape(-1, 4, 4, 3)
    np.testing.assert_array_equal(tiles[:num], np.stack(list(pictures.values())))
    assert (tiles[num:] == 255).all()


@pytest.mark.slow
def test_grid_of_many_images_holds_the_first(generator, tmp_path):
    pictures = sample(generator, tmp_path / "out", num=1030, labels="0", grid=True, batch_size=500)
    tiles = tiles_of(pictures.pop("grid.png"), 4, 4)
    assert tiles.shape[:2] == (32, 32) and len(pictures) == 1030
    np.testing.assert_array_equal(tiles[-1, -1], pictures["01023_label0.png"])


def test_interpolation_is_an_arc_between_the_first_two_images_of_each_label(generator, tmp_path):
    pictures = sample(generator, tmp_path / "out", num=4, labels="4,1", interpolate=True, steps=5, batch_size=3)
    tiles = tiles_of(pictures["interpolation.png"], 4, 4)
    assert tiles.shape[:2] == (2, 5)
    for row, (first, last, label) in enumerate([(0, 2, 4), (1, 3, 1)]):
        np.testing.assert_array_equal(tiles[row, 0], pictures[f"{first:05d}_label{label}.png"])
        np.testing.assert_array_equal(tiles[row, -1], pictures[f"{last:05d}_label{label}.png"])
        ends = latent(first), latent(last)
        angle = np.arccos(ends[0] @ ends[1] / np.linalg.norm(ends[0]) / np.linalg.norm(ends[1]))
        middle = (ends[0] + ends[1]) / (2 * np.cos(angle / 2))
        np.testing.assert_allclose(shown(tiles[row, 2]), middle, atol=LEVEL)


def test_interpolation_of_the_same_ends_is_constant_and_of_opposite_ends_is_straight(generator, tmp_path):
    sample(generator, tmp_path / "out", num=1)
    interpolated = sys.modules["tools.sample"].interpolated
    z = latent(0)
    np.testing.assert_allclose(interpolated(z, z, 3), [z, z, z], atol=1e-6)
    np.testing.assert_allclose(interpolated(z, -z, 3), [z, 0 * z, -z], atol=1e-6)
    np.testing.assert_array_equal(interpolated(0 * z, 0 * z, 2), np.zeros((2, 16)))


def test_interpolation_shows_the_label_of_its_row(exported, tmp_path):
    pictures = sample(exported, tmp_path / "out", num=4, labels="4,1", interpolate=True, steps=3)
    tiles = tiles_of(pictures["interpolation.png"], 8, 8).astype(int)
    np.testing.assert_allclose(tiles[0, 0], pictures["00000_label4.png"], atol=1)
    np.testing.assert_allclose(tiles[1, 2], pictures["00003_label1.png"], atol=1)


def test_layouts_lie_beside_their_images(generator, tmp_path):
    pictures = sample(generator, tmp_path / "out", num=3, labels="0,4", layouts=True, grid=True)
    images = ["00000_label0.png", "00001_label4.png", "00002_label0.png"]
    rows = tiles_of(pictures["layouts.png"], 4, (CLASSES + 2) * (4 + GAP) - GAP)[:, 0]
    assert len(pictures) == 3 + 3 + 2 and len(rows) == 3
    for name, row in zip(images, rows):
        np.testing.assert_array_equal(pictures[name.replace(".png", "_layouts.png")], row)
        image, winner, *heat_maps = tiles_of(row, 4, 4)[0]
        np.testing.assert_array_equal(image, pictures[name])
        assert len(np.unique(winner.reshape(-1, 3), axis=0)) == 1
        assert [int(heat.min()) for heat in heat_maps] == [255 * (f"label{i}" in name) for i in range(CLASSES)]


def test_layouts_of_a_trained_generator(exported, tmp_path):
    pictures = sample(exported, tmp_path / "out", num=2, layouts=True)
    assert list(pictures) == [f"0000{i}_label{i}{suffix}.png" for i in range(2) for suffix in ("", "_layouts")]
    assert pictures["00001_label1_layouts.png"].shape == (8, 5 * (8 + GAP) - GAP, 3)


def test_files_of_other_names_stay_where_overwriting_is_asked_for(generator, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    call_main("tools.sample", saved_model=generator, output_dir=tmp_path, num=1, overwrite=True)
    before = contents(tmp_path)
    call_main("tools.sample", saved_model=generator, output_dir=tmp_path, num=1, overwrite=True, seed=1)
    after = contents(tmp_path)
    assert set(before) == set(after) == {str(tmp_path / "thesis.txt"), str(tmp_path / "00000_label0.png")}
    assert after[str(tmp_path / "thesis.txt")] == b"years of work"
    assert after[str(tmp_path / "00000_label0.png")] != before[str(tmp_path / "00000_label0.png")]


def test_folder_that_is_not_empty_is_refused_and_untouched(generator, tmp_path, caplog):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert f"--output_dir={tmp_path} is not empty" in refusal(caplog, generator, tmp_path)
    assert contents(tmp_path) == {str(tmp_path / "thesis.txt"): b"years of work"}


@pytest.mark.parametrize("below", ["", "out"])
def test_file_in_place_of_the_folder_is_refused(generator, tmp_path, caplog, below):
    (tmp_path / "file").write_text("content", encoding="utf-8")
    path = tmp_path / "file" / below
    assert f"--output_dir={path} cannot be a folder" in refusal(caplog, generator, path, overwrite=True)
    assert contents(tmp_path) == {str(tmp_path / "file"): b"content"}


@pytest.mark.parametrize(
    "flag, value",
    [
        ("num", 0),
        ("num", -3),
        ("batch_size", 0),
        ("steps", 1),
        ("seed", 2**63),
        ("truncation", 0.0),
        ("truncation", -0.5),
        ("truncation", 2.5),
        ("truncation", "nan"),
        ("labels", "5"),
        ("labels", "0,-1"),
        ("labels", "0,three"),
        ("labels", "0,,1"),
        ("labels", "1.0"),
        ("labels", "²"),
        ("labels", ""),
    ],
)
def test_value_out_of_range_is_refused(generator, tmp_path, caplog, flag, value):
    assert f"--{flag}={value}" in refusal(caplog, generator, tmp_path / "out", **{flag: value})
    assert not (tmp_path / "out").exists()


def test_range_of_labels_is_named(generator, tmp_path, caplog):
    assert "'12' in --labels=3, 12" in refusal(caplog, generator, tmp_path / "out", labels="3, 12")
    assert "[0, 5)" in caplog.text


@pytest.mark.parametrize(
    "fault", ["missing", "a file", "no SavedModel", "no metadata", "old metadata", "no JSON", "a list"]
)
def test_what_is_no_export_is_refused(generator, tmp_path, caplog, fault):
    path = tmp_path / "saved_model"
    if fault != "missing":
        shutil.copytree(generator, path)
    if fault == "a file":
        path = path / "saved_model.pb"
    elif fault == "no SavedModel":
        (path / "saved_model.pb").unlink()
    elif fault == "no metadata":
        (path / "keras_an_export.json").unlink()
    elif fault == "old metadata":
        (path / "keras_an_export.json").write_text('{"checkpoint": "ckpt-8"}', encoding="utf-8")
    elif fault == "no JSON":
        (path / "keras_an_export.json").write_text("num_classes", encoding="utf-8")
    elif fault == "a list":
        (path / "keras_an_export.json").write_text("[5]", encoding="utf-8")
    message = refusal(caplog, path, tmp_path / "out")
    expected = {"missing": "is not a folder", "a file": "is not a folder", "no SavedModel": "is no SavedModel"}
    assert f"--saved_model={path} {expected.get(fault, 'has no keras_an_export.json')}" in message
    assert not (tmp_path / "out").exists()


def test_export_of_inpainting_is_referred_to_its_tool(generator, tmp_path, caplog):
    path = tmp_path / "saved_model"
    shutil.copytree(generator, path)
    (path / "keras_an_export.json").write_text('{"application": "inpainting"}', encoding="utf-8")
    assert "fills holes in pictures: use tools.inpaint" in refusal(caplog, path, tmp_path / "out")


@pytest.mark.parametrize("fault", ["damaged", "without variables", "other signature", "no signature"])
def test_saved_model_that_is_no_generator_is_refused(exported, tmp_path, caplog, fault):
    path = tmp_path / "saved_model"
    shutil.copytree(exported, path)
    if fault == "damaged":
        (path / "saved_model.pb").write_bytes((path / "saved_model.pb").read_bytes()[:1000])
    elif fault == "without variables":
        shutil.rmtree(path / "variables")
    else:
        module = tf.Module()
        module.serve = tf.function(lambda x: {"y": x + 1.0}, [tf.TensorSpec((None, 8))])
        signatures = {"other signature": module.serve.get_concrete_function(), "no signature": None}[fault]
        tf.saved_model.save(module, str(path), signatures=signatures)
    assert f"--saved_model={path} does not load as a generator" in refusal(caplog, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layouts_of_a_model_without_are_refused_and_its_images_are_not(tmp_path, caplog):
    path = write_generator(tmp_path / "saved_model", layouts=False)
    assert f"--layouts: --saved_model={path} has none" in refusal(caplog, path, tmp_path / "out", layouts=True)
    assert not (tmp_path / "out").exists()
    assert len(sample(path, tmp_path / "out", num=2)) == 2


def test_bar_on_a_terminal(generator, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    sample(generator, tmp_path / "out", num=6, batch_size=2)
    assert "6/6 [" in capsys.readouterr().err


@pytest.mark.slow
def test_command_needs_neither_the_run_nor_the_networks(exported, tmp_path):
    alone = shutil.copytree(exported, tmp_path / "alone")
    program = """
import sys
from absl import app
from tools import sample

def main(argv):
    sample.main(argv)
    assert not [name for name in sys.modules if name.split(".")[0] == "keras_an"]

app.run(main)
"""
    flag_values = [f"--saved_model={alone}", f"--output_dir={tmp_path / 'out'}", "--num=5", "--batch_size=2"]
    root = pathlib.Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", program, *flag_values], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "2/5 images" in result.stderr and f"Wrote 5 images to {tmp_path / 'out'}" in result.stderr
    assert len(list((tmp_path / "out").iterdir())) == 5


def named(generator, tmp_path, *names):
    """A copy of an export whose classes have names."""
    path = shutil.copytree(generator, tmp_path / "named")
    metadata = json.loads((path / "keras_an_export.json").read_text(encoding="utf-8"))
    (path / "keras_an_export.json").write_text(json.dumps({**metadata, "class_names": names}), encoding="utf-8")
    return path


def test_labels_may_be_names_of_classes(generator, tmp_path):
    path = named(generator, tmp_path, "tea", "cat", "coffee", "0", "black cat")
    by_name = sample(path, tmp_path / "names", labels="coffee, cat,black cat,0,3", num=5)
    assert list(by_name) == [f"{index:05d}_label{label}.png" for index, label in enumerate((2, 1, 4, 0, 3))]
    by_number = sample(path, tmp_path / "numbers", labels="2,1,4,0,3", num=5)
    assert [picture.tobytes() for picture in by_name.values()] == [p.tobytes() for p in by_number.values()]


def test_name_of_no_class_is_refused_with_those_there_are(generator, tmp_path, caplog):
    path = named(generator, tmp_path, "tea", "cat", "coffee", "milk", "water")
    message = refusal(caplog, path, tmp_path / "out", labels="cat,cofee")
    assert "[0, 5) or names of classes, tea, cat, coffee, milk, water, with commas" in message
    assert "Received: 'cofee' in --labels=cat,cofee" in message


def test_tilde_is_the_home_folder_of_a_tool(generator, tmp_path, monkeypatch):
    """No shell puts it there behind a `=`."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(generator, tmp_path / "home" / "model")
    monkeypatch.chdir(tmp_path)
    call_main("tools.sample", saved_model="~/model", output_dir="~/out", num=1)
    assert os.listdir(tmp_path) == ["home"] and os.listdir(tmp_path / "home" / "out") == ["00000_label0.png"]


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_device_is_a_gpu_unless_the_cpu_is_wanted(monkeypatch, device):
    hidden, growing = [], []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda found, kind: hidden.append((found, kind)))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: growing.append((gpu, on)))
    monkeypatch.setattr(program.flags, "FLAGS", types.SimpleNamespace(device=device))
    program.take_device()
    assert (hidden, growing) == (([([], "GPU")], []) if device == "cpu" else ([], [("GPU:0", True)]))
