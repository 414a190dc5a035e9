"""After how many pictures a discriminator sees that two objects far apart do not agree, by attention, over seeds.

python -m trainers.probe_rule --output_dir=runs/rule --seeds=5

The discriminator of `trainers.compare --suite=pairs` learns, without a generator, to tell pairs that agree from others.
A cell takes minutes where a GAN takes an hour. Arms differ in the attention alone. Cells that are done are skipped.
"""

import os
import sys

from absl import app, flags, logging

from trainers import cpu, program

FLAGS = flags.FLAGS

flags.DEFINE_string("output_dir", None, "Folder of what comes out.", required=True)
flags.DEFINE_string("only", "main", "Arms, or groups of arms, main and ablations.")
flags.DEFINE_integer("seeds", 3, "Seeds of each arm.", lower_bound=1)
flags.DEFINE_integer("train_steps", 2000, "Steps of training of a cell.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Pictures of a step, half of which agree.", lower_bound=2)
flags.DEFINE_integer("test_interval", 100, "Steps between looks at the test; divides --train_steps.", lower_bound=1)
flags.DEFINE_float("learning_rate", 1e-3, "Of Adam.")
flags.DEFINE_integer("threads", 1, "Threads of TensorFlow.", lower_bound=1)
flags.DEFINE_multi_string("params_override", [], "Settings of all discriminators, a.b=1,c.d=x.")
flags.DEFINE_bool("report", False, "Whether to make tables and plots only, and to run nothing.")


def main(argv):
    program.start(argv)
    try:
        probe()
    except (ValueError, OSError) as error:
        logging.debug("The probe stopped here:", exc_info=True)
        logging.error("%s", " ".join(str(error).split()))
        sys.exit(program.EXIT_REFUSED)


def probe():
    """Runs the cells of the flags that are not done, and reports after each."""
    os.environ.update(cpu.thread_variables(FLAGS.threads))
    from trainers.comparison import grid, rule

    if FLAGS.train_steps % FLAGS.test_interval:
        raise ValueError(
            f"--train_steps must be a multiple of --test_interval, {FLAGS.test_interval}. Received: {FLAGS.train_steps}"
        )
    if FLAGS.batch_size % 2:
        raise ValueError(f"--batch_size must be even. Received: {FLAGS.batch_size}")
    if not FLAGS.learning_rate > 0:
        raise ValueError(f"--learning_rate must be above 0. Received: {FLAGS.learning_rate}")
    recipe = rule.Recipe(FLAGS.train_steps, FLAGS.batch_size, FLAGS.test_interval, FLAGS.learning_rate)
    images = recipe.train_steps * recipe.batch_size
    settings = grid.settings_of(FLAGS.params_override)
    plan = grid.Plan(FLAGS.only, FLAGS.seeds, FLAGS.seeds, images, images, 1, "", settings)
    cells, output_dir = rule.cells(plan), os.path.abspath(FLAGS.output_dir)
    if not FLAGS.report:
        for number, cell in enumerate(cells, 1):
            rule.run(cell, recipe, output_dir)
            logging.info("%s is done, %d of %d.", cell.name, number, len(cells))
            report(rule.gather(plan, cells, recipe, output_dir), output_dir)
    report(rule.gather(plan, cells, recipe, output_dir), output_dir, with_plots=True)


def report(found, output_dir, with_plots=False):
    """Writes `results.json`, `results.md` and plots of what is there."""
    from trainers.comparison import plots, results, rule

    results.write(found, rule.report(found), output_dir)
    if with_plots:
        paths = plots.draw(found, [], output_dir)
        logging.info("Tables: %s/results.md; plots: %d in %s/plots", output_dir, len(paths), output_dir)


if __name__ == "__main__":
    app.run(main)
