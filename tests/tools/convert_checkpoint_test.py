"""The converter against the released code: `testdata/released_inpainting` holds a checkpoint of it and what it printed.

SavedModel and weights give that code's outputs, and a checkpoint that does not hold its generator is refused.

The file is long because all formats are made of one checkpoint, which takes long to convert.
"""

import importlib.util
import json
import logging
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import logging as absl_logging

from gan_test_case import call_main, contents, run_in_this_process, trained_run
from keras_an import models
from keras_an.backend import keras
from tools.exporting import exports, generators
from tools.exporting.inpainting_serving import InpaintingServing
from trainers.configs import networks

RELEASED = pathlib.Path(__file__).parents[1] / "testdata" / "released_inpainting"
OUTPUTS = ["coarse", "fine", "completed", "layout"]
CONV1 = "inpaint_net/conv1/kernel"
needs_runtimes = pytest.mark.skipif(sys.version_info < (3, 10), reason="LiteRT and ONNX Runtime need Python 3.10")


@pytest.fixture(autouse=True)
def _later_conversions_are_checked_in_this_process(monkeypatch):
    """`converted` is made before."""
    monkeypatch.setattr(exports, "run_in_fresh_process", run_in_this_process)


def convert(checkpoint, output_dir, **flag_values):
    call_main("tools.convert_checkpoint", checkpoint=checkpoint, output_dir=output_dir, **flag_values)
    return output_dir


def refusal(caplog, checkpoint, output_dir, **flag_values):
    """What the tool says where it ends with 2."""
    with pytest.raises(SystemExit) as caught:
        convert(checkpoint, output_dir, **flag_values)
    assert caught.value.code == 2
    (message,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
    assert "\n" not in message
    return message


@pytest.fixture
def logged(caplog):
    """All lines of absl; `caplog.at_level` does not outlive the writing of a SavedModel."""
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.INFO)
    yield caplog
    absl_logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    return convert(RELEASED, tmp_path_factory.mktemp("converted") / "out")


@pytest.fixture(scope="module")
def io():
    with np.load(RELEASED / "io.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def signatures(converted):
    return tf.saved_model.load(str(converted / "saved_model")).signatures


@pytest.fixture(scope="module")
def raw(signatures, io):
    """What `raw` of the SavedModel gives for the images of the released code."""
    return signatures["raw"](image=tf.constant(io["image"]), mask=tf.constant(io["mask"]))


@pytest.fixture(scope="module")
def live(converted):
    return generator_of(converted)


@pytest.fixture(scope="module")
def live_outputs(live, io):
    return outputs_of(live, io)


def released_values():
    reader = tf.train.load_checkpoint(str(RELEASED / "snap-1000"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def write_checkpoint(folder, values):
    """Writes arrays by name as TensorFlow 1's `Saver` does, with the file that names the newest."""
    prefix = str(folder / "snap-7")
    tensors = [tf.constant(value) for value in values.values()]
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=list(values), shape_and_slices=[""] * len(values), tensors=tensors)
    (folder / "checkpoint").write_text('model_checkpoint_path: "snap-7"\n', encoding="utf-8")
    return prefix


def generator_of(converted):
    """A live generator with the converted weights."""
    generator = models.inpainting_generator(4, statistics="released")
    generator.load_weights(str(converted / "generator.weights.h5"))
    return generator


def outputs_of(generator, io):
    return generator([tf.constant(io["image"], tf.float32) / 127.5 - 1.0, tf.constant(io["mask"], tf.float32)])


@pytest.mark.parametrize("name", OUTPUTS)
def test_saved_model_gives_what_the_released_code_printed(raw, io, name):
    assert set(raw) == set(OUTPUTS)
    np.testing.assert_allclose(raw[name], io[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", OUTPUTS)
def test_weights_give_what_the_released_code_printed(live_outputs, io, name):
    np.testing.assert_allclose(live_outputs[name], io[name], atol=1e-4, rtol=0)


def test_served_picture_is_the_released_one_in_the_hole_and_the_image_elsewhere(signatures, io):
    serve = signatures["serving_default"]
    known = np.broadcast_to(io["mask"] == 0, io["image"].shape)
    # Any value above 0 is missing.
    found = serve(image=tf.constant(io["image"]), mask=tf.constant(io["mask"] * 17))["completed"].numpy()
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[known], io["image"][known])
    np.testing.assert_allclose(found[~known], (io["fine"] * 127.5 + 127.5)[~known], atol=0.52, rtol=0)


@pytest.mark.parametrize("height, width", [(61, 83), (4, 5), (1, 1), (62, 96)])
def test_any_size_is_padded_and_cropped(signatures, io, height, width):
    image, mask = (tf.constant(io[name][:1, :height, :width]) for name in ("image", "mask"))
    found = signatures["raw"](image=image, mask=mask)
    assert found["layout"].shape == (1, -(-height // 4), -(-width // 4), 16)
    assert {name: value.shape[1:3].as_list() for name, value in found.items() if name != "layout"} == dict.fromkeys(
        OUTPUTS[:3], [height, width]
    )
    assert signatures["serving_default"](image=image, mask=mask)["completed"].shape == image.shape


def test_mask_of_another_size_is_refused_by_the_signatures(signatures, io):
    for signature in signatures.values():
        with pytest.raises(tf.errors.InvalidArgumentError, match="Image and mask must be of the same size"):
            signature(image=tf.constant(io["image"]), mask=tf.constant(io["mask"][:1, :1, :1]))


def test_other_moments_would_be_seen(live, io):
    options = {"value_projection": True, "affine": False, "pool_size": 1}
    other = models.inpainting_generator(4, statistics="weighted", attentive_options=options)
    for layer in other.layers:
        theirs = {weight.name.split("/")[-1]: weight for weight in live.get_layer(layer.name).weights}
        for weight in layer.weights:
            weight.assign(theirs[weight.name.split("/")[-1]])
    assert np.abs(outputs_of(other, io)["fine"] - io["fine"]).max() > 1e-3


def test_metadata_tells_how_to_build_the_generator(converted):
    metadata = json.loads((converted / "keras_an_export.json").read_text(encoding="utf-8"))
    assert {name: metadata[name] for name in ("checkpoint", "g_cnum", "num_entities")} == {
        "checkpoint": "snap-1000",
        "g_cnum": 4,
        "num_entities": 16,
    }
    assert sorted(path.name for path in converted.iterdir()) == [
        "generator.json",
        "generator.weights.h5",
        "keras_an_export.json",
        "saved_model",
    ]
    assert [path.name for path in converted.parent.iterdir()] == ["out"]


@pytest.fixture
def built_once(live, monkeypatch):
    """Most of the tool's time where it refuses: it builds the generator to compare, and leaves it alone."""
    monkeypatch.setattr(models, "inpainting_generator", lambda *unused, **options: live)


def with_nan(value):
    value = value.copy()
    value.flat[-1] = np.nan
    return value


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"inpaint_net/fconv18/bias": None}, "1 faults: inpaint_net/fconv18/bias is missing"),
        ({"inpaint_net/sn/beta": np.zeros(3, np.float32)}, "inpaint_net/sn/beta is none of the generator's"),
        ({"inpaint_net/sn/sigma": np.zeros((1, 1), np.float32)}, "sn/sigma is float32 (1, 1), not float32 (1,)"),
        ({"inpaint_net/conv3/bias": np.zeros(8)}, "inpaint_net/conv3/bias is float64 (8,), not float32 (8,)"),
        ({"inpaint_net/sconv5/kernel": with_nan}, "inpaint_net/sconv5/kernel is not finite"),
        ({"inpaint_net/sn/mask_filters": lambda value: value / 0.0}, "sn/mask_filters is not finite"),
        ({CONV1: None}, "lacks inpaint_net/conv1/kernel"),
        ({CONV1: lambda value: value[..., :3]}, "even number of filters. Received: shape (5, 5, 5, 3)"),
        ({"inpaint_net/sn/mask_filters": np.zeros(3, np.float32)}, "4 dimensions. Received: shape (3,)"),
        (
            {CONV1: lambda value: value[:3], "inpaint_net/conv1/bias": None, "inpaint_net/conv19/bias": np.float32(0)},
            "3 faults: inpaint_net/conv1/bias is missing; inpaint_net/conv19/bias is none of the generator's; "
            "inpaint_net/conv1/kernel is float32 (3, 5, 5, 4), not float32 (5, 5, 5, 4).",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.usefixtures("built_once")
def test_checkpoint_with_a_fault_is_refused_and_nothing_is_written(tmp_path, caplog, changes, expected):
    values = released_values()
    for name, change in changes.items():
        value = change(values[name]) if callable(change) else change
        values = {**values, name: value} if value is not None else {k: v for k, v in values.items() if k != name}
    assert expected in refusal(caplog, write_checkpoint(tmp_path, values), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("built_once")
def test_many_faults_are_counted_and_the_first_eight_named(tmp_path, caplog):
    values = {name: value for name, value in released_values().items() if "/xconv" not in name}
    message = refusal(caplog, write_checkpoint(tmp_path, values), tmp_path / "out")
    assert "20 faults" in message and message.count("is missing") == 8 and message.endswith("and 12 more.")


def test_checkpoint_of_another_program_is_refused(tmp_path, caplog):
    prefix = tf.train.Checkpoint(kernel=tf.Variable(1.0)).save(str(tmp_path / "ckpt"))
    assert "it holds no variable inpaint_net/" in refusal(caplog, prefix, tmp_path / "out")


def test_checkpoint_that_is_cut_off_is_refused(tmp_path, caplog):
    prefix = write_checkpoint(tmp_path, released_values())
    data = tmp_path / "snap-7.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    assert f"--checkpoint={prefix} cannot be read" in refusal(caplog, prefix, tmp_path / "out")


@pytest.mark.parametrize("fault", ["empty folder", "name of one that is elsewhere", "no such path"])
def test_missing_checkpoint_is_refused(tmp_path, caplog, fault):
    run = tmp_path / "run"
    if fault != "no such path":
        run.mkdir()
    if fault == "name of one that is elsewhere":
        # As copied from the machine that trained, which notes its own path.
        shutil.copy(RELEASED / "snap-1000.index", run)
        (run / "checkpoint").write_text('model_checkpoint_path: "/gone/snap-1000"\n', encoding="utf-8")
    expected = {
        "empty folder": "is a folder without a file `checkpoint`",
        "name of one that is elsewhere": "there is no /gone/snap-1000.index",
        "no such path": f"there is no {run}.index",
    }
    message = refusal(caplog, run, tmp_path / "out")
    assert f"--checkpoint={run}" in message and expected[fault] in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "export of another tool", "conversion with something beside"])
def test_place_that_is_in_use_is_refused_and_untouched(converted, tmp_path, caplog, kind):
    place = tmp_path / "out"
    if kind == "file":
        place.write_text("content", encoding="utf-8")
    elif kind == "conversion with something beside":
        shutil.copytree(converted, place)
        (place / "thesis.txt").write_text("years of work", encoding="utf-8")
    else:
        place.mkdir()
        name, content = {"folder": ("thesis.txt", "years of work")}.get(kind, ("keras_an_export.json", "{}"))
        (place / name).write_text(content, encoding="utf-8")
    before = contents(tmp_path)
    message = refusal(caplog, RELEASED, place)
    assert f"--output_dir={place} is" in message and "no export of this tool" in message
    assert contents(tmp_path) == before


def test_second_conversion_is_left_out(converted, tmp_path, logged):
    place = shutil.copytree(converted, tmp_path / "out")
    before = contents(place)
    convert(RELEASED / "snap-1000", place)
    assert f"{place} already holds snap-1000" in logged.text and contents(place) == before


@pytest.mark.slow
def test_another_checkpoint_takes_the_place_without_its_optimizer_and_discriminator(converted, live, tmp_path, logged):
    place = shutil.copytree(converted, tmp_path / "out")
    values = released_values()
    slots = {f"{name}/{slot}": value + 1.0 for name, value in values.items() for slot in ("Adam", "Adam_1")}
    others = dict.fromkeys(["beta1_power", "beta2_power", "lr", "fmask/free_mask"], np.float32(0.5))
    others.update({f"discriminator/conv1/kernel{slot}": np.ones((5, 5, 3, 4), np.float32) for slot in ("", "/Adam")})
    values["inpaint_net/fconv18/bias"] = values["inpaint_net/fconv18/bias"] + 0.25
    convert(write_checkpoint(tmp_path, {**values, **slots, **others}), place)
    (line,) = (record.getMessage() for record in logged.records if "Ignored" in record.getMessage())
    assert "Ignored 192 variables" in line and "186 optimizer slots, 2 discriminator" in line
    assert "g_cnum 4, 16 entities, 93 variables." in logged.text and "it differs by" in logged.text
    for layer, old in zip(generator_of(place).layers, live.layers):
        for weight, before in zip(layer.weights, old.weights):
            if weight is getattr(layer, "bias", None) and layer.name == "fused_conv18":
                np.testing.assert_allclose(weight, np.asarray(before) + 0.25, rtol=1e-6)
            else:
                np.testing.assert_array_equal(weight, before)


@pytest.mark.slow
def test_check_sees_other_weights_and_another_signature(converted):
    saved_model, other = str(converted / "saved_model"), generator_of(converted)
    (layer,) = models.attentive_layers(other)
    layer.entities.assign(layer.entities * 1.5)
    with pytest.raises(exports.ExportError, match="differs from the live model in `raw` .*: `fine` by 0"):
        exports.verify("saved_model", saved_model, InpaintingServing(other), "raw")
    without = models.inpainting_generator(4, attention="none")
    with pytest.raises(exports.ExportError, match="it has the outputs .*'layout'.*, not .*'fine'"):
        exports.verify("saved_model", saved_model, InpaintingServing(without), "raw")


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault, expected",
    [
        (lambda completed, known: completed ^ known, "`completed` by 1"),
        (lambda completed, known: completed ^ (1 - known) * 2, "`completed` by"),
        (lambda completed, known: completed[:, :60], "the shape of `completed` is"),
    ],
)
def test_check_sees_faults_of_the_served_picture(converted, live, monkeypatch, fault, expected):
    def faulty(form, path, probes):
        found = run_in_this_process(form, path, probes)
        return [
            {"completed": fault(outputs["completed"], (feed["mask"] == 0).astype(np.uint8))}
            for outputs, (_, feed) in zip(found, probes)
        ]

    monkeypatch.setattr(exports, "run_in_fresh_process", faulty)
    with pytest.raises(exports.ExportError, match=expected):
        exports.verify("saved_model", str(converted / "saved_model"), InpaintingServing(live), "serving_default")


def test_known_pixel_that_changed_is_seen_whatever_the_tolerance(live):
    serving = InpaintingServing(live)
    (feed, *_) = (feed for name, feed in serving.probes() if name == "serving_default")
    serving.check("serving_default", feed, {"completed": feed["image"]}, "place")
    with pytest.raises(exports.ExportError, match="place: known pixels do not come back"):
        serving.check("serving_default", feed, {"completed": feed["image"] ^ (feed["mask"] == 0)}, "place")


@pytest.mark.slow
@needs_runtimes
def test_run_becomes_every_format_each_checked_in_its_own_process(tmp_path_factory, tmp_path, monkeypatch):
    """Takes 25 seconds: two converters, and a process for each format."""
    monkeypatch.undo()
    model_dir, _ = trained_run(tmp_path_factory)
    out = tmp_path / "out"
    formats = ["keras", "weights", "litert", "onnx"]
    convert(model_dir / "ckpt-8", out, format=",".join(formats))
    files = {"generator.keras", "generator.weights.h5", "generator.json", "generator.tflite", "generator.onnx"}
    assert {path.name for path in out.iterdir()} == {*files, "keras_an_export.json"}
    metadata = json.loads((out / "keras_an_export.json").read_text(encoding="utf-8"))
    assert metadata["step"] == 8 and metadata["made_of"]["formats"] == sorted(formats)
    assert 0.0 < metadata["largest_difference"] <= 1e-4
    # What was made is a source again, and says the same.
    z = np.random.default_rng(3).normal(size=(2, 8)).astype(np.float32)
    inputs = [tf.constant(z), tf.constant([3, 4])]
    expected = generators.load(str(model_dir)).model(inputs, training=False).numpy()
    for name in ("generator.keras", "generator.weights.h5"):
        found = generators.load(str(out / name)).model(inputs, training=False).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)
    convert(out / "generator.keras", tmp_path / "again", format="saved_model", signature="layouts")
    assert (tmp_path / "again" / "saved_model" / "saved_model.pb").is_file()


@needs_runtimes
@pytest.mark.parametrize("form", ["litert", "onnx"])
def test_inpainting_in_other_runtimes_takes_any_size(live, tmp_path, monkeypatch, form):
    monkeypatch.undo()
    serving = InpaintingServing(live)
    path = str(tmp_path / exports.FORMATS[form][0])
    exports.write(form, path, live, serving, "raw")
    assert exports.verify(form, path, serving, "raw") <= 1e-3
    other = models.inpainting_generator(4, statistics="released")
    with pytest.raises(exports.ExportError, match="differs from the live model"):
        exports.verify(form, path, InpaintingServing(other), "raw")


def test_a_saved_model_is_converted_again(converted, tmp_path, io):
    out = convert(converted / "saved_model", tmp_path / "out", format="keras")
    found = outputs_of(keras.saving.load_model(out / "generator.keras", compile=False), io)
    for name, expected in outputs_of(generator_of(converted), io).items():
        np.testing.assert_array_equal(found[name], expected)


def test_weights_beside_the_params_of_their_run(tmp_path_factory, tmp_path):
    model_dir, _ = trained_run(tmp_path_factory)
    model = generators.load(str(model_dir)).model
    model.save_weights(str(tmp_path / "mine.weights.h5"))
    shutil.copy(model_dir / "params.yaml", tmp_path)
    read = networks.read_file(str(tmp_path / "mine.weights.h5"))
    for mine, theirs in zip(read.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(mine, theirs)


def saved_network(path, inputs):
    tensors = [keras.Input((2,), name=name) for name in inputs]
    joined = keras.layers.Concatenate()(tensors) if len(tensors) > 1 else tensors[0]
    keras.Model(tensors, keras.layers.Dense(1)(joined)).save(path)


def mixed_network(path, dtype):
    """Saves a generator of classes that computes in `dtype`."""
    keras.mixed_precision.set_global_policy(f"mixed_{dtype}")
    models.residual_generator(8, 3, 5, 4, 1, num_entities=2).save(path)
    keras.mixed_precision.set_global_policy("float32")
    return path


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_is_allowed_what_its_dtype_rounds_off(tmp_path, dtype):
    source = mixed_network(tmp_path / "mixed.keras", dtype)
    out = convert(source, tmp_path / "out", format="saved_model,keras,weights")
    metadata = json.loads((out / "keras_an_export.json").read_text(encoding="utf-8"))
    assert metadata["dtype"] == dtype and metadata["largest_difference"] <= exports.TOLERANCES[dtype]
    with pytest.raises(exports.ExportError, match="allowed"):
        worse = {"images": (np.full((1, 1), 2.0 * exports.TOLERANCES[dtype]), exports.TOLERANCES[dtype])}
        exports.compare({"images": np.zeros((1, 1))}, worse, "place")
    again = generators.load(str(out / "generator.weights.h5"))
    assert again.metadata["dtype"] == again.serving.dtype == dtype


@pytest.mark.parametrize(
    "form, dtype, allowed",
    [("litert", "float16", "float32"), ("litert", "bfloat16", "float32"), ("onnx", "bfloat16", "float32 or float16")],
)
def test_formats_that_cannot_compute_in_a_dtype_are_refused(tmp_path, caplog, monkeypatch, form, dtype, allowed):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    message = refusal(caplog, mixed_network(tmp_path / "mixed.keras", dtype), tmp_path / "out", format=form)
    assert f"--format={form} computes in {allowed} alone. Received: a generator in {dtype}" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@needs_runtimes
def test_onnx_computes_in_float16(tmp_path):
    out = convert(mixed_network(tmp_path / "mixed.keras", "float16"), tmp_path / "out", format="onnx")
    assert (out / "generator.onnx").is_file()


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("no format", "--format must be of saved_model, keras, weights, litert, onnx. Received: nothing"),
        ("format", "--format must be of saved_model, keras, weights, litert, onnx. Received: 'tflite'"),
        ("signature", "--signature must be one of serving_default, raw. Received: 'generate'"),
        ("missing package", "--format=onnx needs the package tf2onnx: pip install '.[export]'"),
        ("no such file", "is no file. Name a run"),
        ("cut off", "cannot be read as a .keras file"),
        ("other network", "holds no generator of keras_an. Its inputs are ['a', 'b']"),
        ("other generator", "must have a ConditionalBatchNormalization"),
        ("other filler", "must have an output `completed`"),
        ("weights alone", "does not tell its network. Put the run's params.yaml beside it, or"),
        ("saved_model", "is a SavedModel without network.json, which tells its network: one of another tool, or of an"),
        ("smaller weights", "weight 0 must be [3, 3, 5, 4]. Received: [5, 5, 5, 4]"),
        ("unknown network", "network.json cannot be read as a network of this Keras: "),
    ],
)
@pytest.mark.usefixtures("built_once")
def test_what_cannot_be_converted_is_refused(converted, tmp_path, caplog, monkeypatch, kind, expected):
    source, flags = RELEASED, {}
    if kind == "no format":
        flags = {"format": ""}
    elif kind == "format":
        flags = {"format": "tflite"}
    elif kind == "signature":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)  # Python 3.9 has no LiteRT
        flags = {"format": "litert", "signature": "generate"}
    elif kind == "missing package":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        flags = {"format": "onnx"}
    elif kind == "no such file":
        source = tmp_path / "none.keras"
    elif kind == "cut off":
        source = tmp_path / "cut.keras"
        source.write_bytes(b"PK")
    elif kind == "other network":
        source = tmp_path / "other.keras"
        saved_network(str(source), ["a", "b"])
    elif kind.startswith("other "):
        source = tmp_path / "other.keras"
        saved_network(str(source), ["z", "label"] if kind == "other generator" else ["image", "mask"])
    elif kind == "weights alone":
        source = shutil.copy(converted / "generator.weights.h5", tmp_path / "alone.weights.h5")
    else:
        source = shutil.copytree(converted / "saved_model", tmp_path / "saved_model")
        text = (source / "network.json").read_text()
        (source / "network.json").unlink()
        if kind == "smaller weights":
            (source / "network.json").write_text(re.sub(r"\b5(,\s*)5\b", r"3\g<1>3", text))  # sides of kernels
        elif kind == "unknown network":
            (source / "network.json").write_text('{"class_name": "Gone", "config": {}}')
    assert expected in refusal(caplog, source, tmp_path / "out", **flags)
    assert not (tmp_path / "out").exists()
