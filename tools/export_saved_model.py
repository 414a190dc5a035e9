"""Exports the generator of a run as a SavedModel that TensorFlow alone runs, and checks what it wrote.

python -m tools.export_saved_model --model_dir=runs/demo --output_dir=runs/demo/saved_model
python -m tools.export_saved_model --model_dir=runs/demo --best=min:frechet_distance --output_dir=best

`gan_serving.py` and `inpainting_serving.py` in `tools/exporting` describe the signatures. The graph holds no power
iteration and, but for the signature `generate`, no randomness; any batch size goes in, and of inpainting any size of
image. The SavedModel is run in a process that cannot import this package, also through `saved_model_cli run`, and
compared with the live model before it takes its place. `keras_an_export.json` in it tells versions, experiment, step,
scores, ranges and the names of the classes. docs/export.md shows what to do with it.
"""

from absl import app, flags, logging

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Folder of the run to export.", required=True)
flags.DEFINE_string("output_dir", None, "Folder to write the SavedModel to.", required=True)
flags.DEFINE_string("checkpoint", None, "Checkpoint to export, as DIR/ckpt-STEP; the newest of the run by default.")
flags.DEFINE_string("best", None, "Exports the best checkpoint by a score: min:frechet_distance, max:label_accuracy.")
flags.DEFINE_bool("use_ema", True, "Whether to export the averaged weights.")
flags.DEFINE_enum("dtype", "float32", ["float32", "float16", "bfloat16"], "Of the computation; weights stay float32.")


def main(argv):
    from tools import program
    from tools.exporting.exports import ExportError
    from trainers.configs import ConfigError
    from trainers.configs.networks import CheckpointError

    def action():
        export(FLAGS.model_dir, FLAGS.output_dir, FLAGS.checkpoint, FLAGS.best, FLAGS.use_ema, FLAGS.dtype)

    program.run(argv, action, ExportError, ConfigError, CheckpointError)


def export(model_dir, output_dir, checkpoint=None, best=None, use_ema=True, dtype="float32"):
    """Writes the SavedModel, runs it in a fresh process and compares it before it takes its place.

    Args:
        model_dir: folder of the run.
        output_dir: folder of the SavedModel. An export of this tool that is there is replaced once the new one is
            verified; anything else is refused.
        checkpoint: path of a checkpoint, or None for the run's newest.
        best: `min:SCORE` or `max:SCORE` of the run's evaluations, in place of `checkpoint`, or None.
        use_ema: whether the averaged weights are exported.
        dtype: "float32", "float16" or "bfloat16", of the computation.

    Returns:
        The largest absolute difference that was seen.

    Raises:
        ExportError: where the folder is not as it must be, or the check fails.
        ConfigError, CheckpointError: where the run or the checkpoint is not as it must be.
    """
    import tensorflow as tf

    from tools.exporting import exports, generators, runs

    tf.config.set_visible_devices([], "GPU")  # to compare on the same device, beside a run that trains on it
    if best and checkpoint:
        raise exports.ExportError(
            f"--best and --checkpoint exclude each other. Received: --best={best} --checkpoint={checkpoint}"
        )
    checkpoint = runs.best_checkpoint(model_dir, best) if best else checkpoint
    model, serving, metadata = generators.from_run(model_dir, checkpoint, use_ema, dtype)
    metadata = {"tool": "tools.export_saved_model", **metadata}
    if exports.is_exported(output_dir, metadata):
        logging.info("%s already holds %s.", output_dir, metadata["checkpoint"])
        return 0.0

    def write_and_verify(path):
        exports.write("saved_model", path, model, serving)
        return exports.verify("saved_model", path, serving)

    difference = exports.write_export(output_dir, metadata, write_and_verify)
    logging.info(
        "Wrote %s from %s; run on its own, it differs by %.1e at most.", output_dir, metadata["checkpoint"], difference
    )
    return difference


if __name__ == "__main__":
    app.run(main)
