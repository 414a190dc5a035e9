"""Compares attentions, and ablations of Attentive Normalization, over seeds: a grid of runs by one command.

python -m trainers.compare --suite=pairs --output_dir=runs/pairs

Each cell of the grid, an arm with a seed, is a run of `trainers.train_gan` in a process of its own. The same command
goes on where it was stopped; with `--report` it only makes tables and plots of what is there.
"""

import os
import sys

from absl import app, flags, logging

from trainers import program

FLAGS = flags.FLAGS

flags.DEFINE_enum("suite", None, ["digits", "pairs", "pairs64", "cifar10"], "What is learned.", required=True)
flags.DEFINE_string("output_dir", None, "Folder of the comparison.", required=True)
flags.DEFINE_string("only", "main,ablations", "Arms, or groups of arms, main and ablations.")
flags.DEFINE_integer("seeds", 3, "Seeds of each main arm.")
flags.DEFINE_integer("ablation_seeds", 2, "Seeds of each ablation.")
flags.DEFINE_integer("jobs", 2, "Cells at a time.")
flags.DEFINE_integer("threads", 1, "Threads of each cell.")
flags.DEFINE_string("data_path", "", "Folder of the images, of suites that read files.")
flags.DEFINE_integer("images", None, "Real images that a cell of a main arm sees; by default the suite's.")
flags.DEFINE_integer("ablation_images", None, "Real images of an ablation's cell; by default the suite's.")
flags.DEFINE_integer("evaluations", None, "Evaluations of a cell of a main arm; by default the suite's.")
flags.DEFINE_multi_string("params_override", [], "Settings of all cells, a.b=1,c.d=x; may be given several times.")
flags.DEFINE_bool("report", False, "Whether to make tables and plots only, and to run nothing.")
flags.DEFINE_float("log_seconds", 60.0, "Between lines of progress, where there is no terminal.")

EXIT_FAILED, EXIT_REFUSED, EXIT_START_AGAIN = 1, 2, 75  # cells failed; a flag is wrong; the same command goes on


def main(argv):
    program.start(argv)
    try:
        sys.exit(compare())
    except (ValueError, OSError) as error:
        logging.debug("The comparison stopped here:", exc_info=True)
        logging.error("%s", " ".join(str(error).split()))
        sys.exit(EXIT_REFUSED)


def compare():
    """Runs the grid of the flags, reports, and returns the exit code."""
    from trainers.comparison import grid, processes, progress

    suite, output_dir = grid.SUITES[FLAGS.suite], os.path.abspath(FLAGS.output_dir)
    lengths = {
        name: getattr(suite, name) if FLAGS[name].value is None else FLAGS[name].value
        for name in ("images", "ablation_images", "evaluations")
    }
    plan = grid.Plan(
        only=FLAGS.only,
        seeds=FLAGS.seeds,
        ablation_seeds=FLAGS.ablation_seeds,
        data_path=os.path.abspath(FLAGS.data_path) if FLAGS.data_path else "",
        settings=grid.settings_of(FLAGS.params_override),
        **lengths,
    )
    for name in ("jobs", "threads"):
        if FLAGS[name].value < 1:
            raise grid.GridError(f"--{name} must be at least 1. Received: {FLAGS[name].value}")
    cells = grid.cells(FLAGS.suite, plan, os.path.join(output_dir, processes.JUDGE))
    if FLAGS.report:
        report(plan, cells, output_dir)
        return 0
    shown = progress.GridProgress(cells, processes.Records(output_dir), FLAGS.jobs, FLAGS.log_seconds)
    runner = processes.Grid(
        *(FLAGS.suite, cells, output_dir, FLAGS.jobs, FLAGS.threads, shown),
        after_cell=lambda: report(plan, cells, output_dir, with_plots=False),
    )
    is_through = runner.run(grid.shared_settings(plan))
    shown.close()
    report(plan, cells, output_dir)
    if not is_through:
        logging.info("Stopped by a signal; all cells are saved. The same command goes on.")
        return EXIT_START_AGAIN
    return EXIT_FAILED if runner.failures else 0


def report(plan, cells, output_dir, with_plots=True):
    """Writes `results.json`, `results.md` and plots of what is there."""
    from trainers.comparison import plots, results, tables

    found = results.gather(FLAGS.suite, plan, cells, output_dir)
    results.write(found, tables.report(found), output_dir)
    if with_plots:
        paths = plots.draw(found, cells, output_dir)
        logging.info("Tables: %s/results.md; plots: %d in %s/plots", output_dir, len(paths), output_dir)


if __name__ == "__main__":
    app.run(main)
