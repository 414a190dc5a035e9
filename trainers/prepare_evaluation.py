"""Trains the classifier that scores samples and measures the real images, once, for all runs that share them.

python -m trainers.prepare_evaluation --experiment=gan_cifar10_small --output_dir=runs/judge

Runs with `task.evaluation.classifier_dir` and `task.evaluation.statistics_dir` of that folder are then scored in the
features of one network. A start that was stopped goes on where it was; what is there already is left as it is.
"""

import os
import sys

from absl import app, flags, logging

from trainers import program

FLAGS = flags.FLAGS

flags.DEFINE_string("experiment", None, "Name of the experiment, see trainers/configs/experiments.py.", required=True)
flags.DEFINE_multi_string("config_file", [], "YAML file over the experiment; may be given several times.")
flags.DEFINE_multi_string("params_override", [], "Settings over all files: a.b=1,c.d=x; may be given several times.")
flags.DEFINE_string("output_dir", None, "Folder of the classifier and of the statistics of the images.", required=True)


def main(argv):
    program.start(argv)
    from trainers import configs

    try:
        params = configs.resolve(FLAGS.experiment, FLAGS.config_file, FLAGS.params_override)
        if params.application != "gan":
            raise configs.ConfigError("Only class-conditional GANs are scored in the features of a classifier.")
        for name, value in prepare(params, os.path.abspath(FLAGS.output_dir)).items():
            print(f"{name}  {value:.4f}")
    except (ValueError, OSError) as error:
        logging.debug("The preparation stopped here:", exc_info=True)
        logging.error("%s", " ".join(str(error).split()))
        sys.exit(2)


def prepare(params, output_dir):
    """Makes what evaluations need of the real images, as far as it is not there.

    Args:
        params: `schema.ExperimentConfig`.
        output_dir: folder.

    Returns:
        Scores of the real images, floats by name.

    Raises:
        ValueError: where the data or what lies in the folder are not as they must be.
    """
    from trainers.data import input_pipelines
    from trainers.evaluation import gan_evaluator
    from trainers.training import distribution

    distribution.set_up_runtime(params.runtime)
    input_pipelines.make_paths_absolute(params.task)
    params.task.evaluation.classifier_dir = params.task.evaluation.statistics_dir = output_dir
    return gan_evaluator.GanEvaluator(params, output_dir, generator=None).prepare()


if __name__ == "__main__":
    app.run(main)
