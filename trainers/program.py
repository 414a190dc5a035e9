"""What the mains of the trainers share: flags, errors in one line, and the modes."""

import contextlib
import os
import shlex
import sys

from absl import app, flags, logging

from trainers import cpu

FLAGS = flags.FLAGS

# Of the process. What can be mended by another setting is 2; 75 asks for the same start again.
EXIT_REFUSED, EXIT_DIVERGED, EXIT_NOT_EVALUATED, EXIT_NOT_WRITTEN, EXIT_START_AGAIN = 2, 3, 4, 74, 75

_TRAINING = ("train", "train_and_eval")  # modes
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
    flags.DEFINE_enum("mode", "train_and_eval", ["train", "eval", "train_and_eval", "continuous_eval"], "What to do.")
    flags.DEFINE_string("model_dir", None, "Folder of the run: checkpoints, events, params.yaml.", required=True)
    flags.DEFINE_multi_string("config_file", [], "YAML file over the experiment; may be given several times.")
    flags.DEFINE_multi_string(
        "params_override", [], "Settings over all files: a.b=1,c.d=x; may be given several times."
    )
    flags.DEFINE_string("profile_steps", None, "Steps to profile for TensorBoard, first:last, after the tracing ones.")


def start(argv):
    """What every main begins with: everything is a flag, `~` is the home folder, and a run's log is the run's."""
    if len(argv) > 1:
        raise app.UsageError(f"Everything is a flag. Received: {argv[1:]}")
    for name in FLAGS:  # no shell does behind a `=`
        value = FLAGS[name].value
        if isinstance(value, str) and value.startswith("~"):
            FLAGS[name].value = os.path.expanduser(value)
        elif isinstance(value, list) and any(str(part).startswith("~") for part in value):
            FLAGS[name].value = [os.path.expanduser(part) for part in value]
    # TensorFlow's saver logs through absl too.
    logging.get_absl_handler().addFilter(lambda record: f"{os.sep}tensorflow{os.sep}" not in record.pathname)
    cpu.choose_kernels()  # before TensorFlow is imported


def main(argv, application, build):
    """Parses, builds, runs.

    Args:
        argv: of the main; everything is a flag.
        application: "gan" or "inpainting", that of the experiments which this main trains.
        build: function from the configuration, the run's folder and the steps to profile to a `loop.TrainingLoop`;
            raises ValueError where networks, devices and data do not go together, and writes nothing.
    """
    start(argv)
    with contextlib.ExitStack() as at_end:
        _main(application, build, at_end)


def _main(application, build, at_end):
    import tensorflow as tf

    from trainers import configs
    from trainers.data import classes, input_pipelines
    from trainers.training import checkpoints, loop, run_directory

    try:
        params = configs.resolve(FLAGS.experiment, FLAGS.config_file, FLAGS.params_override)
        if params.application != application:
            other = {"gan": "trainers.train_gan", "inpainting": "trainers.train_inpainting"}[params.application]
            raise configs.ConfigError(f"--experiment={FLAGS.experiment} is one of python -m {other}.")
        profile_steps = _steps(FLAGS.profile_steps)
        input_pipelines.make_paths_absolute(params.task)
        if application == "gan":
            classes.take_stored_number(params.task.model, FLAGS.model_dir)
        is_read = FLAGS.mode not in _TRAINING
        run_directory.check(FLAGS.model_dir, params, must_exist=FLAGS.mode == "eval", is_read=is_read)
        training_loop = build(params, FLAGS.model_dir, profile_steps)
        at_end.callback(training_loop.close)
        if FLAGS.mode in _TRAINING and training_loop.workers.is_chief:
            # Networks, devices and data are as they must be; from here on the folder is this run's.
            training_loop.lock.take()
            run_directory.prepare(FLAGS.model_dir, params, training_loop.class_names)
    except ValueError as error:
        logging.debug("The configuration was refused here:", exc_info=True)
        logging.error("%s", error)
        sys.exit(EXIT_REFUSED)
    except checkpoints.LOST as error:
        _stop_where_others_are_lost(params, error)
    try:
        with input_pipelines.value_errors(params.task.train_data, params.task.validation_data):
            scores = run(training_loop, params, FLAGS.model_dir, FLAGS.mode)
    except ValueError as error:  # a corrupt image, statistics of something else
        _stop(EXIT_REFUSED, f"The run stopped at step {training_loop.step}: {error}")
    except checkpoints.NotFiniteError as error:
        _stop(EXIT_DIVERGED, error)
    except checkpoints.WriteError as error:
        _stop(EXIT_NOT_WRITTEN, error)
    except (OSError, tf.errors.ResourceExhaustedError) as error:  # summaries, pictures; and memory, which is no file
        if not any(words in str(error) for words in ("No space left", "quota exceeded", "File too large")):
            raise
        _stop(EXIT_NOT_WRITTEN, error)
    except loop.PreemptedError as error:
        _stop(EXIT_START_AGAIN, f"{error} The same command goes on from {FLAGS.model_dir}'s last checkpoint.")
    except checkpoints.LOST as error:
        _stop_where_others_are_lost(params, error)
    if scores:
        print(summary(training_loop, params, FLAGS.model_dir, scores))
    failed = training_loop.failed_evaluations
    if failed:
        reasons = "; ".join(f"of step {step}, {_one_line(reason)}" for step, reason in list(failed.items())[:3])
        _stop(EXIT_NOT_EVALUATED, f"The run is done, but {len(failed)} evaluations failed: {reasons}")


def run(training_loop, params, model_dir, mode):
    """Trains, evaluates, or both, and returns the last scores, or None where there are none or another evaluates."""
    if mode == "continuous_eval":
        return training_loop.evaluate_continuously()
    restored = training_loop.restore()
    if mode == "eval" and not restored:
        raise ValueError(f"--model_dir={model_dir} holds no checkpoint to evaluate. Train first.")
    if mode != "eval":
        if training_loop.step >= params.trainer.train_steps:
            logging.info("%s is done: step %d. For more, raise trainer.train_steps.", model_dir, training_loop.step)
        else:
            training_loop.train(validate=mode == "train_and_eval")
    scores = training_loop.last_scores() if mode != "train" and training_loop.workers.is_chief else None
    # Were the chief lost while it evaluates, all would have to start again.
    training_loop.workers.mean(0.0)
    return scores


def _steps(text):
    """The first and the last step of "first:last", or None."""
    if text is None:
        return None
    parts = text.split(":")
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[0]) >= int(parts[1]):
        raise ValueError(f"--profile_steps takes first:last, two rising numbers. Received: {text!r}")
    return int(parts[0]), int(parts[1])


def _stop_where_others_are_lost(params, error):
    from trainers.configs import schema

    if params.runtime.distribution_strategy not in schema.OF_SEVERAL_PROCESSES:
        raise error
    _stop(
        EXIT_START_AGAIN,
        f"Another worker, or the TPU, does not answer ({type(error).__name__}: {_one_line(error.message)}). Stop and "
        f"start all: they go on from {FLAGS.model_dir}'s last checkpoint.",
    )


def _one_line(text, most=300):
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def _stop(code, message):
    logging.debug("The run stopped here:", exc_info=True)
    logging.error("%s", message)
    sys.exit(code)


def summary(training_loop, params, model_dir, scores):
    """The text that a finished run prints."""
    values = {name: value for name, value in scores.items() if name != "step"}
    pictures = sorted(name for name in os.listdir(model_dir) if name.endswith(".png"))
    folder = shlex.quote(model_dir)
    return SUMMARY.format(
        model_dir=folder,
        step=scores["step"],
        train_steps=params.trainer.train_steps,
        table=training_loop.table(values),
        pictures=", ".join(f"{folder}/{name}" for name in pictures),
        python=os.path.relpath(sys.executable),
    )
