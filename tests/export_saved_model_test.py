"""The SavedModel: TensorFlow alone runs it, it says what the live model says, and nothing foreign is replaced."""

import json
import logging
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import call_main, contents, exported_run, trained_run
from inpainting_test_case import small_params
from trainers import configs
from trainers.configs import networks

# A program that knows of TensorFlow alone.
CONSUMER = """
import sys

import numpy as np
import tensorflow as tf

serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
results = {}
for size in (1, 3, 8):
    z = tf.random.stateless_normal((size, 8), (1, size))
    label = tf.range(size)
    for turn in ("first", "second"):
        for name, value in serve(z=z, label=label).items():
            results[f"{turn}_{name}_{size}"] = value.numpy()
assert not [name for name in sys.modules if name.split(".")[0] in ("keras_an", "trainers", "tools")]
np.savez(sys.argv[2], **results)
"""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return trained_run(tmp_path_factory)[0]


def export(model_dir, output_dir, **flag_values):
    call_main("tools.export_saved_model", model_dir=model_dir, output_dir=output_dir, **flag_values)


def exit_code_of(*args, **kwargs):
    with pytest.raises(SystemExit) as caught:
        export(*args, **kwargs)
    return caught.value.code


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exported_run(tmp_path_factory)


@pytest.fixture(scope="module")
def consumed(exported, tmp_path_factory):
    """What a program with TensorFlow alone gets from the export."""
    folder = tmp_path_factory.mktemp("consumer")
    (folder / "consumer.py").write_text(CONSUMER, encoding="utf-8")
    command = [sys.executable, "-I", str(folder / "consumer.py"), str(exported), str(folder / "results.npz")]
    subprocess.run(command, check=True, cwd=folder)
    return np.load(folder / "results.npz")


def serve(saved_model, count=6):
    z = tf.random.stateless_normal((count, 8), (1, 2))
    outputs = tf.saved_model.load(str(saved_model)).signatures["serving_default"](z=z, label=tf.range(count))
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 8])
def test_tensorflow_alone_gets_images_and_layouts(consumed, size):
    images, layouts = consumed[f"first_images_{size}"], consumed[f"first_layouts_{size}"]
    assert images.shape == (size, 8, 8, 1) and images.dtype == np.float32
    assert np.abs(images).max() <= 1.0 and images.std() > 0
    assert layouts.shape == (size, 8, 8, 3) and layouts.dtype == np.float32
    assert layouts.min() >= 0.0
    np.testing.assert_allclose(layouts.sum(axis=-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("name", ["images", "layouts"])
def test_same_input_gives_the_same_output(consumed, name, size):
    np.testing.assert_array_equal(consumed[f"first_{name}_{size}"], consumed[f"second_{name}_{size}"])


def test_signature_names_types_and_free_batch(exported):
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in inputs.items()} == {
        "z": ([None, 8], tf.float32),
        "label": ([None], tf.int32),
    }
    assert {name: spec.shape.as_list() for name, spec in signature.structured_outputs.items()} == {
        "images": [None, 8, 8, 1],
        "layouts": [None, 8, 8, 3],
    }


def test_metadata_names_the_checkpoint(exported):
    metadata = json.loads((exported / "keras_an_export.json").read_text(encoding="utf-8"))
    assert pathlib.Path(metadata["checkpoint"]).name == "ckpt-8" and metadata["use_ema"] is True
    assert {name: metadata[name] for name in ("num_classes", "latent_dim", "resolution")} == {
        "num_classes": 10,
        "latent_dim": 8,
        "resolution": 8,
    }
    assert not list(exported.parent.glob("*.partial"))


def test_second_export_is_left_out(exported, model_dir, caplog):
    before = contents(exported)
    with caplog.at_level(logging.INFO, logger="absl"):
        export(model_dir, exported)
    assert f"{exported} already holds ckpt-8" in caplog.text
    assert contents(exported) == before


def test_export_of_an_older_version_gets_the_number_of_classes(exported, model_dir, tmp_path):
    older = shutil.copytree(exported, tmp_path / "saved_model")
    metadata = json.loads((older / "keras_an_export.json").read_text(encoding="utf-8"))
    new = {name: metadata.pop(name) for name in ("num_classes", "latent_dim", "resolution")}
    (older / "keras_an_export.json").write_text(json.dumps(metadata), encoding="utf-8")
    export(model_dir, older)
    assert json.loads((older / "keras_an_export.json").read_text(encoding="utf-8")) == {**metadata, **new}


@pytest.mark.slow
def test_raw_weights_differ_from_the_average_and_take_its_place_where_asked(exported, model_dir, tmp_path):
    replaced = shutil.copytree(exported, tmp_path / "saved_model")
    average = serve(replaced)
    export(model_dir, replaced, use_ema="false")
    raw = serve(replaced)
    assert np.abs(average["images"] - raw["images"]).max() > 1e-4
    assert not list(tmp_path.glob("*.partial"))


def test_export_of_another_run_is_not_taken_for_this_one(exported, model_dir, tmp_path):
    # Another run that happens to have a checkpoint of the same name.
    other = shutil.copytree(model_dir, tmp_path / "other_run")
    for part in ("index", "data-00000-of-00001"):
        shutil.copy(other / f"ckpt-4.{part}", other / f"ckpt-8.{part}")
    replaced = shutil.copytree(exported, tmp_path / "saved_model")
    export(other, replaced)
    assert np.abs(serve(exported)["images"] - serve(replaced)["images"]).max() > 1e-5


def test_named_checkpoint_is_exported_and_what_lies_beside_is_untouched(exported, model_dir, tmp_path):
    beside = tmp_path / "four.partial"
    beside.mkdir()
    (beside / "thesis.txt").write_text("years of work", encoding="utf-8")
    export(model_dir, tmp_path / "four", checkpoint=model_dir / "ckpt-4")
    metadata = json.loads((tmp_path / "four" / "keras_an_export.json").read_text(encoding="utf-8"))
    assert pathlib.Path(metadata["checkpoint"]).name == "ckpt-4"
    assert np.abs(serve(exported)["images"] - serve(tmp_path / "four")["images"]).max() > 1e-5
    assert contents(beside) == {str(beside / "thesis.txt"): b"years of work"}


def test_folder_of_something_else_is_refused_and_untouched(model_dir, tmp_path, caplog):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert exit_code_of(model_dir, tmp_path) == 2
    assert "no export of this tool" in caplog.text
    assert contents(tmp_path) == {str(tmp_path / "thesis.txt"): b"years of work"}


def test_export_with_something_of_others_in_it_is_refused_and_untouched(exported, model_dir, tmp_path, caplog):
    older = shutil.copytree(exported, tmp_path / "saved_model")
    (older / "thesis.txt").write_text("years of work", encoding="utf-8")
    before = contents(tmp_path)
    assert exit_code_of(model_dir, older, checkpoint=model_dir / "ckpt-4") == 2
    assert "it also holds thesis.txt" in caplog.text and contents(tmp_path) == before


def test_regular_file_is_refused_and_untouched(model_dir, tmp_path):
    (tmp_path / "file").write_text("content", encoding="utf-8")
    assert exit_code_of(model_dir, tmp_path / "file") == 2
    assert contents(tmp_path) == {str(tmp_path / "file"): b"content"}


@pytest.mark.parametrize("missing", ["run", "checkpoint", "named checkpoint"])
def test_missing_run_or_checkpoint_is_refused_and_nothing_is_written(model_dir, tmp_path, caplog, missing):
    run = tmp_path / "run"
    run.mkdir()
    if missing != "run":
        shutil.copy(model_dir / "params.yaml", run)
    named = {"checkpoint": run / "ckpt-5"} if missing == "named checkpoint" else {}
    assert exit_code_of(run, tmp_path / "out", **named) == 2
    assert {"run": "params.yaml", "checkpoint": str(run), "named checkpoint": "ckpt-5"}[missing] in caplog.text
    assert not (tmp_path / "out").exists()


def test_checkpoint_of_other_networks_is_refused(model_dir, tmp_path, caplog):
    other = shutil.copytree(model_dir, tmp_path / "run")
    params = (other / "params.yaml").read_text(encoding="utf-8")
    (other / "params.yaml").write_text(params.replace("base_channels: 4", "base_channels: 6"), encoding="utf-8")
    assert exit_code_of(other, tmp_path / "out") == 2
    assert "does not hold the networks" in caplog.text and not (tmp_path / "out").exists()


def test_inpainting_run_gives_both_signatures(tmp_path):
    params = small_params()
    run = tmp_path / "run"
    run.mkdir()
    (run / "params.yaml").write_text(configs.dump(params), encoding="utf-8")
    generator = networks.build_inpainting_generator(params)
    tf.train.Checkpoint(generator=generator, ema_generator=generator).save(str(run / "ckpt"))
    export(run, tmp_path / "out")
    signatures = tf.saved_model.load(str(tmp_path / "out")).signatures
    image = np.random.default_rng(0).integers(256, size=(2, 64, 64, 3), dtype=np.uint8)
    mask = np.zeros((2, 64, 64, 1), np.uint8)
    mask[:, 20:40, 10:30] = 1
    expected = generator([image.astype(np.float32) / 127.5 - 1.0, mask.astype(np.float32)], training=False)
    raw = signatures["raw"](image=tf.constant(image), mask=tf.constant(mask))
    assert set(raw) == set(expected) >= {"coarse", "fine", "completed"}
    for name, value in expected.items():
        np.testing.assert_allclose(raw[name], value, atol=1e-4)
    served = signatures["serving_default"](image=tf.constant(image), mask=tf.constant(mask))["completed"].numpy()
    np.testing.assert_array_equal(np.where(mask > 0, image, served), image)
    metadata = json.loads((tmp_path / "out" / "keras_an_export.json").read_text(encoding="utf-8"))
    assert metadata["application"] == "inpainting" and metadata["checkpoint"] == "ckpt-1"
