"""What the tools that write SavedModels share: the signatures of inpainting, their check, and where an export goes.

An inpainting SavedModel has two signatures. Both take `image` uint8 (None, None, None, channels) of any height and
width, and `mask` uint8 (None, None, None, 1) of the image's size, in which any value above 0 is missing:

`serving_default`: `completed` uint8, of the image's size; its known pixels are the image's own, bit for bit.
`raw`: `coarse`, `fine` and `completed`, float32 in [-1, 1] of the image's size, and `layout` float32 (None, height / 4,
width / 4, entities), sides rounded up; absent where the generator has no Attentive Normalization.
"""

import hashlib
import json
import os
import tempfile

import numpy as np
import tensorflow as tf

METADATA_FILE = "keras_an_export.json"
TOLERANCE = 1e-4
DIVISOR = 4  # of height and width, in the inpainting generator
# What an export holds at its top, of whichever tool; nothing else is ever replaced.
_WRITTEN = {
    *("assets", "fingerprint.pb", "keras_metadata.pb", "saved_model.pb", "variables"),
    *("saved_model", "generator.weights.h5", METADATA_FILE),
}


class ExportError(ValueError):
    """The export cannot be made; the message says why."""


def inpainting_module(generator):
    """A `tf.Module` that holds an inpainting generator, and its signatures.

    Args:
        generator: `keras.Model` of `keras_an.models.inpainting_generator`.

    Returns:
        The module, and a dictionary of concrete functions: `serving_default` and `raw`.
    """
    module = tf.Module()
    module.weights = generator.variables  # of the layers themselves, each would be traced by itself
    signature = [
        tf.TensorSpec((None, None, None, generator.inputs[0].shape[-1]), tf.uint8, name="image"),
        tf.TensorSpec((None, None, None, 1), tf.uint8, name="mask"),
    ]

    @tf.function(input_signature=signature)
    def raw(image, mask):
        # An operation would stretch a mask of one row, or one for a whole batch.
        tf.debugging.assert_equal(tf.shape(mask)[:3], tf.shape(image)[:3], "Image and mask must be of the same size.")
        height, width = tf.shape(image)[1], tf.shape(image)[2]
        pixels = tf.cast(image, tf.float32) / 127.5 - 1.0
        hole = tf.cast(mask > 0, tf.float32)
        outputs = generator([_padded(pixels), _padded(hole)], training=False)
        return {name: value if name == "layout" else value[:, :height, :width] for name, value in outputs.items()}

    @tf.function(input_signature=signature)
    def complete(image, mask):
        levels = tf.round(raw(image, mask)["completed"] * 127.5 + 127.5)
        return {"completed": tf.where(mask > 0, tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.uint8), image)}

    module.raw, module.complete = raw, complete
    return module, {"serving_default": complete.get_concrete_function(), "raw": raw.get_concrete_function()}


def _padded(images):
    """Repeats the last row and column until both sides divide by DIVISOR."""
    for axis in (1, 2):
        size = tf.shape(images)[axis]
        padded_size = -(-size // DIVISOR) * DIVISOR
        images = tf.gather(images, tf.minimum(tf.range(padded_size), size - 1), axis=axis)
    return images


def verify_inpainting(path, generator):
    """Compares a SavedModel with a live generator on the built-in probes: batches of 1 and 3, two sizes.

    Args:
        path: folder of the SavedModel.
        generator: the live `keras.Model`.

    Returns:
        The largest absolute difference of an output in [-1, 1] or of the layout.

    Raises:
        ExportError: where one exceeds 1e-4 and twice what the live model differs from its own graph, or is not a
            number, where a completed picture is off by more than a level, or a known pixel by anything.
    """
    signatures = tf.saved_model.load(path).signatures
    channels = generator.inputs[0].shape[-1]
    sizes = [tf.TensorSpec((None, None, None, last)) for last in (channels, 1)]

    def live(inputs):
        return generator(inputs, training=False)

    graph = tf.function(live, [sizes])  # of any size, so it is traced once
    worst = 0.0
    for image, mask in _probes(channels):
        place = f"The SavedModel in {path} differs from the live model on a probe {image.shape}"
        expected, as_graph = (_live_outputs(run, image, mask) for run in (live, graph))
        found = _as_arrays(signatures["raw"](image=tf.constant(image), mask=tf.constant(mask)))
        if set(found) != set(expected):
            raise ExportError(f"{place}: it has the outputs {sorted(found)}, not {sorted(expected)}.")
        for name, value in expected.items():
            # Kernels of a graph round otherwise. Where the activations of a trained network are large, their last digit
            # is a visible part of a picture, also without an export.
            tolerance = TOLERANCE + 2.0 * float(np.abs(value - as_graph[name]).max())
            worst = max(worst, check_difference(found[name], value, f"{place} in `{name}`", tolerance))
        served = _as_arrays(signatures["serving_default"](image=tf.constant(image), mask=tf.constant(mask)))
        levels = expected["completed"] * 127.5 + 127.5
        # Half a level is rounding's.
        check_difference(served["completed"], levels, f"{place} in the levels of `completed`", tolerance=1.0)
        if not np.array_equal(np.where(mask > 0, image, served["completed"]), image):
            raise ExportError(f"{place}: known pixels do not come back as they were.")
    return worst


def check_difference(found, expected, place, tolerance=TOLERANCE):
    """The largest absolute difference of two arrays; raises ExportError, which begins with `place`, for a large one."""
    if found.shape != expected.shape:
        raise ExportError(f"{place}: its shape is {found.shape}, not {expected.shape}. Nothing was replaced.")
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    if not difference <= tolerance:  # also where it is not a number
        raise ExportError(f"{place} by {difference}; at most {tolerance} is allowed. Nothing was replaced.")
    return difference


def _probes(channels):
    """Yields smooth pictures, uint8, and masks with one hole of 255 and one of 1 that reaches an edge."""
    random = np.random.default_rng(0)
    for batch_size in (1, 3):
        for height, width in ((64, 96), (61, 83)):
            colours = random.integers(40, 216, size=(batch_size, 4, 6, channels))
            # As smooth as photographs are: on anything else a trained network is at the mercy of rounding.
            image = tf.image.resize(colours, (64, 96), "bicubic").numpy().round().astype(np.uint8)[:, :height, :width]
            mask = np.zeros((batch_size, height, width, 1), np.uint8)
            mask[:, 12:37, 20:50] = 255
            mask[:, 50:, 70:] = 1
            yield image, mask


def _live_outputs(run, image, mask):
    """What a signature `raw` must give, without any of its code; `run` is the generator at inference or its graph."""
    height, width = image.shape[1:3]
    sides = [(0, 0), (0, -height % DIVISOR), (0, -width % DIVISOR), (0, 0)]
    pixels = np.pad(image, sides, mode="edge").astype(np.float32) / 127.5 - 1.0
    hole = np.pad(mask > 0, sides, mode="edge").astype(np.float32)
    outputs = _as_arrays(run([tf.constant(pixels), tf.constant(hole)]))
    return {name: value if name == "layout" else value[:, :height, :width] for name, value in outputs.items()}


def _as_arrays(outputs):
    return {name: value.numpy() for name, value in outputs.items()}


def digest_of(checkpoint):
    """SHA-256 of a checkpoint's index, which holds a checksum of every tensor."""
    with open(checkpoint + ".index", "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def is_exported(output_dir, metadata):
    """Whether the folder holds this very export already.

    Args:
        output_dir: folder of the export.
        metadata: dictionary that `write_export` would write. A tool other than `export_saved_model` names itself in
            `tool`.

    Raises:
        ExportError: where the folder holds something that this tool did not write.
    """
    if not os.path.exists(output_dir) or (os.path.isdir(output_dir) and not os.listdir(output_dir)):
        return False
    path = os.path.join(output_dir, METADATA_FILE)
    if not os.path.exists(path):
        raise ExportError(f"--output_dir={output_dir} is there and is no export of this tool. Name another folder.")
    with open(path, encoding="utf-8") as file:
        present = json.load(file)
    foreign = sorted(set(os.listdir(output_dir)) - _WRITTEN)
    if foreign or present.get("tool") != metadata.get("tool"):
        fault = f"also holds {foreign[0]}" if foreign else f"was written by {present.get('tool', 'another tool')}"
        raise ExportError(
            f"--output_dir={output_dir} is no export of this tool alone: it {fault}. Name another folder."
        )
    return present == metadata


def write_export(output_dir, metadata, write):
    """Writes an export beside its place and moves it there once it is whole; takes the place of an older one.

    Args:
        output_dir: folder of the export, which `is_exported` has looked at.
        metadata: dictionary, written as METADATA_FILE.
        write: function of the path of a folder that is not there yet. It writes and verifies the export, and returns
            the largest difference that it saw.

    Returns:
        That difference.
    """
    parent = os.path.dirname(os.path.abspath(output_dir))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=parent) as folder:
        partial = os.path.join(folder, "partial")
        difference = write(partial)
        with open(os.path.join(partial, METADATA_FILE), "w", encoding="utf-8") as file:
            json.dump(metadata, file, indent=1)
        if os.path.exists(output_dir):
            os.replace(output_dir, os.path.join(folder, "replaced"))
        os.replace(partial, output_dir)
    return difference
