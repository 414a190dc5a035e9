"""Exports the generator of a run as a SavedModel, and checks what it wrote.

python -m tools.export_saved_model --model_dir=runs/demo --output_dir=runs/demo/saved_model

`serving_default`: `z` float32 (None, latent_dim), `label` int32 (None,) in [0, classes) to `images` float32
(None, height, width, channels) in [-1, 1] and `layouts` float32 (None, height', width', entities), the soft layout of
the generator's first Attentive Normalization (absent where it has none). Deterministic, for any batch size.
`keras_an_export.json` beside it tells the checkpoint, and what the signature does not: the number of classes.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile

import numpy as np
from absl import app, flags, logging

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Folder of the run to export.", required=True)
flags.DEFINE_string("output_dir", None, "Folder to write the SavedModel to.", required=True)
flags.DEFINE_string("checkpoint", None, "Checkpoint to export, as DIR/ckpt-STEP; the newest of the run by default.")
flags.DEFINE_bool("use_ema", True, "Whether to export the averaged weights.")

METADATA_FILE = "keras_an_export.json"
TOLERANCE = 1e-4


class ExportError(ValueError):
    """The export cannot be made; the message says why."""


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Everything is a flag. Received: {argv[1:]}")
    # TensorFlow's saver logs through absl too.
    logging.get_absl_handler().addFilter(lambda record: f"{os.sep}tensorflow{os.sep}" not in record.pathname)
    from trainers.configs import ConfigError
    from trainers.configs.networks import CheckpointError

    try:
        export(FLAGS.model_dir, FLAGS.output_dir, FLAGS.checkpoint, FLAGS.use_ema)
    except (ExportError, ConfigError, CheckpointError) as error:
        logging.error("%s", error)
        sys.exit(2)


def export(model_dir, output_dir, checkpoint=None, use_ema=True):
    """Writes the SavedModel, reloads it and compares it with the live model before it takes its place.

    Args:
        model_dir: folder of the run.
        output_dir: folder of the SavedModel. An export of this tool that is there is replaced once the new one is
            verified; anything else is refused.
        checkpoint: path of a checkpoint, or None for the run's newest.
        use_ema: whether the averaged weights are exported.

    Returns:
        The largest absolute difference that was seen.

    Raises:
        ExportError: where the folder is not as it must be, or the check fails.
        ConfigError, CheckpointError: where the run or the checkpoint is not as it must be.
    """
    import tensorflow as tf

    from trainers import configs
    from trainers.configs.networks import find_checkpoint, restore_generator

    params = configs.load_params(os.path.join(model_dir, "params.yaml"))
    checkpoint = find_checkpoint(model_dir, checkpoint)
    model = params.task.model
    metadata = {
        "checkpoint": os.path.basename(checkpoint),
        "index": _digest(checkpoint),
        "use_ema": use_ema,
        **{name: getattr(model, name) for name in ("num_classes", "latent_dim", "resolution")},
    }
    if _is_exported(output_dir, metadata):
        logging.info("%s already holds %s.", output_dir, metadata["checkpoint"])
        return 0.0
    generator = restore_generator(params, checkpoint, use_ema)
    module, signature = serving_module(generator, model.latent_dim)
    parent = os.path.dirname(os.path.abspath(output_dir))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=parent) as folder:
        partial = os.path.join(folder, "saved_model")
        tf.saved_model.save(module, partial, signatures={"serving_default": signature})
        difference = verify(partial, generator, model)
        with open(os.path.join(partial, METADATA_FILE), "w", encoding="utf-8") as file:
            json.dump(metadata, file, indent=1)
        shutil.rmtree(output_dir, ignore_errors=True)
        os.replace(partial, output_dir)
    logging.info("Wrote %s from %s; reloaded, it differs by %.1e at most.", output_dir, checkpoint, difference)
    return difference


def serving_module(generator, latent_dim):
    """A `tf.Module` that holds `generator`, and the concrete function of its signature."""
    import tensorflow as tf

    from keras_an.models import attentive_layers, attentive_probe

    module = tf.Module()
    module.probe = attentive_probe(generator)
    has_layouts = bool(attentive_layers(generator))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, latent_dim), tf.float32, name="z"),
            tf.TensorSpec((None,), tf.int32, name="label"),
        ]
    )
    def serve(z, label):
        seen = module.probe([z, label], training=False)
        outputs = {"images": seen["outputs"]}
        return {**outputs, "layouts": seen["layouts"][0]} if has_layouts else outputs

    module.serve = serve
    return module, serve.get_concrete_function()


def verify(path, generator, model):
    """Compares a SavedModel with the live generator on batches of 1, 3 and 8.

    Args:
        path: folder of the SavedModel.
        generator: the live `keras.Model`.
        model: `schema.ModelConfig`.

    Returns:
        The largest absolute difference of the images.

    Raises:
        ExportError: where it exceeds the tolerance, 1e-4, or the output is not finite.
    """
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures["serving_default"]
    random = np.random.default_rng(0)
    worst = 0.0
    for batch_size in (1, 3, 8):
        z = tf.constant(random.normal(size=(batch_size, model.latent_dim)), tf.float32)
        label = tf.constant(random.integers(model.num_classes, size=batch_size), tf.int32)
        difference = np.abs(serve(z=z, label=label)["images"] - generator([z, label], training=False)).max()
        worst = max(worst, float(difference))
        if not difference <= TOLERANCE:  # also where it is not a number
            raise ExportError(
                f"The SavedModel in {path} differs from the live model by {difference} at batch {batch_size}; at most "
                f"{TOLERANCE} is allowed. Nothing was replaced."
            )
    return worst


def _digest(checkpoint):
    """SHA-256 of the checkpoint's index, which holds a checksum of every tensor."""
    with open(checkpoint + ".index", "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _is_exported(output_dir, metadata):
    """Whether the folder holds this very export already.

    Raises:
        ExportError: where it holds something that this tool did not make.
    """
    if not os.path.exists(output_dir) or (os.path.isdir(output_dir) and not os.listdir(output_dir)):
        return False
    path = os.path.join(output_dir, METADATA_FILE)
    if not os.path.exists(path):
        raise ExportError(f"--output_dir={output_dir} is there and is no export of this tool. Name another folder.")
    with open(path, encoding="utf-8") as file:
        return json.load(file) == metadata


if __name__ == "__main__":
    app.run(main)
