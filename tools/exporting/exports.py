"""What the tools that write exports share: the formats, the check of what was written, and where an export goes.

An export is a folder with `keras_an_export.json`, which says what it was made of and what its signatures take and give.
It is written under a temporary name, run by `fresh_process.py` in a process that has its own runtime alone, compared
with the live model, and only then moved to its place.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from absl import logging

from trainers.configs import folder_names

METADATA_FILE = "keras_an_export.json"
# By format: the name in the folder of an export, and the package that it takes beside TensorFlow.
FORMATS = {
    "saved_model": ("saved_model", None),
    "keras": ("generator.keras", None),
    "weights": ("generator.weights.h5", None),
    "litert": ("generator.tflite", "ai_edge_litert"),
    "onnx": ("generator.onnx", "tf2onnx"),
}
# In what a format computes, where not in all of these.
_DTYPES = {"litert": ("float32",), "onnx": ("float32", "float16")}
# Largest difference of an output from the live model's, by the dtype of the computation; outputs are of order one.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-1}
# What an export holds at its top, of whichever tool; nothing else is ever replaced.
_WRITTEN = {
    *("assets", "fingerprint.pb", "keras_metadata.pb", "saved_model.pb", "variables", METADATA_FILE),
    *(name for name, _ in FORMATS.values()),
    "generator.json",
    folder_names.NETWORK_FILE,
}
ONNX_OPSET = 18


class ExportError(ValueError):
    """The export cannot be made; the message says why."""


def check_formats(formats, signature, serving):
    """Raises ExportError where a format is unknown, lacks its package, or cannot hold what is asked for."""
    if not formats:
        raise ExportError(f"--format must be of {', '.join(FORMATS)}. Received: nothing")
    for name in formats:
        if name not in FORMATS:
            raise ExportError(f"--format must be of {', '.join(FORMATS)}. Received: {name!r}")
        package = FORMATS[name][1]
        if package and importlib.util.find_spec(package) is None:
            raise ExportError(f"--format={name} needs the package {package}: pip install '.[export]'.")
        if serving.dtype not in _DTYPES.get(name, TOLERANCES):
            raise ExportError(
                f"--format={name} computes in {' or '.join(_DTYPES[name])} alone. Received: a generator in "
                f"{serving.dtype}. Convert its run, which is read in float32."
            )
    choices = [name for name in serving.functions() if name not in serving.random_signatures]
    if signature not in choices:
        raise ExportError(f"--signature must be one of {', '.join(choices)}. Received: {signature!r}")


def write(form, path, generator, serving, signature="serving_default"):
    """Writes a generator in one format.

    Args:
        form: key of `FORMATS`.
        path: of the file or folder, which is not there yet.
        generator: the live `keras.Model`.
        serving: its `GanServing` or `InpaintingServing`.
        signature: the one that LiteRT and ONNX get; a SavedModel gets all.
    """
    if form == "keras":
        generator.save(path)
    elif form == "weights":
        generator.save_weights(path)
    elif form == "saved_model":
        _save(path, serving.functions(), serving.network.weights)
        with open(os.path.join(path, folder_names.NETWORK_FILE), "w", encoding="utf-8") as file:
            file.write(description_of(serving.network))
    elif form == "litert":
        with open(path, "wb") as file:
            file.write(_litert(serving.functions()[signature]))
    else:
        _write_onnx(path, serving.functions()[signature])


def description_of(network):
    """What `networks.read_file` wants beside the weights of a network: JSON text."""
    return json.dumps(json.loads(network.to_json()), indent=1)


def _save(path, functions, first=()):
    """A SavedModel of functions, whose weights are numbered; those in `first`, a network's, come first."""
    import tensorflow as tf

    from keras_an.backend import IS_KERAS_3

    signatures = {name: function.get_concrete_function() for name, function in functions.items()}
    module = tf.Module()
    for name, function in functions.items():
        setattr(module, name, function)  # for TFSMLayer, which cannot call a signature of several inputs
    # TensorFlow's, not Keras's own around them: with those a session, as TensorFlow Serving has, finds no values.
    variables = [weight.value if IS_KERAS_3 else weight for weight in first]
    variables += [variable for function in signatures.values() for variable in function.variables]
    module.weights = list({id(variable): variable for variable in variables}.values())
    tf.saved_model.save(module, path, signatures=signatures)


def _litert(function):
    """The bytes of a LiteRT model with one signature of the function's names, for any size that the function takes."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _save(folder, {"serving_default": function})
        return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"]).convert()


def _write_onnx(path, function):
    import tf2onnx

    outputs = sorted(function.get_concrete_function().structured_outputs)
    model, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=ONNX_OPSET)
    if sorted(output.name for output in model.graph.output) != outputs:
        raise ExportError(f"tf2onnx did not keep the names of the outputs, {', '.join(outputs)}.")
    with open(path, "wb") as file:
        file.write(model.SerializeToString())


def verify(form, path, serving, signature=None):
    """Runs what was written in a fresh process and compares it with the live model.

    Args:
        form: key of `FORMATS`.
        path: of the file or folder.
        serving: `GanServing` or `InpaintingServing` of the live model.
        signature: of LiteRT and ONNX; a SavedModel's are all looked at.

    Returns:
        The largest absolute difference of an output that is no uint8.

    Raises:
        ExportError: where it does not run, lacks an output, or differs by more than the tolerance.
    """
    if form in ("keras", "weights"):
        probes = [(None, feed) for feed in serving.call_probes()]
    else:
        probes = [probe for probe in serving.probes() if signature in (None, probe[0])]
    worst = 0.0
    for (name, feed), found in zip(probes, run_in_fresh_process(form, path, probes)):
        expected = serving.called(feed) if name is None else serving.expected(name, feed)
        shape = tuple(next(iter(feed.values())).shape)
        place = f"{path} differs from the live model in `{name or 'call'}` on inputs {shape}"
        worst = max(worst, compare(found, expected, place))
        if name is not None:
            serving.check(name, feed, found, place)
    return worst


def compare(found, expected, place):
    """The largest difference of outputs that are no uint8; raises ExportError, which begins with `place`, for more.

    Args:
        found: arrays by name.
        expected: by the same names, pairs of an array and the tolerance.
        place: string.
    """
    if set(found) != set(expected):
        raise ExportError(f"{place}: it has the outputs {sorted(found)}, not {sorted(expected)}. Nothing was replaced.")
    worst = 0.0
    for name, (value, tolerance) in expected.items():
        if found[name].shape != value.shape:
            raise ExportError(
                f"{place}: the shape of `{name}` is {found[name].shape}, not {value.shape}. Nothing was replaced."
            )
        difference = float(np.abs(found[name].astype(np.float64) - value).max())
        if not difference <= tolerance:  # also where it is not a number
            raise ExportError(
                f"{place}: `{name}` by {difference:.3g}; at most {tolerance:.3g} is allowed. Nothing was replaced."
            )
        worst = worst if found[name].dtype == np.uint8 else max(worst, difference)
    return worst


def run_in_fresh_process(form, path, probes):
    """What an export gives for `probes`, pairs of a signature and arrays by name, in a process of its own.

    Returns:
        A list of arrays by name.

    Raises:
        ExportError: where the process fails, with the last line that it wrote.
    """
    from tools.exporting import fresh_process

    with tempfile.TemporaryDirectory() as folder:
        fresh_process.write_probes(folder, probes)
        command = [sys.executable, "-I", fresh_process.__file__, form, os.path.abspath(path), folder]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if result.returncode:
            lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
            logging.debug("The fresh process wrote:\n%s", result.stderr)
            raise ExportError(f"{path} does not run in a process of its own: {lines[-1]}. Nothing was replaced.")
        return fresh_process.read_results(folder, len(probes))


def is_exported(output_dir, metadata):
    """Whether the folder holds this very export already.

    Args:
        output_dir: folder of the export.
        metadata: dictionary that `write_export` would write. Its `tool` wrote it, and `made_of` tells of what.

    Raises:
        ExportError: where the folder holds something that this tool did not write, or no export could be read there.
    """
    folder_names.check("--output_dir", os.path.abspath(output_dir), ExportError)
    if not os.path.exists(output_dir) or (os.path.isdir(output_dir) and not os.listdir(output_dir)):
        return False
    path = os.path.join(output_dir, METADATA_FILE)
    if not os.path.exists(path):
        raise ExportError(f"--output_dir={output_dir} is there and is no export of this tool. Name another folder.")
    with open(path, encoding="utf-8") as file:
        present = json.load(file)
    foreign = sorted(set(os.listdir(output_dir)) - _WRITTEN)
    if foreign or present.get("tool") != metadata["tool"]:
        fault = f"also holds {foreign[0]}" if foreign else f"was written by {present.get('tool', 'another tool')}"
        raise ExportError(
            f"--output_dir={output_dir} is no export of this tool alone: it {fault}. Name another folder."
        )
    return present.get("made_of") == metadata["made_of"]


def write_export(output_dir, metadata, write_and_verify):
    """Writes an export beside its place and moves it there once it is verified; takes the place of an older one.

    Args:
        output_dir: folder of the export, which `is_exported` has looked at.
        metadata: dictionary, written as METADATA_FILE, with the difference as `largest_difference`.
        write_and_verify: function of the path of a folder that holds METADATA_FILE. It writes and verifies the export,
            and returns the largest difference that it saw.

    Returns:
        That difference.
    """
    parent = os.path.dirname(os.path.abspath(output_dir))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=parent) as folder:
        partial = os.path.join(folder, "partial")
        os.mkdir(partial)
        _write_metadata(partial, metadata)
        difference = write_and_verify(partial)
        _write_metadata(partial, {**metadata, "largest_difference": difference})
        if os.path.exists(output_dir):
            os.replace(output_dir, os.path.join(folder, "replaced"))
        os.replace(partial, output_dir)
    return difference


def _write_metadata(folder, metadata):
    with open(os.path.join(folder, METADATA_FILE), "w", encoding="utf-8") as file:
        json.dump(metadata, file, indent=1)
