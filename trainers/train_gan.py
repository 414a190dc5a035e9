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
  label accuracy of {num_samples} generated images: {label_accuracy:.3f}
    (real test images: {classifier_test_accuracy:.3f})
  Fréchet distance in the classifier's features: {frechet_distance:.2f}
    (real training images: {frechet_distance_floor:.2f})
  spread within a class over that of real images: {spread_ratio:.2f}
Pictures: {model_dir}/samples.png, {model_dir}/layouts.png
TensorBoard: {python} -m tensorboard.main --logdir {model_dir}
"""


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Everything is a flag. Received: {argv[1:]}")
    # TensorFlow's saver logs through absl too; a run's log is the run's.
    logging.get_absl_handler().addFilter(lambda record: f"{os.sep}tensorflow{os.sep}" not in record.pathname)
    from trainers import configs, run_directory

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
    scores = run(training_loop, params, FLAGS.model_dir, FLAGS.mode)
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
    data, resolution = params.task.train_data, params.task.model.resolution
    input_pipelines.check(strategy, data, resolution)
    trainer = gan_trainer.GanTrainer(params, strategy)
    evaluator = metrics.GanEvaluator(params, model_dir, trainer.ema_generator, trainer.discriminator)

    def make_dataset(steps_done):
        start = steps_done * params.trainer.discriminator_steps
        return input_pipelines.training_dataset(strategy, data, resolution, params.runtime.seed, start)

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
    return SUMMARY.format(
        model_dir=model_dir,
        train_steps=params.trainer.train_steps,
        num_samples=params.task.evaluation.num_samples,
        python=os.path.relpath(sys.executable),
        **scores,
    )


if __name__ == "__main__":
    app.run(main)
