"""Trains the class-conditional GAN.

python -m trainers.train_gan --experiment=gan_digits32 --mode=train_and_eval --model_dir=runs/demo
"""

import os
import sys

from absl import app, flags, logging

FLAGS = flags.FLAGS

flags.DEFINE_string("experiment", None, "Name of the experiment, see trainers/configs/experiments.py.", required=True)
flags.DEFINE_enum("mode", "train_and_eval", ["train", "eval", "train_and_eval"], "What to do.")
flags.DEFINE_string("model_dir", None, "Folder of the run: checkpoints, events, params.yaml.", required=True)
flags.DEFINE_multi_string("config_file", [], "YAML file over the experiment; may be given several times.")
flags.DEFINE_string("params_override", "", "Settings over all files: a.b=1,c.d=x")

SUMMARY = """
Step {step} of {train_steps} in {model_dir}
{table}
Pictures: {model_dir}/samples.png, {model_dir}/layouts.png
TensorBoard: {python} -m tensorboard.main --logdir {model_dir}
"""


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Everything is a flag. Received: {argv[1:]}")
    # TensorFlow's saver logs through absl too; a run's log is the run's.
    logging.get_absl_handler().addFilter(lambda record: f"{os.sep}tensorflow{os.sep}" not in record.pathname)
    from trainers import configs, input_pipelines, run_directory

    try:
        params = configs.resolve(FLAGS.experiment, FLAGS.config_file, FLAGS.params_override)
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
        print(summary(params, FLAGS.model_dir, scores))


def build(params, model_dir):
    """The training loop that `params` describes; writes nothing.

    Raises:
        ValueError: where networks, devices and data do not go together.
    """
    from trainers import distribution, gan_trainer, input_pipelines, loop, metrics

    distribution.set_up_runtime(params.runtime)
    strategy = distribution.get_strategy(params.runtime)
    data, model = params.task.train_data, params.task.model
    input_pipelines.check(
        strategy, data, model.resolution, num_classes=model.num_classes, validation_data=params.task.validation_data
    )
    trainer = gan_trainer.GanTrainer(params, strategy)
    evaluator = metrics.GanEvaluator(params, model_dir, trainer.ema_generator, trainer.discriminator, strategy)

    def make_dataset(steps_done):
        return input_pipelines.training_dataset(
            strategy,
            data,
            model.resolution,
            params.runtime.seed,
            steps_done * trainer.batches_per_step,
            image_channels=model.image_channels,
            num_classes=model.num_classes,
        )

    return loop.TrainingLoop(trainer, evaluator, make_dataset, params, model_dir)


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


def summary(params, model_dir, scores):
    """The text that a finished run prints."""
    from trainers.score_names import table

    values = {name: value for name, value in scores.items() if name != "step"}
    return SUMMARY.format(
        model_dir=model_dir,
        step=scores["step"],
        train_steps=params.trainer.train_steps,
        table=table(values, params.task.evaluation.num_samples, params.runtime.seed),
        python=os.path.relpath(sys.executable),
    )


if __name__ == "__main__":
    app.run(main)
