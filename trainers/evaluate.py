"""Scores the averaged generator of a run, of either trainer.

python -m trainers.evaluate --model_dir=runs/demo --num_samples=50000 --inception_path=DIR --output=scores.json

Prints a table in which the number of generated images and the seed of their noise stand beside every score. The run
stays as it is, but for the classifier and the statistics of the real images, which are made where they are missing.
"""

import json
import sys

from absl import app, flags, logging

from trainers import program

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Folder of the run.", required=True)
flags.DEFINE_string("checkpoint", None, "Checkpoint to score, as DIR/ckpt-STEP; the newest of the run by default.")
flags.DEFINE_integer("num_samples", None, "Generated images; task.evaluation.num_samples of the run by default.")
flags.DEFINE_integer("seed", None, "Of the noise; runtime.seed of the run by default.")
flags.DEFINE_string("inception_path", None, "Folder or TF-Hub handle of TF-GAN's Inception; by default the run's.")
flags.DEFINE_bool("intra_class", None, "Whether to score within classes too; by default as the run does.")
flags.DEFINE_string("statistics_dir", None, "Folder of what is known of the real images; by default the run's.")
flags.DEFINE_enum("device", "auto", ["auto", "cpu"], "auto takes the GPUs that are there.")
flags.DEFINE_multi_string("params_override", [], "Settings over those of the run: a.b=1,c.d=x; may be repeated.")
flags.DEFINE_string("output", None, "JSON file to write the scores to.")


def main(argv):
    program.start(argv)
    try:
        from trainers import configs
        from trainers.training import run_directory

        _check_flags(run_directory.load(FLAGS.model_dir).application)
        overrides = [*_overrides(), *configs.split(FLAGS.params_override)]
        result, table = evaluate(FLAGS.model_dir, FLAGS.checkpoint, FLAGS.seed, overrides)
        features = (
            f" in features of {result['features']} {result['weights_sha256'][:12]}" if "features" in result else ""
        )
        print(f"{result['checkpoint']}{features}")
        print(table)
        if FLAGS.output:
            run_directory.write(FLAGS.output, json.dumps(result, indent=1) + "\n")
    except (ValueError, OSError) as error:
        logging.debug("The evaluation stopped here:", exc_info=True)
        logging.error("%s", " ".join(str(error).split()))
        sys.exit(2)


def evaluate(model_dir, checkpoint=None, seed=None, overrides=()):
    """Scores the averaged generator of a checkpoint.

    Args:
        model_dir: folder of the run.
        checkpoint: path of a checkpoint, or None for the run's newest.
        seed: integer, or None for the run's.
        overrides: strings `key=value` over the run's configuration.

    Returns:
        JSON values by name: `checkpoint`, `scores`, floats by name, and of a class-conditional GAN `num_samples`,
        `seed` and what `GanEvaluator.description` tells about features and real images; and the scores as text.

    Raises:
        ValueError: where the run, the checkpoint, the data, Inception or the statistics are not as they must be.
    """
    from trainers.configs import networks, schema
    from trainers.data import input_pipelines
    from trainers.evaluation import gan_evaluator, inpainting_evaluator
    from trainers.training import distribution, run_directory

    params = run_directory.load(model_dir, overrides)
    input_pipelines.make_paths_absolute(params.task)
    checkpoint = networks.find_checkpoint(model_dir, checkpoint)
    if params.runtime.distribution_strategy in schema.OF_SEVERAL_PROCESSES:  # of training alone
        params.runtime.distribution_strategy, params.runtime.all_reduce_alg = "mirrored", None
    distribution.set_up_runtime(params.runtime)
    strategy = distribution.get_strategy(params.runtime)
    with strategy.scope():
        generator = networks.restore_generator(params, checkpoint)
    if params.application == "inpainting":
        evaluator = inpainting_evaluator.InpaintingEvaluator(params, generator)
        scores = evaluator.evaluate()
        return {"checkpoint": checkpoint, "scores": scores}, evaluator.table(scores)
    evaluator = gan_evaluator.GanEvaluator(params, model_dir, generator, strategy=strategy, seed=seed)
    scores = evaluator.evaluate()
    result = {
        "checkpoint": checkpoint,
        "num_samples": params.task.evaluation.num_samples,
        "seed": params.runtime.seed if seed is None else seed,
        "scores": scores,
        **evaluator.description(),
    }
    return result, evaluator.table(scores)


def _check_flags(application):
    given = [name for name in ("num_samples", "intra_class", "statistics_dir") if FLAGS[name].value is not None]
    if given and application == "inpainting":
        raise ValueError(
            f"--{given[0]} is of class-conditional GANs, and {FLAGS.model_dir} is an inpainting run: how many images "
            "it scores is set by --params_override=task.evaluation.num_images=..."
        )


def _overrides():
    """The flags that stand for settings of the run."""
    keys = {
        name: f"task.evaluation.{name}" for name in ("num_samples", "inception_path", "intra_class", "statistics_dir")
    }
    given = [f"{key}={json.dumps(FLAGS[name].value)}" for name, key in keys.items() if FLAGS[name].value is not None]
    if FLAGS.device == "cpu" or "runtime.num_gpus=" not in ",".join(FLAGS.params_override):
        given.append(f"runtime.num_gpus={'0' if FLAGS.device == 'cpu' else 'null'}")  # not the run's own number
    return given


if __name__ == "__main__":
    app.run(main)
