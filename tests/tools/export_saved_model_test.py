"""The SavedModel: TensorFlow alone runs it, it says what the live model says, and nothing foreign is replaced.

The file is long because all tests share one trained run and its export.
"""

import functools
import json
import logging
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import call_main, contents, exported_run, imported_main, run_in_this_process, trained_run
from inpainting_test_case import small_params
from keras_an.backend import keras
from tools.exporting import exports, generators, runs
from tools.exporting.gan_serving import GanServing
from trainers import configs
from trainers.configs import networks
from trainers.monitoring import event_writers

# A program that knows of TensorFlow alone.
CONSUMER = """
import sys

import numpy as np
import tensorflow as tf

serve = tf.saved_model.load(sys.argv[1]).signatures["layouts"]
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


@pytest.fixture(autouse=True)
def _later_exports_are_checked_in_this_process(monkeypatch):
    """`exported` is made before."""
    monkeypatch.setattr(exports, "run_in_fresh_process", run_in_this_process)


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
        "images": [None, 8, 8, 1]
    }


def test_metadata_names_the_checkpoint(exported):
    metadata = json.loads((exported / "keras_an_export.json").read_text(encoding="utf-8"))
    assert pathlib.Path(metadata["checkpoint"]).name == "ckpt-8" and metadata["use_ema"] is True
    expected = {"application": "gan", "experiment": "gan_digits32", "step": 8, "num_classes": 10, "latent_dim": 8}
    expected.update({"resolution": 8, "dtype": "float32", "class_names": list("0123456789")})
    assert {name: metadata[name] for name in expected} == expected
    assert metadata["ranges"]["label"] == "[0, 10)" and metadata["tensorflow"] == tf.__version__
    assert 0.0 <= metadata["metrics"]["label_accuracy"] <= 1.0 and "frechet_distance" in metadata["metrics"]
    assert 0.0 <= metadata["largest_difference"] <= 1e-4
    assert not list(exported.parent.glob("*.partial"))


def test_second_export_is_left_out(exported, model_dir, caplog):
    before = contents(exported)
    with caplog.at_level(logging.INFO, logger="absl"):
        export(model_dir, exported)
    assert f"{exported} already holds ckpt-8" in caplog.text
    assert contents(exported) == before


def test_export_of_an_older_version_is_replaced(exported, model_dir, tmp_path):
    older = shutil.copytree(exported, tmp_path / "saved_model")
    metadata = json.loads((older / "keras_an_export.json").read_text(encoding="utf-8"))
    new = {name: metadata.pop(name) for name in ("num_classes", "latent_dim", "made_of")}
    (older / "keras_an_export.json").write_text(json.dumps(metadata), encoding="utf-8")
    export(model_dir, older)
    found = json.loads((older / "keras_an_export.json").read_text(encoding="utf-8"))
    assert {**found, "largest_difference": 0.0} == {**metadata, **new, "largest_difference": 0.0}


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


@pytest.mark.parametrize("name", ["a [b]", "a*b"])
def test_folder_from_which_tensorflow_could_not_read_is_refused(model_dir, tmp_path, caplog, name):
    assert exit_code_of(model_dir, tmp_path / name / "export") == 2
    assert f"{name}/export must have no" in caplog.text and not list(tmp_path.iterdir())


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


load_once = functools.lru_cache(tf.saved_model.load)  # its signatures do not keep it alive


def signature_of(saved_model, name):
    return load_once(str(saved_model)).signatures[name]


def test_generate_draws_each_row_from_its_own_seed(exported):
    generate = signature_of(exported, "generate")

    def draw(label, seed, truncation):
        truncation = tf.constant(truncation, tf.float32)
        return generate(label=tf.constant(label), seed=tf.constant(seed, tf.int64), truncation=truncation)["images"]

    images = draw([3, 4, 3, 3], [7, 7, 8, 7], [1.0, 1.0, 1.0, 0.5]).numpy()
    assert images.dtype == np.uint8 and images.shape == (4, 8, 8, 1)
    # The same row alone, and in another batch.
    np.testing.assert_array_equal(draw([3], [7], [1.0]).numpy()[0], images[0])
    np.testing.assert_array_equal(draw([9, 3], [1, 8], [0.3, 1.0]).numpy()[1], images[2])
    assert all((images[0] != images[i]).any() for i in (1, 2, 3))


@pytest.mark.parametrize("signature", ["serving_default", "generate", "layouts"])
@pytest.mark.parametrize("label", [-1, 10])
def test_label_of_no_class_is_refused_by_the_signatures(exported, signature, label):
    inputs = {"label": tf.constant([3, label])}
    if signature == "generate":
        inputs.update(seed=tf.constant([1, 2], tf.int64), truncation=tf.ones((2,)))
    else:
        inputs.update(z=tf.zeros((2, 8)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"label must be in \[0, 10\)"):
        signature_of(exported, signature)(**inputs)


def test_the_network_of_an_export_is_the_one_that_its_signatures_run(exported):
    network = networks.read_file(str(exported))
    z = tf.random.stateless_normal((4, network.inputs[0].shape[-1]), (0, 0))
    label = tf.range(4)
    found = network([z, label], training=False)
    served = signature_of(exported, "serving_default")(z=z, label=label)
    np.testing.assert_allclose(found, served["images"], atol=1e-6)
    assert not any("SpectralNormalization" in type(layer).__name__ for layer in network.layers)


def test_generate_truncates_as_the_tool_that_samples_does(exported):
    from tools.exporting.gan_serving import draw_latents

    z = draw_latents(tf.range(500, dtype=tf.int64), tf.fill((500,), 0.5), 8).numpy()
    assert np.abs(z).max() <= 1.0 and 0.4 < z.std() < 0.46  # 0.88 / 2
    key = tf.constant([3, 0], tf.int64)
    expected = tf.random.stateless_normal((8,), key, alg="philox").numpy()
    np.testing.assert_array_equal(draw_latents(tf.constant([3], tf.int64), tf.ones(1), 8).numpy()[0], expected)


def test_graph_has_no_wrapper_no_vectors_and_but_for_generate_no_randomness(exported):
    for name in ("serving_default", "generate", "layouts"):
        signature = signature_of(exported, name)
        kinds, nodes = set(), []
        definition = signature.graph.as_graph_def()
        for function in [definition, *(f for f in definition.library.function)]:
            found = function.node if hasattr(function, "node") else function.node_def
            kinds |= {node.op for node in found}
            nodes += [node.name for node in found]
        assert not [node for node in nodes if "sn_" in node or "kernel_u" in node]
        random = {kind for kind in kinds if "Random" in kind or "Normal" in kind}
        assert bool(random) == (name == "generate") and all("Stateless" in kind for kind in random)
    variables = signature_of(exported, "serving_default").variables
    assert variables and not [variable.name for variable in variables if "_u" in variable.name.split("/")[-1]]


def test_fresh_process_gives_what_the_live_model_says(exported, model_dir, monkeypatch):
    """The real check, with `saved_model_cli run`; what it compares with is computed apart from the export."""
    monkeypatch.undo()
    model, serving, _ = generators.from_run(str(model_dir))
    assert exports.verify("saved_model", str(exported), serving) <= 1e-4
    for layer in model.layers:
        if layer.name.endswith("to_image"):
            layer.layer.bias.assign(layer.layer.bias + 0.1)
    with pytest.raises(exports.ExportError, match=r"differs from the live model in `serving_default` .* by 0\.0\d+;"):
        exports.verify("saved_model", str(exported), GanServing(model))


def test_fresh_process_that_fails_is_told_in_one_line(tmp_path, model_dir, monkeypatch):
    monkeypatch.undo()
    serving = generators.from_run(str(model_dir)).serving
    with pytest.raises(exports.ExportError, match="does not run in a process of its own: .*"):
        exports.verify("saved_model", str(tmp_path), serving)


def test_failed_check_keeps_the_old_export(exported, model_dir, tmp_path, caplog, monkeypatch):
    place = shutil.copytree(exported, tmp_path / "saved_model")
    before = contents(tmp_path)

    def wrong(form, path, probes):
        return [{name: value + 1 for name, value in found.items()} for found in run_in_this_process(form, path, probes)]

    monkeypatch.setattr(exports, "run_in_fresh_process", wrong)
    assert exit_code_of(model_dir, place, checkpoint=model_dir / "ckpt-4") == 2
    assert "Nothing was replaced" in caplog.text and contents(tmp_path) == before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_computation_in_half_the_bits(model_dir, tmp_path, dtype):
    export(model_dir, tmp_path / "out", dtype=dtype)
    signature = signature_of(tmp_path / "out", "serving_default")
    definition = signature.graph.as_graph_def()
    types = {node.attr["T"].type for f in definition.library.function for node in f.node_def if node.op == "Conv2D"}
    assert types == {tf.as_dtype(dtype).as_datatype_enum}
    assert {variable.dtype for variable in signature.variables} == {tf.float32}
    assert signature.structured_outputs["images"].dtype == tf.float32


def test_best_checkpoint_by_a_score(model_dir, tmp_path, caplog):
    export(model_dir, tmp_path / "best", best="min:frechet_distance")
    metadata = json.loads((tmp_path / "best" / "keras_an_export.json").read_text(encoding="utf-8"))
    assert metadata["checkpoint"] == "ckpt-8"  # the one that was evaluated
    for best, expected in (("min:fid", "their scores: .*frechet_distance"), ("fid", "min:NAME or max:NAME")):
        caplog.clear()
        assert exit_code_of(model_dir, tmp_path / "out", best=best) == 2
        assert re.search(f"--best={best}.*", caplog.text) and re.search(expected, caplog.text)
    assert exit_code_of(model_dir, tmp_path / "out", best="min:fid", checkpoint=model_dir / "ckpt-4") == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("direction, expected", [("min", 4), ("max", 8)])
def test_best_is_of_those_that_are_there(tmp_path, direction, expected):
    writer = tf.summary.create_file_writer(str(tmp_path / "validation"))
    with writer.as_default():
        for step, value in ((2, 9.0), (4, 1.0), (8, 2.0), (12, 0.5)):
            tf.summary.scalar("distance", value, step=step)
    writer.close()
    for step in (4, 8):
        (tmp_path / f"ckpt-{step}.index").touch()
    assert runs.best_checkpoint(str(tmp_path), f"{direction}:distance") == str(tmp_path / f"ckpt-{expected}")


@pytest.mark.parametrize("best, expected", [("min:distance", "best/ckpt-2"), ("max:accuracy", "best/ckpt-2")])
def test_best_is_also_looked_for_where_the_run_keeps_it(tmp_path, best, expected):
    """Step 2 is no more in the run's folder, and step 4 is in both."""
    writer = tf.summary.create_file_writer(str(tmp_path / "validation"))
    with writer.as_default():
        for step, value in ((2, 1.0), (4, 2.0)):
            tf.summary.scalar("distance", value, step=step)
    writer.close()
    (tmp_path / "best").mkdir()
    for path in ("ckpt-4.index", "best/ckpt-2.index"):
        (tmp_path / path).touch()
    info = {"distance": 1.0, "accuracy": 0.5, "best_ckpt_global_step": 2}
    (tmp_path / "best" / "best_ckpt_info.txt").write_text(json.dumps(info))
    assert runs.best_checkpoint(str(tmp_path), best) == str(tmp_path / expected)
    (tmp_path / "best" / "ckpt-2.index").unlink()
    assert runs.best_checkpoint(str(tmp_path), "min:distance") == str(tmp_path / "ckpt-4")


def test_best_is_not_of_scores_that_a_run_went_back_from(tmp_path):
    """Step 8 was reached twice: once before the run was killed."""
    for number, (step, value) in enumerate(((8, 0.1), (4, None), (8, 3.0), (12, 2.0))):
        if number:
            time.sleep(1.0)  # names of event files are of the second
        writer = tf.summary.create_file_writer(str(tmp_path / "validation"))
        if value is None:
            event_writers.purge(writer, step + 1)
        else:
            with writer.as_default():
                tf.summary.scalar("distance", value, step=step)
        writer.close()
    for step in (8, 12):
        (tmp_path / f"ckpt-{step}.index").touch()
    assert runs.best_checkpoint(str(tmp_path), "min:distance") == str(tmp_path / "ckpt-12")


def test_weights_that_are_not_finite_are_refused(model_dir, tmp_path, caplog):
    params = configs.load_params(str(model_dir / "params.yaml"))
    generator = networks.restore_generator(params, str(model_dir / "ckpt-8"))
    generator.get_layer("final_norm").weights[0].assign(
        np.full(generator.get_layer("final_norm").weights[0].shape, np.nan)
    )
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(model_dir / "params.yaml", run)
    path = tf.train.Checkpoint(ema_generator=generator).save(str(run / "ckpt"))
    assert exit_code_of(run, tmp_path / "out", checkpoint=path) == 2
    assert "weights that are not finite: 1" in caplog.text and "earlier checkpoint" in caplog.text
    assert not (tmp_path / "out").exists()


def test_checkpoint_of_another_experiment_is_refused(model_dir, tmp_path, caplog):
    other = shutil.copytree(model_dir, tmp_path / "other")
    text = (other / "params.yaml").read_text(encoding="utf-8")
    (other / "params.yaml").write_text(text.replace("entity_stddev: null", "entity_stddev: 2.0"), encoding="utf-8")
    assert exit_code_of(model_dir, tmp_path / "out", checkpoint=other / "ckpt-8") == 2
    assert "is one of another experiment" in caplog.text and "entity_stddev" in caplog.text
    assert not (tmp_path / "out").exists()


DOCUMENT = (pathlib.Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def test_request_in_the_document_is_one_of_the_signature(exported):
    (text,) = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    request = json.loads(text)
    signature = signature_of(exported, request["signature_name"])
    specs = signature.structured_input_signature[1]
    assert all(set(row) == set(specs) for row in request["instances"])
    columns = {name: [row[name] for row in request["instances"]] for name in specs}
    inputs = {name: tf.constant(values, specs[name].dtype) for name, values in columns.items()}
    assert signature(**inputs)["images"].shape == (2, 8, 8, 1)


def test_flags_and_signatures_in_the_document_are_there(exported):
    commands = re.findall(r"python -m (tools\.\w+) (.*)", DOCUMENT)
    assert len(commands) >= 3
    for main, arguments in commands:
        with imported_main(main) as module:
            for name in re.findall(r"--(\w+)=", arguments):
                assert name in module.FLAGS.flags_by_module_dict()[main] or name in module.FLAGS, (main, name)
    signatures = load_once(str(exported)).signatures
    assert set(re.findall(r"signature_def\['(\w+)'\]", DOCUMENT)) == set(signatures)


def test_layer_of_a_keras_model(exported):
    if not hasattr(keras.layers, "TFSMLayer"):
        pytest.skip("Keras 2 has no TFSMLayer")
    layer = keras.layers.TFSMLayer(str(exported), call_endpoint="layouts")
    z, label = keras.Input((8,)), keras.Input((), dtype="int32")
    model = keras.Model([z, label], layer(z, label=label))
    inputs = [tf.ones((2, 8)), tf.constant([1, 2])]
    outputs, expected = model(inputs), signature_of(exported, "layouts")(z=inputs[0], label=inputs[1])
    for name in ("images", "layouts"):
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-6)
