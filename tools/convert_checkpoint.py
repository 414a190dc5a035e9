"""Converts a generator from what a person has to what a person needs, and checks what it wrote.

python -m tools.convert_checkpoint --checkpoint=model_logs/run --output_dir=converted
python -m tools.convert_checkpoint --checkpoint=runs/demo/ckpt-1400 --output_dir=mobile --format=litert,onnx

Reads a run or one of its checkpoints, a `.keras` file, a `.weights.h5` file (with `NAME.json` or the run's
`params.yaml` beside it), or a TensorFlow 1 checkpoint of the authors' released inpainting code. Writes, as `--format`
asks:

`saved_model`: a SavedModel with all signatures of `gan_serving.py` or `inpainting_serving.py` in `tools/exporting`.
`generator.keras` (`keras`): the network with its weights, for `keras.saving.load_model` where keras_an is imported.
`generator.weights.h5` and `generator.json` (`weights`): for `load_weights` of the same network on the same Keras. Of
the released code, `keras_an.models.inpainting_generator(g_cnum, num_entities=num_entities, statistics="released")`.
`generator.tflite` (`litert`) and `generator.onnx` (`onnx`): `--signature` alone, for any batch size and size of image.
`keras_an_export.json`: versions, what it was made of, ranges of inputs and outputs.

SavedModel, LiteRT and ONNX hold the kernels divided by their spectral norms; `keras` and `weights` hold the wrappers,
and go on training. Each is run in a process of its own and compared with the live model before it takes its place.
"""

import os

from absl import app, flags, logging

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "checkpoint",
    None,
    "What to convert: a run's folder or DIR/ckpt-STEP, a .keras or .weights.h5 file, or DIR/snap-1000 of the released "
    "code or its folder, whose file `checkpoint` names the newest.",
    required=True,
)
flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
flags.DEFINE_list("format", ["saved_model", "weights"], "Of saved_model, keras, weights, litert, onnx.")
flags.DEFINE_string("signature", "serving_default", "The signature that LiteRT and ONNX get.")
flags.DEFINE_bool("use_ema", True, "Whether to take the averaged weights of a run.")


def main(argv):
    from tools import program
    from tools.exporting.exports import ExportError
    from trainers.configs import ConfigError
    from trainers.configs.networks import CheckpointError

    def action():
        convert(FLAGS.checkpoint, FLAGS.output_dir, FLAGS.format, FLAGS.signature, FLAGS.use_ema)

    program.run(argv, action, ExportError, ConfigError, CheckpointError)


def convert(checkpoint, output_dir, formats, signature="serving_default", use_ema=True):
    """Writes a generator in several formats, each of which is verified before all take their place.

    Args:
        checkpoint: as `tools.exporting.generators.load` takes it.
        output_dir: folder to write to. What this tool wrote there is replaced; anything else is refused.
        formats: keys of `tools.exporting.exports.FORMATS`.
        signature: the one that LiteRT and ONNX get.
        use_ema: whether the averaged weights of a run are taken.

    Raises:
        ExportError, ConfigError, CheckpointError: where there is no generator, a format cannot be written, the folder
            is not as it must be, or what was written differs from the live model.
    """
    import tensorflow as tf

    from tools.exporting import exports, generators

    tf.config.set_visible_devices([], "GPU")  # to compare on the same device
    model, serving, metadata = generators.load(checkpoint, use_ema)
    exports.check_formats(formats, signature, serving)
    made_of = {**metadata["made_of"], "formats": sorted(formats), "signature": signature}
    metadata = {"tool": "tools.convert_checkpoint", **metadata, "signature": signature, "made_of": made_of}
    if exports.is_exported(output_dir, metadata):
        logging.info("%s already holds %s.", output_dir, metadata["checkpoint"])
        return

    def write_and_verify(folder):
        differences = []
        for form in formats:
            path = os.path.join(folder, exports.FORMATS[form][0])
            if form == "weights":
                with open(os.path.join(folder, "generator.json"), "w", encoding="utf-8") as file:
                    file.write(exports.description_of(model))
            exports.write(form, path, model, serving, signature)
            differences.append(exports.verify(form, path, serving, signature if form in ("litert", "onnx") else None))
            logging.info("%s: run on its own, it differs by %.1e at most.", os.path.basename(path), differences[-1])
        return max(differences)

    difference = exports.write_export(output_dir, metadata, write_and_verify)
    logging.info("Wrote %s from %s; it differs by %.1e at most.", output_dir, checkpoint, difference)


if __name__ == "__main__":
    app.run(main)
