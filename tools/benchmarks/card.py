"""Measures a GPU in the order of worth of its figures, until its time is over.

python -m tools.benchmarks.card --output_dir=card --budget_s=480
python -m tools.benchmarks.card --output_dir=card --steps=resume,training_bfloat16

Every step is a command of its own with a limit of its own, so that one that fails or hangs costs no other its figures.
Writes after each step `summary.md`, the card, versions, commands and tables, and `figures.json`, the tables' rows; of
each step a log; of the layer a JSON file each. It runs on a CPU too, where `--tiny` tries all steps in minutes.
"""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time

from absl import app, flags

from tools import program

FLAGS = flags.FLAGS

flags.DEFINE_string("output_dir", "card", "Folder to write to.")
flags.DEFINE_float("budget_s", 480.0, "Seconds for all steps.", lower_bound=1.0)
flags.DEFINE_list("steps", [], "Steps to run, in this order; all by default.")
flags.DEFINE_bool("tiny", False, "Whether to try every step on next to no work.")

LEAST_S = 15.0  # what a step needs to start at all


@dataclasses.dataclass
class Step:
    """A measurement.

    commands: lists of words behind `python`, run one after the other. limit_s: for all of them. check: function without
    arguments that returns a line about what they left, or None.
    """

    commands: list
    limit_s: float
    check: object = None


def main(argv):
    program.run(argv, measure)


def measure():
    """Runs the steps and writes what they say."""
    known = steps(FLAGS.output_dir, FLAGS.tiny)
    names = FLAGS.steps or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise program.ToolError(f"--steps must be of {', '.join(known)}. Received: {unknown[0]}")
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    summary = os.path.join(FLAGS.output_dir, "summary.md")
    with open(summary, "w", encoding="utf-8") as file:
        file.write("\n".join(["# Figures of a card", "", *card(), ""]))
    end, figures = time.monotonic() + FLAGS.budget_s, {"card": card()}
    for name in names:
        text = run_step(name, known[name], end)
        print(text, flush=True)
        with open(summary, "a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")
        figures[name] = rows(text)
        with open(os.path.join(FLAGS.output_dir, "figures.json"), "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    print(f"Wrote {summary}")


def card():
    """Lines about the card, its driver and the packages."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    except (OSError, subprocess.CalledProcessError):
        found = ["no NVIDIA card"]
    code = (
        "import keras, tensorflow as tf; print(tf.__version__, keras.__version__, *tf.config.list_physical_devices())"
    )
    versions = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
    return [*found, f"TensorFlow, Keras, devices: {versions}"]


def steps(folder, tiny):
    """The steps by name, in order of worth.

    Args:
        folder: to which they write.
        tiny: whether they do next to no work.
    """
    paper = ["16x16x8x1"] if tiny else [f"{side}x{side}x32x1" for side in (128, 256, 512, 1024)]
    batches = [] if tiny else ["32x32x256x8", "64x64x128x4", "128x128x64x2"]
    images = "32x4" if tiny else "32x64,64x32,128x16"
    few = ["--timed_calls=1", "--base_channels=4"] if tiny else ["--timed_calls=10"]

    def layer(name, sizes, *more):
        repeats = "--repeats=1" if tiny else "--repeats=15"
        output = f"--json={os.path.join(folder, name)}.json"
        return ["-m", "tools.benchmarks.layer", f"--sizes={','.join(sizes)}", repeats, output, *more]

    def training(*more):
        return ["-m", "tools.benchmarks.training", *few, *more]

    found = {}
    for size in paper:  # of its own, so that what was measured stays
        found[f"layer_{size}"] = Step([layer(f"layer_{size}", [size], "--memory_limit_gib=60")], 90)
    found["training"] = Step([training(f"--image_batches={images}")], 180)
    found["resume"] = resume_step(folder, tiny)
    for size in batches:
        found[f"layer_{size}"] = Step([layer(f"layer_{size}", [size], "--memory_limit_gib=60")], 90)
    fast = ["--layers=an,an_value,group_norm,conv3x3,copy", "--dtypes=bfloat16"]
    found["layer_bfloat16"] = Step([layer("layer_bfloat16", [*paper, *batches], *fast)], 90)
    first = images.split(",")[0]
    for precision in ("bfloat16", "float16"):
        found[f"training_{precision}"] = Step([training(f"--image_batches={images}", f"--precision={precision}")], 150)
    for precision in ("float32", "bfloat16", "float16"):
        command = training(f"--image_batches={first}", f"--precision={precision}", "--xla", "--steps_per_loop=20")
        found[f"training_xla_{precision}"] = Step([command], 150)
    inpainting = ["--kinds=reconstruction,adversarial", f"--image_batches={'16x2' if tiny else '64x16,256x8'}"]
    found["inpainting"] = Step([training(*inpainting)], 120)
    found["memory"] = Step([training(f"--image_batches={first}", "--peak_memory")], 150)
    return found


def resume_step(folder, tiny):
    """A run without a break, and one of the same steps that is started twice; both must end at the same bits."""
    half = 4 if tiny else 100
    shared = (
        f"runtime.deterministic=true,trainer.checkpoint_interval={half},trainer.summary_interval={half},"
        f"trainer.steps_per_loop={min(half, 20)}"
    )
    runs = [os.path.join(folder, name) for name in ("whole", "resumed")]

    def train(run, train_steps):
        override = f"--params_override={shared},trainer.train_steps={train_steps}"
        main_module = ["-m", "trainers.train_gan", "--experiment=gan_digits32", "--mode=train"]
        return [*main_module, f"--model_dir={run}", override]

    def check():
        different, count = differing_variables(*(os.path.join(run, f"ckpt-{2 * half}") for run in runs))
        return f"{len(different)} of {count} variables differ" + (f": {', '.join(different[:5])}" if different else "")

    return Step([train(runs[0], 2 * half), train(runs[1], half), train(runs[1], 2 * half)], 150, check)


def differing_variables(one, other):
    """Names of the variables that are not equal to the bit in two checkpoints, and the number of all."""
    import tensorflow as tf

    readers = [tf.train.load_checkpoint(path) for path in (one, other)]
    names = sorted(set(readers[0].get_variable_to_shape_map()) | set(readers[1].get_variable_to_shape_map()))
    names = [name for name in names if name.endswith("VARIABLE_VALUE")]

    def bits(reader, name):
        return reader.get_tensor(name).tobytes() if reader.has_tensor(name) else None

    return [name for name in names if bits(readers[0], name) != bits(readers[1], name)], len(names)


def run_step(name, step, end):
    """Runs a step within its limit and the time that is left; returns its part of the summary, as Markdown."""
    begin = time.monotonic()
    until = min(end, begin + step.limit_s)
    lines, log = [f"## {name}", ""], os.path.join(FLAGS.output_dir, f"{name}.log")
    with open(log, "w", encoding="utf-8") as file:
        for command in step.commands:
            left = until - time.monotonic()
            if left < LEAST_S:
                return "\n".join([*lines, "Not run to its end: its time was over."])
            lines.append(f"    python {shlex.join(command)}")
            try:
                done = subprocess.run(
                    [sys.executable, *command],
                    stdout=subprocess.PIPE,
                    stderr=file,
                    text=True,
                    timeout=left,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                return "\n".join([*lines, "", *tables(_text(error.stdout)), "", "Its time was over."])
            lines += ["", *tables(done.stdout), ""]
            if done.returncode:
                return "\n".join([*lines, f"Failed with exit code {done.returncode}: see {log}"])
    if step.check:
        lines.append(step.check())
    return "\n".join([*lines, "", f"{time.monotonic() - begin:.0f} s", ""])


def tables(text):
    """The lines of Markdown tables, with an empty line between two tables."""
    return [line for line in text.splitlines() if line.startswith("|") or not line]


def rows(text):
    """The rows of all Markdown tables in a text, as dictionaries of texts by the names of the columns."""
    found, columns = [], None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            columns = None
        elif columns is None:
            columns = cells
        elif not all(set(cell) <= set("-:") for cell in cells):
            found.append(dict(zip(columns, cells)))
    return found


def _text(output):
    return output.decode() if isinstance(output, bytes) else output or ""


if __name__ == "__main__":
    app.run(main)
