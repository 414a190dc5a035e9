"""Times Attentive Normalization against its baselines, interleaved in one process, and measures their memory.

python -m tools.benchmarks.layer --exponent --memory --json=benchmark.json
KERAS_BACKEND=jax python -m tools.benchmarks.layer --dtypes=float32,bfloat16

Prints Markdown tables with a row for every size, dtype and pass and a column for every layer: the median time with its
ratio to AN without value projection, and the memory bandwidth (`copy` reads and writes the same bytes, and does no
more). `--exponent` adds how time grows with the positions, `--memory` what a pass takes beyond inputs and weights.
`--nojit` runs TensorFlow's own kernels. What would not fit is named "too large" and not run.
"""

import importlib
import itertools
import json
import os
import platform
import re
import sys

from absl import app, flags

import keras_an
from keras_an.backend import keras
from tools import program
from tools.benchmarks.layer_memory import measured_memory_row, memory_rows
from tools.benchmarks.layer_programs import LAYERS, POLICIES, Case, attempt
from tools.benchmarks.layer_tables import exponent_rows, print_table
from tools.benchmarks.timing import interleaved_medians

FLAGS = flags.FLAGS

PASSES = {"forward": ["forward"], "forward_backward": ["forward_backward"], "both": ["forward", "forward_backward"]}
SIZES = ["32x32x256x8", "64x64x128x4", "128x128x64x2", *(f"{side}x{side}x32x1" for side in (128, 256, 512, 1024))]
EXPONENT_SIZES = [f"{side}x{side}x32x1" for side in (64, 128, 256, 512)]
WARM_UP_CALLS = 2

flags.DEFINE_list("sizes", SIZES, "Sizes, as HEIGHTxWIDTHxCHANNELSxBATCH.")
flags.DEFINE_list("layers", list(LAYERS), "Layers to measure.")
flags.DEFINE_list("dtypes", ["float32"], f"Of {', '.join(POLICIES)}; weights stay float32.")
flags.DEFINE_enum("direction", "both", list(PASSES), "Passes to measure.")
flags.DEFINE_bool("jit", True, "Whether XLA compiles the passes.")
flags.DEFINE_bool("training", False, "Whether self-sampling is on.")
flags.DEFINE_integer("num_entities", 16, "Entities of AN.", lower_bound=1)
flags.DEFINE_integer("repeats", 15, "Timed calls of each layer.", lower_bound=1)
flags.DEFINE_bool("exponent", False, f"Whether to fit how time grows, over {', '.join(EXPONENT_SIZES)}.")
flags.DEFINE_bool("memory", False, "Whether to measure the memory of the layers, in a process each.")
flags.DEFINE_float("memory_limit_gib", 8.0, "What is estimated to take more is not run.", lower_bound=0.0)
flags.DEFINE_string("json", None, "File to write everything to.")
flags.DEFINE_string("memory_dump", None, "Internal: prints the memory of the one layer; XLA dumps to this folder.")


def main(argv):
    program.run(argv, benchmark)


def benchmark():
    """Measures what the flags say and prints the tables; raises `program.ToolError` where one cannot be measured."""
    cases = checked_cases()
    if FLAGS.memory_dump:
        print(json.dumps([measured_memory_row(FLAGS.layers[0], case) for case in cases]))
        return
    layers, report = FLAGS.layers, {"environment": environment(), "rows": []}
    print(report["environment"])
    for number, case in enumerate(cases, 1):
        print(f"{number} of {len(cases)}: {' '.join(case)}", file=sys.stderr, flush=True)
        report["rows"] += time_rows(case)
    print_table("Milliseconds (times AN)", layers, report["rows"], "milliseconds", "times_an")
    print_table("GB/s, each feature map read or written once", layers, report["rows"], "gigabytes_per_second")
    if FLAGS.exponent:
        report["exponents"] = exponent_rows(report["rows"], EXPONENT_SIZES)
        print_table("Exponent of time against positions", layers, report["exponents"], "exponent")
    if FLAGS.memory:
        report["memory"] = [row for layer in layers for row in memory_rows(layer, cases_of(FLAGS.sizes))]
        print_table(
            "Peak memory beyond inputs and weights, in times the input", layers, report["memory"], "times_input"
        )
    if FLAGS.json:
        with open(FLAGS.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


def checked_cases():
    """The cases that the flags ask for; raises ToolError where a flag's value cannot be measured."""
    for name, known in (("layers", LAYERS), ("dtypes", POLICIES)):
        values = FLAGS[name].value
        if not values or not set(values) <= set(known):
            raise program.ToolError(f"--{name} must be of {', '.join(known)}. Received: --{name}={','.join(values)}")
    for size in FLAGS.sizes or [""]:
        if not re.fullmatch(r"([2-9]|[1-9]\d+)x([2-9]|[1-9]\d+)x[1-9]\d*x[1-9]\d*", size):
            raise program.ToolError(
                f"--sizes must be HEIGHTxWIDTHxCHANNELSxBATCH, as 32x32x256x8. Received: --sizes={size}"
            )
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise program.ToolError(f"KERAS_BACKEND must be tensorflow or jax. Received: KERAS_BACKEND={backend}")
    if backend == "jax" and not FLAGS.jit:
        raise program.ToolError(
            "--jit must be on with JAX: without it, Python itself would be timed. Received: --jit=false"
        )
    return cases_of(FLAGS.sizes + EXPONENT_SIZES * FLAGS.exponent)


def cases_of(sizes):
    """Every size, once, in every dtype and pass of the flags."""
    return [Case(*case) for case in itertools.product(dict.fromkeys(sizes), FLAGS.dtypes, PASSES[FLAGS.direction])]


def environment():
    """One line: versions, device, cores, and what is measured how."""
    backend = keras.backend.backend()
    module = importlib.import_module(backend)
    if backend == "jax":
        device = module.devices()[0].device_kind
    else:
        gpus = module.config.list_physical_devices("GPU")
        device = module.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "cpu"
    if device == "cpu" and os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            device = dict(re.findall(r"(.*?)\s*: (.*)", file.read())).get("model name", device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"keras_an {keras_an.__version__}, Keras {keras.__version__}, {backend} {module.__version__}, "
        f"Python {platform.python_version()}; {device}, {cores} cores; jit {'on' if FLAGS.jit else 'off'}, "
        f"self-sampling {'on' if FLAGS.training else 'off'}, {FLAGS.num_entities} entities; "
        f"median of {FLAGS.repeats}, interleaved."
    )


def time_rows(case):
    """Times all layers on one case; those that cannot run have None for numbers."""
    tried = {layer: attempt(layer, case, warm_up) for layer in FLAGS.layers}
    seconds = interleaved_medians({layer: program for layer, (program, _) in tried.items() if program}, FLAGS.repeats)
    moved = case.input_bytes * (2 if case.direction == "forward" else 4)
    rows = []
    for layer, (_, note) in tried.items():
        median, unit = seconds.get(layer), seconds.get("an")
        numbers = {
            "milliseconds": median and median * 1e3,
            "times_an": median and unit and median / unit,
            "gigabytes_per_second": median and moved / median / 1e9,
        }
        rows.append(case.row(layer, note, **numbers))
    return rows


def warm_up(program):
    for _ in range(WARM_UP_CALLS):
        program()
    return program


if __name__ == "__main__":
    app.run(main)
