"""Trains for long, exports on the way, and tells whether memory, threads, descriptors and files stay bounded.

python -m tools.benchmarks.soak --model_dir=runs/soak
python -m tools.benchmarks.soak --model_dir=runs/soak --train_steps=2000 --every=500 --params_override=runtime.seed=3

Trains an experiment in a process of its own with an evaluation every `--every` steps, exports each checkpoint of these
in another, and prints a Markdown table of what the training process holds. A straight line through its resident memory
from the second checkpoint on must not rise by more than `--most_growth` MiB in 1,000 steps; threads, descriptors and
checkpoints must not grow in number. Linux tells all of it.
"""

import os
import subprocess
import sys
import time

import numpy as np
from absl import app, flags, logging

from tools import program
from tools.exporting.runs import steps_of

FLAGS = flags.FLAGS

flags.DEFINE_string("experiment", "gan_digits32", "Name of the experiment.")
flags.DEFINE_string("model_dir", None, "Folder of the run, a new one.", required=True)
flags.DEFINE_integer("train_steps", 2000, "Steps of training.", lower_bound=1)
flags.DEFINE_integer("every", 500, "Steps between evaluations, checkpoints and exports.", lower_bound=1)
flags.DEFINE_multi_string("params_override", [], "Settings over the experiment: a.b=1,c.d=x; may be repeated.")
flags.DEFINE_float("most_growth", 20.0, "MiB in 1,000 steps by which resident memory may grow.")


def main(argv):
    program.run(argv, soak)


def soak():
    """Trains, watches, and ends with exit code 1 where something grew; raises `program.ToolError` for bad flags."""
    if os.path.exists(FLAGS.model_dir):
        raise program.ToolError(f"--model_dir must be a new folder. Received: --model_dir={FLAGS.model_dir}")
    if FLAGS.train_steps < 3 * FLAGS.every:
        raise program.ToolError(
            f"--train_steps must be at least 3 times --every. Received: {FLAGS.train_steps}, {FLAGS.every}"
        )
    log = FLAGS.model_dir.rstrip("/") + ".log"
    os.makedirs(os.path.dirname(os.path.abspath(log)), exist_ok=True)
    with open(log, "wb") as file:
        process = subprocess.Popen(training_command(), stdout=file, stderr=subprocess.STDOUT)
    try:
        samples = watch(process)
    finally:
        process.kill()  # where it has not ended
    if process.returncode:
        logging.error("Training ended with exit code %d; see %s", process.returncode, log)
        sys.exit(1)
    problems = judge(samples, FLAGS.most_growth)
    print("\n".join(problems) or f"Bounded over {FLAGS.train_steps} steps; the log of training is {log}")
    sys.exit(1 if problems else 0)


def training_command():
    """The command that trains."""
    settings = f"trainer.train_steps={FLAGS.train_steps}"
    for name in ("validation_interval", "checkpoint_interval"):
        settings += f",trainer.{name}={FLAGS.every}"
    override = ",".join([settings, *FLAGS.params_override])
    return [
        *(sys.executable, "-m", "trainers.train_gan", f"--experiment={FLAGS.experiment}", "--mode=train_and_eval"),
        *(f"--model_dir={FLAGS.model_dir}", f"--params_override={override}"),
    ]


def watch(process):
    """Exports every checkpoint of a training process until it ends, and prints what it held just before the next one.

    Returns:
        Dictionaries with `seconds`, `step`, `memory` in MiB, `threads`, `descriptors` and `checkpoints`, two a second.
    """
    print("| step | resident memory, MiB | threads | descriptors | checkpoints |\n|---|---|---|---|---|", flush=True)
    samples, exports, step = [], [], 0
    while process.poll() is None:
        steps = steps_of(FLAGS.model_dir)
        if steps and steps[-1] != step:
            if step:
                print_row(samples[-1])
            step = steps[-1]
            exports.append(export(step))
        held = holdings(process.pid)
        if held:
            samples.append({"seconds": time.monotonic(), "step": step, "checkpoints": len(steps), **held})
        time.sleep(0.5)
    print_row(samples[-1])
    if any(process.wait() for process in exports):
        logging.error("A checkpoint could not be exported: see tools.export_saved_model on %s.", FLAGS.model_dir)
        sys.exit(1)
    return samples


def print_row(sample):
    print("| {step} | {memory:.0f} | {threads} | {descriptors} | {checkpoints} |".format(**sample), flush=True)


def holdings(pid):
    """What a process holds: `memory` in MiB, `threads` and `descriptors`; None where it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
        memory = int(fields["VmRSS"].split()[0]) / 2**10  # from KiB
        return {"memory": memory, "threads": int(fields["Threads"]), "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}
    except (OSError, KeyError):
        return None


def export(step):
    """Starts to export a checkpoint, in a process of its own."""
    command = [
        *(sys.executable, "-m", "tools.export_saved_model", f"--model_dir={FLAGS.model_dir}"),
        *(f"--checkpoint={FLAGS.model_dir}/ckpt-{step}", f"--output_dir={FLAGS.model_dir}/saved_model-{step}"),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def judge(samples, most_growth):
    """What grew without bound, as sentences; prints the slope of memory.

    Args:
        samples: of `watch`. Those before the second checkpoint are left out: graphs and caches are made then.
        most_growth: MiB in 1,000 steps.
    """
    steps = sorted({sample["step"] for sample in samples} - {0})
    late = [sample for sample in samples if sample["step"] >= steps[1]]
    arrival = {step: next(sample["seconds"] for sample in samples if sample["step"] == step) for step in steps[1:]}
    pace = (steps[-1] - steps[1]) / (arrival[steps[-1]] - arrival[steps[1]])  # steps a second
    slope, _ = np.polyfit([sample["seconds"] for sample in late], [sample["memory"] for sample in late], 1)
    slope *= 1000 / pace
    print(f"\nResident memory grows by {slope:.1f} MiB in 1,000 steps, from {len(late)} samples.")
    problems = []
    if slope > most_growth:
        problems.append(f"Memory grows by more than --most_growth={most_growth:g} MiB in 1,000 steps.")
    for name in ("threads", "descriptors", "checkpoints"):
        first, last = (max(sample[name] for sample in late if sample["step"] == step) for step in (steps[1], steps[-1]))
        if last > first:
            problems.append(f"The number of {name} grew from {first} to {last}.")
    return problems


if __name__ == "__main__":
    app.run(main)
