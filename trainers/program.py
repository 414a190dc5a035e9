"""What the mains of the trainers share: flags, errors in one line, and the modes."""

import os
import sys

from absl import app, flags, logging

FLAGS = flags.FLAGS

SUMMARY = """
Step {step} of {train_steps} in {model_dir}
{table}
Pictures: {pictures}
TensorBoard: {python} -m tensorboard.main --logdir {model_dir}
"""


def define_flags():
    """Defines the flags of a trainer, as those of the main that calls."""
    flags.disclaim_key_flags()
    flags.DEFINE_string(
        "experiment", None, "Name of the experiment, see trainers/configs/experiments.py.", required=True
    )
    flags.DEFINE_enum("mode", "train_and_eval", ["train", "eval", "train_and_eval"], "What to do.")
    flags.DEFINE_string("model_dir", None, "Folder of the run: checkpoints, events, params.yaml.", required=True)
    flags.DEFINE_multi_string("config_file", [], "YAML file over the experiment; may be given several times.")
    flags.DEFINE_string("params_override", "", "Settings over all files: a.b=1,c.d=x")


def main(argv, application, build):
    """Parses, builds, runs.

    Args:
        argv: of the main; everything is a flag.
        application: "gan" or "inpainting", that of the experiments which this main trains.
        build: function from the configuration and the run's folder to a `loop.TrainingLoop`; raises ValueError where
            networks, devices and data do not go together, and writes nothing.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Everything is a flag. Received: {argv[1:]}")
    # TensorFlow's saver logs through absl too; a run's log is the run's.
    logging.get_absl_handler().addFilter(lambda record: f"{os.sep}tensorflow{os.sep}" not in record.pathname)
    from trainers import configs, input_pipelines, run_directory

    try:
        params = configs.resolve(FLAGS.experiment, FLAGS.config_file, FLAGS.params_override)
        if params.application != application:
            other = {"gan": "trainers.train_gan", "inpainting": "trainers.train_inpainting"}[params.application]
            raise configs.ConfigError(f"--experiment={FLAGS.experiment} is one of python -m {other}.")
        run_directory.check(FLAGS.model_dir, params, must_exist=FLAGS.mode == "eval")
        training_loop = build(params, FLAGS.model_dir)
        if FLAGS.mode != "eval":
            # Networks, devices and data are as they must be; from here on the folder is this run's.
            run_directory.prepare(FLAGS.model_dir, params)
    except ValueError as error:
        logging.debug("The configuration was refused here:", exc_info=True)
        logging.error("%s", error)
        sys.exit(2)
    try:
        with input_pipelines.value_errors():
            scores = run(training_loop, params, FLAGS.model_dir, FLAGS.mode)
    except ValueError as error:  # a corrupt image, statistics of something else
        logging.debug("The run stopped here:", exc_info=True)
        logging.error("The run stopped at step %d: %s", training_loop.step, error)
        sys.exit(2)
    if scores:
        print(summary(training_loop, params, FLAGS.model_dir, scores))


def run(training_loop, params, model_dir, mode):
    """Trains, evaluates, or both, and returns the last scores, or None where `mode` is "train"."""
    restored = training_loop.restore()
    if mode == "eval" and not restored:
        logging.error("--model_dir=%s holds no checkpoint to evaluate. Train first.", model_dir)
        sys.exit(2)
    if mode != "eval":
        if training_loop.step >= params.trainer.train_steps:
            logging.info("%s is done: step %d. For more, raise trainer.train_steps.", model_dir, training_loop.step)
        else:
            training_loop.train(validate=mode == "train_and_eval")
    if mode != "train":
        return training_loop.last_scores()
    return None


def summary(training_loop, params, model_dir, scores):
    """The text that a finished run prints."""
    values = {name: value for name, value in scores.items() if name != "step"}
    pictures = sorted(name for name in os.listdir(model_dir) if name.endswith(".png"))
    return SUMMARY.format(
        model_dir=model_dir,
        step=scores["step"],
        train_steps=params.trainer.train_steps,
        table=training_loop.table(values),
        pictures=", ".join(f"{model_dir}/{name}" for name in pictures),
        python=os.path.relpath(sys.executable),
    )
