"""Times Attentive Normalization against its baselines, interleaved in one process, and measures their memory.

python -m tools.benchmark_layer --exponent --memory --json=benchmark.json
KERAS_BACKEND=jax python -m tools.benchmark_layer --dtypes=float32,bfloat16

Prints Markdown tables with a row for every size, dtype and pass and a column for every layer: the median time with its
ratio to AN without value projection, and the memory bandwidth (`copy` reads and writes the same bytes, and does no
more). `--exponent` adds how time grows with the positions, `--memory` what a pass takes beyond inputs and weights.
`--nojit` runs TensorFlow's own kernels. What would not fit is named "too large" and not run.
"""

import glob
import importlib
import itertools
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numpy as np
from absl import app, flags, logging

import keras_an
from keras_an.backend import NO_AUTOCAST, SeedGenerator, keras, ops
from keras_an.layers import AttentiveNormalization, SelfAttention
from keras_an.ops import sample_positions
from tools import program
from tools.timing import interleaved_medians

FLAGS = flags.FLAGS

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
PASSES = {"forward": ["forward"], "forward_backward": ["forward_backward"], "both": ["forward", "forward_backward"]}
SIZES = ["32x32x256x8", "64x64x128x4", "128x128x64x2", *(f"{side}x{side}x32x1" for side in (128, 256, 512, 1024))]
EXPONENT_SIZES = [f"{side}x{side}x32x1" for side in (64, 128, 256, 512)]
WARM_UP_CALLS = 2


class ReleasedFormulation(keras.layers.Layer):
    """Attentive Normalization as released, which copies the feature map for every region: (b, h, w, c, n).

    It computes `AttentiveNormalization(num_entities, statistics="released", value_projection=True, affine=False,
    pool_size=1)` and has that layer's trainable weights, in its order. The released code draws positions at inference
    too; here only training draws, as in the layer that it is compared with.
    """

    def __init__(self, num_entities, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.num_entities = num_entities
        self.seed_generator = SeedGenerator(seed)

    def build(self, input_shape):
        channels = input_shape[-1]
        key_dim = max(channels // 8, 1)
        shapes = {"entities": (self.num_entities, channels)}
        shapes.update(query_kernel=(channels, key_dim), query_bias=(key_dim,))
        shapes.update(key_kernel=(channels, key_dim), key_bias=(key_dim,), sampling_weight=(self.num_entities,))
        shapes.update(value_kernel=(channels, channels), value_bias=(channels,), residual_weight=())
        for name, shape in shapes.items():
            setattr(self, name, self.add_weight(name=name, shape=shape, dtype="float32", **NO_AUTOCAST))
        self.built = True

    def call(self, inputs, training=None):
        features = ops.cast(inputs, "float32")
        batch, height, width, channels = ops.shape(features)
        flat = ops.reshape(features, (batch, height * width, channels))
        logits = ops.matmul(flat, ops.transpose(self.entities))  # (batch, positions, entities)
        if training:
            queries = ops.matmul(flat, self.query_kernel) + self.query_bias
            keys = ops.matmul(flat, self.key_kernel) + self.key_bias
            drawn = sample_positions(batch, height * width, self.num_entities, self.seed_generator)
            rows = drawn + (ops.arange(batch) * (height * width))[:, None]
            keys = ops.take(ops.reshape(keys, (-1, keys.shape[-1])), rows, axis=0)  # (batch, entities, key_dim)
            similarity = ops.matmul(queries, ops.transpose(keys, (0, 2, 1)))
            logits = logits + ops.clip(self.sampling_weight, 0.0, 1.0) * similarity
        layout = ops.reshape(ops.softmax(0.1 * logits, axis=-1), (batch, height, width, 1, self.num_entities))
        values = ops.reshape(ops.matmul(flat, self.value_kernel) + self.value_bias, (batch, height, width, channels, 1))
        mass = ops.sum(layout, axis=(1, 2), keepdims=True) + 1e-7
        regions = layout * values  # (batch, height, width, channels, entities)
        mean = ops.mean(regions, axis=(1, 2), keepdims=True) / mass
        deviation = ops.sqrt(ops.sum(ops.square(regions - mean), axis=(1, 2), keepdims=True) / mass)
        normalized = ops.sum((values - mean) / (deviation + 1e-7) * layout, axis=-1)
        return ops.cast(features + self.residual_weight * normalized, self.compute_dtype)


class PositionAttention(keras.layers.Layer):
    """Keras's `MultiHeadAttention` over all positions, with one head."""

    def __init__(self, key_dim, dtype):
        super().__init__(dtype=dtype)
        self.attention = keras.layers.MultiHeadAttention(num_heads=1, key_dim=key_dim, dtype=dtype)

    def call(self, inputs):
        batch, height, width, channels = ops.shape(inputs)
        flat = ops.reshape(inputs, (batch, height * width, channels))
        return ops.reshape(self.attention(flat, flat), (batch, height, width, channels))


# Made from channels, entities and dtype policy; all keep the shape of their input.
LAYERS = {
    "an": lambda c, n, dtype: AttentiveNormalization(n, dtype=dtype),
    "an_value": lambda c, n, dtype: AttentiveNormalization(n, value_projection=True, dtype=dtype),
    "group_norm": lambda c, n, dtype: keras.layers.GroupNormalization(groups=-1, dtype=dtype),
    "conv3x3": lambda c, n, dtype: keras.layers.Conv2D(c, 3, padding="same", dtype=dtype),
    "self_attention": lambda c, n, dtype: SelfAttention(dtype=dtype),
    "multi_head_attention": lambda c, n, dtype: PositionAttention(max(c // 8, 1), dtype=dtype),
    "released": lambda c, n, dtype: ReleasedFormulation(n, dtype=dtype),
    "copy": lambda c, n, dtype: keras.layers.Rescaling(0.5, dtype=dtype),
}

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


class Case(NamedTuple):
    """What all layers are measured on at once."""

    size: str
    dtype: str
    direction: str

    @property
    def shape(self):
        height, width, channels, batch = map(int, self.size.split("x"))
        return batch, height, width, channels

    @property
    def input_bytes(self):
        return math.prod(self.shape) * (4 if self.dtype == "float32" else 2)

    def row(self, layer, note, **measured):
        """One row of the results; `note` says why it has no numbers."""
        positions = {"positions": math.prod(self.shape[1:3])}
        settings = {name: FLAGS[name].value for name in ("jit", "training", "num_entities")}
        return {"layer": layer, **self._asdict(), **positions, **settings, **measured, "note": note}


class Program:
    """One pass of one layer, compiled as a function of random inputs and weights; calling it waits for the result."""

    def __init__(self, layer, case):
        random = np.random.default_rng(0)

        def draw(shape):
            return ops.cast(ops.convert_to_tensor(random.standard_normal(shape, "float32")), case.dtype)

        channels = case.shape[-1]
        self.layer = LAYERS[layer](channels, FLAGS.num_entities, POLICIES[case.dtype])
        self.layer(draw((1, 4, 4, channels)))
        for weight in self.layer.trainable_weights:
            weight.assign(weight.numpy() + 0.1 * random.standard_normal(tuple(weight.shape)))
        self.options = {"training": FLAGS.training} if layer in ("an", "an_value", "released") else {}
        # The input, and what a loss sends back to the output.
        self.arguments = [draw(case.shape) for _ in range(1 if case.direction == "forward" else 2)]
        getattr(self, f"_prepare_{keras.backend.backend()}")(case.direction)

    def __call__(self):
        self.wait(self.function(*self.arguments))

    def _prepare_tensorflow(self, direction):
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # It warns of tracing anew, which is meant here.

        def forward(inputs):
            return self.layer(inputs, **self.options)

        def forward_backward(inputs, cotangent):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = forward(inputs)
            sources = [inputs, *self.layer.trainable_weights]
            return outputs, tape.gradient(outputs, sources, output_gradients=cotangent)

        self.function = tf.function(forward if direction == "forward" else forward_backward, jit_compile=FLAGS.jit)
        self.wait = lambda _: tf.test.experimental.sync_devices()

    def _prepare_jax(self, direction):
        import jax

        def forward(weights, state, inputs):
            return self.layer.stateless_call(weights, state, inputs, **self.options)

        def forward_backward(weights, state, inputs, cotangent):
            outputs, pull_back, state = jax.vjp(lambda w, x: forward(w, state, x), weights, inputs, has_aux=True)
            return outputs, pull_back(cotangent), state

        self.function = jax.jit(forward if direction == "forward" else forward_backward)
        variables = self.layer.trainable_variables, self.layer.non_trainable_variables
        self.arguments = [[variable.value for variable in group] for group in variables] + self.arguments
        self.wait = jax.block_until_ready

    def extra_bytes(self):
        """Peak bytes beyond the arguments, outputs included: by XLA's plan, without XLA by TensorFlow's allocator.

        On a CPU XLA may hand operations to libraries, whose own buffers are not in its plan.
        """
        if keras.backend.backend() == "jax":
            plan = self.function.lower(*self.arguments).compile().memory_analysis()
            return plan.temp_size_in_bytes + plan.output_size_in_bytes
        return self._planned_bytes() if FLAGS.jit else self._allocated_bytes()

    def _planned_bytes(self):
        """Compiles without running, and reads the buffer assignment that XLA dumps."""
        pattern = os.path.join(FLAGS.memory_dump, "*buffer-assignment.txt")
        seen = set(glob.glob(pattern))
        self.function.experimental_get_compiler_ir(*self.arguments)(stage="optimized_hlo")
        (plan,) = set(glob.glob(pattern)) - seen
        with open(plan, encoding="utf-8") as file:
            sizes = re.findall(r"^allocation \d+: size (\d+), (?!parameter)", file.read(), re.MULTILINE)
        return sum(map(int, sizes))

    def _allocated_bytes(self):
        import tensorflow as tf

        memory = tf.config.experimental
        device = "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"
        self()
        memory.reset_memory_stats(device)
        before = memory.get_memory_info(device)["current"]
        self()
        return memory.get_memory_info(device)["peak"] - before


def main(argv):
    program.run(argv, benchmark)


def benchmark():
    """Measures what the flags say and prints the tables; raises `program.ToolError` where one cannot be measured."""
    cases = checked_cases()
    if FLAGS.memory_dump:
        print(json.dumps([measured_memory_row(FLAGS.layers[0], case) for case in cases]))
        return
    report = {"environment": environment(), "rows": []}
    print(report["environment"])
    for number, case in enumerate(cases, 1):
        print(f"{number} of {len(cases)}: {' '.join(case)}", file=sys.stderr, flush=True)
        report["rows"] += time_rows(case)
    print_table("Milliseconds (times AN)", report["rows"], "milliseconds", "times_an")
    print_table("GB/s, each feature map read or written once", report["rows"], "gigabytes_per_second")
    if FLAGS.exponent:
        report["exponents"] = exponent_rows(report["rows"])
        print_table("Exponent of time against positions", report["exponents"], "exponent")
    if FLAGS.memory:
        report["memory"] = [row for layer in FLAGS.layers for row in memory_rows(layer)]
        print_table("Peak memory beyond inputs and weights, in times the input", report["memory"], "times_input")
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


def attempt(layer, case, use, runs=True):
    """Makes a program and returns `use(program)` and None, or None and why not."""
    if runs and estimated_bytes(layer, case) > FLAGS.memory_limit_gib * 2**30:
        return None, "too large"
    try:
        return use(Program(layer, case)), None
    except Exception as error:  # Whatever a backend raises where it lacks a kernel, or memory.
        logging.warning("%s cannot run %s: %s", layer, " ".join(case), str(error).partition("\n")[0])
        return None, "cannot run"


def warm_up(program):
    for _ in range(WARM_UP_CALLS):
        program()
    return program


def estimated_bytes(layer, case):
    """About what a pass takes: the copies that it keeps of its largest tensor, and of the feature map."""
    batch, height, width, channels = case.shape
    positions = height * width
    largest, copies = {
        "self_attention": (positions * (height // 2) * (width // 2), (2, 4)),
        "multi_head_attention": (positions**2, (2, 4)),
        "released": (positions * channels * FLAGS.num_entities, (2, 6)),
    }.get(layer, (0, (2, 4)))
    return 4 * batch * copies[case.direction != "forward"] * (largest + 4 * positions * channels)


def exponent_rows(rows):
    """Fits every layer's times over those of EXPONENT_SIZES that it ran on."""
    groups = {}
    for row in sorted(rows, key=lambda row: row["positions"]):
        if row["size"] in EXPONENT_SIZES and row["milliseconds"]:
            groups.setdefault((row["layer"], row["dtype"], row["direction"]), []).append(row)
    fitted = []
    for (layer, dtype, direction), group in groups.items():
        if len(group) > 1:
            exponent = fit_exponent(*zip(*((row["positions"], row["milliseconds"]) for row in group)))
            size = f"{group[0]['size']} to {group[-1]['size']}"
            fitted.append({"layer": layer, "size": size, "dtype": dtype, "direction": direction, "exponent": exponent})
    return fitted


def fit_exponent(positions, times):
    """The slope of log(times) against log(positions), by least squares."""
    return float(np.polyfit(np.log(positions), np.log(times), 1)[0])


def memory_rows(layer):
    """Peak memory of a layer on all --sizes, measured in a process of its own."""
    names = ("sizes", "dtypes", "direction", "jit", "training", "num_entities", "memory_limit_gib")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tools.benchmark_layer", f"--layers={layer}", f"--memory_dump={folder}"]
        command += [FLAGS[name].serialize() for name in names]
        environ = dict(os.environ, TF_CPU_ALLOCATOR_USE_BFC="true")  # the allocator that counts
        if keras.backend.backend() == "tensorflow":
            environ["XLA_FLAGS"] = f"{environ.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text"
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        result = subprocess.run(command, env=environ, cwd=root, capture_output=True, text=True)
    if result.returncode:
        logging.error("The memory of %s could not be measured:\n%s", layer, result.stderr[-2000:])
        return [memory_row(layer, case, None, "cannot run") for case in cases_of(FLAGS.sizes)]
    return json.loads(result.stdout.splitlines()[-1])


def measured_memory_row(layer, case):
    # XLA plans without running.
    return memory_row(layer, case, *attempt(layer, case, Program.extra_bytes, runs=not FLAGS.jit))


def memory_row(layer, case, extra_bytes, note):
    return case.row(layer, note, extra_bytes=extra_bytes, times_input=extra_bytes and extra_bytes / case.input_bytes)


def print_table(title, rows, value, ratio=None):
    """Prints a Markdown table of `row[value]`, with `row[ratio]` in brackets, one column for each layer."""
    lines = {}
    for row in rows:
        text = row.get("note") or f"{row[value]:.2f}" + (f" ({row[ratio]:.2f}x)" if ratio and row[ratio] else "")
        lines.setdefault((row["size"], row["dtype"], row["direction"]), {})[row["layer"]] = text
    print(f"\n{title}\n\n| size | dtype | pass | {' | '.join(FLAGS.layers)} |\n{'|---' * (3 + len(FLAGS.layers))}|")
    for case, texts in lines.items():
        print(f"| {' | '.join([*case, *(texts.get(layer, '') for layer in FLAGS.layers)])} |", flush=True)


if __name__ == "__main__":
    app.run(main)
