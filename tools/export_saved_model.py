"""Exports the generator of a run as a SavedModel, and checks what it wrote.

python -m tools.export_saved_model --model_dir=runs/demo --output_dir=runs/demo/saved_model

Of a class-conditional GAN, `serving_default`: `z` float32 (None, latent_dim), `label` int32 (None,) in [0, classes) to
`images` float32 (None, height, width, channels) in [-1, 1] and `layouts` float32 (None, height', width', entities), the
soft layout of the generator's first Attentive Normalization (absent where it has none). Deterministic, for any batch
size. `keras_an_export.json` beside it tells the checkpoint, and what the signature does not: the number of classes.

Of an inpainting run, `serving_default`: `image` and `mask` uint8 of any size to `completed` uint8; `raw` gives all
outputs as floats. `tools/serving.py` says more, and `tools.inpaint` runs it on files.
"""

import os
import sys

import numpy as np
from absl import app, flags, logging

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Folder of the run to export.", required=True)
flags.DEFINE_string("output_dir", None, "Folder to write the SavedModel to.", required=True)
flags.DEFINE_string("checkpoint", None, "Checkpoint to export, as DIR/ckpt-STEP; the newest of the run by default.")
flags.DEFINE_bool("use_ema", True, "Whether to export the averaged weights.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Everything is a flag. Received: {argv[1:]}")
    # TensorFlow's saver logs through absl too.
    logging.get_absl_handler().addFilter(lambda record: f"{os.sep}tensorflow{os.sep}" not in record.pathname)
    from tools.serving import ExportError
    from trainers.configs import ConfigError
    from trainers.configs.networks import CheckpointError

    try:
        export(FLAGS.model_dir, FLAGS.output_dir, FLAGS.checkpoint, FLAGS.use_ema)
    except (ExportError, ConfigError, CheckpointError, OSError) as error:
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

    from tools import serving
    from trainers import configs
    from trainers.configs.networks import find_checkpoint, restore_generator

    params = configs.load_params(os.path.join(model_dir, "params.yaml"))
    checkpoint = find_checkpoint(model_dir, checkpoint)
    metadata = {
        "checkpoint": os.path.basename(checkpoint),
        "index": serving.digest_of(checkpoint),
        "use_ema": use_ema,
        **_described(params),
    }
    if serving.is_exported(output_dir, metadata):
        logging.info("%s already holds %s.", output_dir, metadata["checkpoint"])
        return 0.0
    generator = restore_generator(params, checkpoint, use_ema)

    def write(path):
        if params.application == "inpainting":
            module, signatures = serving.inpainting_module(generator)
            tf.saved_model.save(module, path, signatures=signatures)
            return serving.verify_inpainting(path, generator)
        module, signature = serving_module(generator, params.task.model.latent_dim)
        tf.saved_model.save(module, path, signatures={"serving_default": signature})
        return verify(path, generator, params.task.model)

    difference = serving.write_export(output_dir, metadata, write)
    logging.info("Wrote %s from %s; reloaded, it differs by %.1e at most.", output_dir, checkpoint, difference)
    return difference


def _described(params):
    """What a user of the SavedModel needs to know and its signatures do not tell."""
    if params.application == "inpainting":
        return {"application": params.application}
    return {name: getattr(params.task.model, name) for name in ("num_classes", "latent_dim", "resolution")}


def serving_module(generator, latent_dim):
    """A `tf.Module` that holds `generator`, and the concrete function of its signature."""
    import tensorflow as tf

    from keras_an.models import attentive_layers, attentive_probe

    module = tf.Module()
    module.weights = generator.variables  # of the layers themselves, each would be traced by itself
    probe = attentive_probe(generator)
    has_layouts = bool(attentive_layers(generator))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, latent_dim), tf.float32, name="z"),
            tf.TensorSpec((None,), tf.int32, name="label"),
        ]
    )
    def serve(z, label):
        seen = probe([z, label], training=False)
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

    from tools.serving import check_difference

    serve = tf.saved_model.load(path).signatures["serving_default"]
    random = np.random.default_rng(0)
    worst = 0.0
    for batch_size in (1, 3, 8):
        z = tf.constant(random.normal(size=(batch_size, model.latent_dim)), tf.float32)
        label = tf.constant(random.integers(model.num_classes, size=batch_size), tf.int32)
        found = serve(z=z, label=label)["images"].numpy()
        place = f"The SavedModel in {path} differs from the live model at batch {batch_size}"
        worst = max(worst, check_difference(found, generator([z, label], training=False).numpy(), place))
    return worst


if __name__ == "__main__":
    app.run(main)
