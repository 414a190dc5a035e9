"""Times whole training steps of the class-conditional GAN with AN, with self-attention and with neither, in turn.

python -m tools.benchmarks.training
python -m tools.benchmarks.training --image_batches=32x16 --xla --steps_per_loop=1,20
python -m tools.benchmarks.training --image_batches=32x16 --attention=attentive_normalization --replicas=1,2
python -m tools.benchmarks.training --image_batches=32x16 --mirrored
python -m tools.benchmarks.training --image_batches=32x1,64x1,128x1,256x1 --peak_memory --growth
python -m tools.benchmarks.training --image_batches= --summaries=gan_digits32

python -m tools.benchmarks.training --kinds=gan,reconstruction,adversarial --baseline=PATH_OF_ANOTHER_CLONE
python -m tools.benchmarks.training --pytorch=.venv-torch/bin/python

Prints Markdown tables: images/s of a step of both networks and its time in times that without attention; with
`--peak_memory`, the peak memory of the process, one each; with `--growth`, how both grow with the pixels; with
`--pipeline`, images/s that the input pipeline delivers on its own; with `--summaries`, the seconds between two
summaries of an experiment, with a summary and without in turn, and the bytes of its events. The networks are the
paper's, on random images; `--base_channels` makes them narrower.

With `--baseline` it prints how this clone's steps compare with those of another version, which run in a process of
their own with the packages of this one. The two take turns, and so may be compared on a machine that is not idle. With
`--pytorch` the other one is a GAN of the same layers in PyTorch, "before" in the table; AN is set against no attention.
"""

import itertools
import math
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

from tools import program
from tools.benchmarks import training_steps, training_summaries, two_versions
from tools.benchmarks.layer_tables import fit_exponent
from tools.benchmarks.timing import interleaved_medians, peak_gib

FLAGS = flags.FLAGS

ATTENTIONS = ["none", "attentive_normalization", "self_attention"]
HEADER = """| pixels x batch of {} | replicas | XLA | steps a call | attention | images/s | time / none |
|---|---|---|---|---|---|---|"""

flags.DEFINE_list("image_batches", ["32x16", "64x4", "128x2"], "RESOLUTIONxBATCH of each measurement.")
flags.DEFINE_list(
    "kinds",
    ["gan"],
    "Steps to time: gan, and of inpainting's two phases, reconstruction and adversarial; a table each.",
)
flags.DEFINE_list("attention", ATTENTIONS, "What the attention slot holds.")
flags.DEFINE_list("steps_per_loop", ["1"], "Steps in one call of the compiled loop; several are compared.")
flags.DEFINE_list("replicas", ["1"], "Replicas, on GPUs or logical CPU devices, that share a batch.")
flags.DEFINE_bool("mirrored", False, "Whether to compare one device with MirroredStrategy of one replica.")
flags.DEFINE_bool("xla", False, "Whether to compare with XLA on.")
flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16", "float16"], "`runtime.mixed_precision_dtype`.")
flags.DEFINE_string("baseline", None, "Folder of another clone, to compare with.")
flags.DEFINE_string("pytorch", None, "Python of an environment with PyTorch, to compare with a GAN of the same layers.")
flags.DEFINE_integer("base_channels", 64, "Channels at full resolution.", lower_bound=1)
flags.DEFINE_integer("timed_calls", 15, "Timed calls of each.", lower_bound=1)
flags.DEFINE_bool("peak_memory", False, "Whether to measure peak memory, in a process each; Linux tells it.")
flags.DEFINE_bool("growth", False, "Whether to fit how a step's time, and its peak memory, grow with the pixels.")
flags.DEFINE_bool("pipeline", False, "Whether to time the input pipeline too.")
flags.DEFINE_list("summaries", [], "Experiments of GANs on bundled data whose summaries are timed.")
flags.DEFINE_bool("print_peak", False, "Internal: prints the peak memory of the first measurement.")


def main(argv):
    program.run(argv, benchmark)


def benchmark():
    """Measures what the flags say and prints the tables; raises `program.ToolError` where one cannot be measured."""
    sizes = [parsed_size(text) for text in FLAGS.image_batches if text]
    loops, replicas = program.positive_integers("steps_per_loop"), program.positive_integers("replicas")
    if not set(FLAGS.kinds) <= set(training_steps.KINDS):
        raise program.ToolError(f"--kinds must be of {training_steps.KINDS}. Received: --kinds={','.join(FLAGS.kinds)}")
    if FLAGS.pytorch and (FLAGS.kinds, replicas, loops, FLAGS.xla or FLAGS.mirrored) != (["gan"], [1], [1], False):
        raise program.ToolError(
            "--pytorch compares steps of --kinds=gan alone: of one device, one in a call, without XLA."
        )
    if FLAGS.pytorch and FLAGS.precision != "float32":
        raise program.ToolError(f"--pytorch compares float32 alone. Received: --precision={FLAGS.precision}")
    if FLAGS.pytorch and FLAGS.baseline:
        raise program.ToolError("--pytorch and --baseline exclude each other.")
    if FLAGS.baseline or FLAGS.pytorch:
        print(two_versions.HEADER)
        other, in_pytorch = FLAGS.pytorch or FLAGS.baseline, bool(FLAGS.pytorch)
        for specification in specifications(FLAGS.kinds, sizes, replicas, loops):
            print(two_versions.row(other, specification, FLAGS.timed_calls, in_pytorch), flush=True)
        return
    training_steps.prepare()
    if max(replicas) > 1:
        training_steps.make_devices(max(replicas))
    check_replicas(replicas, sizes)
    if FLAGS.summaries:
        print(training_summaries.HEADER)
        for experiment in FLAGS.summaries:
            print(training_summaries.row(experiment, FLAGS.timed_calls), flush=True)
        print()
    if not sizes:
        return
    if FLAGS.print_peak:
        first = next(specifications(FLAGS.kinds, sizes, [1], [2]))
        training_steps.make_call(**{**first, "xla": FLAGS.xla})()
        print(peak_gib())
        return
    for kind in FLAGS.kinds:
        print(f"{chr(10) if kind != FLAGS.kinds[0] else ''}{HEADER.format(kind)}")
        measured = []
        for size in sizes:
            for specification, seconds, line in times(list(specifications([kind], [size], replicas, loops))):
                print(line, flush=True)
                measured.append((specification, seconds))
        if FLAGS.growth:
            print_exponents("time", measured)
    if FLAGS.peak_memory:
        print("\n| pixels x batch | attention | peak memory, GiB |\n|---|---|---|")
        measured = []
        for text, (resolution, _) in zip(FLAGS.image_batches, sizes):
            for attention in FLAGS.attention:
                peak = process_peak_gib(text, attention)
                print(f"| {text} | {attention} | {peak:.2f} |", flush=True)
                measured.append(({"resolution": resolution, "attention": attention}, peak))
        if FLAGS.growth:
            print_exponents("peak memory", measured)
    if FLAGS.pipeline:
        print("\n| pixels x batch | images/s of the input pipeline alone |\n|---|---|")
        for resolution, batch_size in sizes:
            print(f"| {resolution} x {batch_size} | {pipeline_speed(resolution, batch_size):.0f} |", flush=True)


def specifications(kinds, sizes, replicas, loops):
    """What `training_steps.make_call` takes of every measurement, as dictionaries."""
    with_xla = [False, True] if FLAGS.xla else [False]
    mirrored = [False, True] if FLAGS.mirrored else [False]
    for kind, size, count, is_mirrored, xla, steps, attention in itertools.product(
        kinds, sizes, replicas, mirrored, with_xla, loops, FLAGS.attention
    ):
        yield {
            "kind": kind,
            "resolution": size[0],
            "batch_size": size[1],
            "replicas": count,
            "mirrored": is_mirrored,
            "xla": xla,
            "steps": steps,
            "attention": attention,
            "base_channels": FLAGS.base_channels,
            "precision": FLAGS.precision,
        }


def parsed_size(text):
    """Resolution and batch of `RESOLUTIONxBATCH`; raises ToolError for anything else."""
    numbers = text.split("x")
    if len(numbers) != 2 or not all(number.isdigit() and int(number) for number in numbers):
        raise program.ToolError(f"--image_batches must be RESOLUTIONxBATCH, as 32x16. Received: --image_batches={text}")
    return int(numbers[0]), int(numbers[1])


def check_replicas(replicas, sizes):
    """Raises ToolError where there are fewer devices than replicas, or a batch does not divide by them."""
    import tensorflow as tf

    num_devices = len(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU"))
    for count in replicas:
        if count > num_devices or any(batch_size % count for _, batch_size in sizes):
            raise program.ToolError(
                f"--replicas must not exceed the devices, {num_devices}, and must divide the batches of "
                f"--image_batches={','.join(FLAGS.image_batches)}. Received: --replicas={','.join(FLAGS.replicas)}"
            )


def times(measurements):
    """Specification, seconds of a step and row of the table, for specifications whose programs are timed in turn."""
    calls = {}
    for index, specification in enumerate(measurements):
        calls[index] = training_steps.make_call(**specification)
        calls[index]()
    medians = interleaved_medians(calls, FLAGS.timed_calls)
    seconds = [medians[index] / specification["steps"] for index, specification in enumerate(measurements)]
    plain = {_but_attention(one): value for one, value in zip(measurements, seconds) if one["attention"] == "none"}
    for one, value in zip(measurements, seconds):
        none = plain.get(_but_attention(one))
        cells = (
            f"{one['resolution']} x {one['batch_size']}",
            f"{one['replicas']}, mirrored" if one["mirrored"] else one["replicas"],
            "on" if one["xla"] else "off",
            one["steps"],
            one["attention"],
            f"{one['batch_size'] / value:.1f}",
            f"{value / none:.2f}" if none else "",
        )
        yield one, value, f"| {' | '.join(map(str, cells))} |"


def print_exponents(name, measured):
    """Prints the powers of the pixels with which something grows, and that by which it is more than without attention.

    Args:
        name: what it is.
        measured: pairs of a specification and a number.
    """
    print(f"\n| attention | exponent of {name} | of what it adds to none |\n|---|---|---|")
    plain = {one["resolution"]: value for one, value in measured if one["attention"] == "none"}
    for attention in FLAGS.attention:
        found = {one["resolution"]: value for one, value in measured if one["attention"] == attention}
        added = {size: value - plain.get(size, math.inf) for size, value in found.items()}
        fits = [fit_exponent([size**2 for size in part], list(part.values())) for part in (found, added) if _fits(part)]
        print(f"| {attention} | {' | '.join(f'{fit:.2f}' for fit in fits)} |{' |' * (2 - len(fits))}", flush=True)


def _fits(values):
    """Whether an exponent can be fitted: differences within the noise may be below 0."""
    return len(values) > 1 and min(values.values()) > 0


def _but_attention(specification):
    return tuple(value for name, value in specification.items() if name != "attention")


def pipeline_speed(resolution, batch_size, num_images=2048):
    """Images/s of the input pipeline on JPEG files of ImageNet's size: read, decode, crop, resize, flip, batch."""
    import tensorflow as tf

    from trainers import configs  # noqa: TID251 - its speed is what is measured
    from trainers.data import input_pipelines  # noqa: TID251 - its speed is what is measured

    with tempfile.TemporaryDirectory() as folder:
        write_photographs(os.path.join(folder, "train"), max(64, batch_size // 2))
        override = f"task.train_data.path={folder},task.train_data.global_batch_size={batch_size}"
        data = configs.resolve("gan_folder", params_override=override).task.train_data
        batches = iter(input_pipelines.training_dataset(tf.distribute.get_strategy(), data, resolution, 0))
        next(batches)
        start = time.perf_counter()
        count = -(-num_images // batch_size)
        for _ in range(count):
            next(batches)
        return count * batch_size / (time.perf_counter() - start)


def write_photographs(folder, num_images):
    """Writes `num_images` crops of each of scikit-learn's two photographs, 375 x 500 pixels, as two classes."""
    import tensorflow as tf
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    for label, photograph in enumerate(load_sample_images().images):
        os.makedirs(os.path.join(folder, str(label)))
        for number in range(num_images):
            top, left = (random.integers(size - crop + 1) for size, crop in zip(photograph.shape, (375, 500)))
            encoded = tf.io.encode_jpeg(photograph[top : top + 375, left : left + 500])
            tf.io.write_file(os.path.join(folder, str(label), f"{number:04d}.jpg"), encoded)


def process_peak_gib(size, attention):
    """Peak memory of a process of its own that takes two steps."""
    command = [
        sys.executable,
        "-m",
        "tools.benchmarks.training",
        f"--image_batches={size}",
        f"--attention={attention}",
        f"--base_channels={FLAGS.base_channels}",
        "--print_peak",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout.splitlines()[-1])


if __name__ == "__main__":
    app.run(main)
