"""How the benchmark of the layer measures memory: in a process of its own for each layer."""

import glob
import json
import os
import re
import subprocess
import sys
import tempfile

from absl import flags, logging

from keras_an.backend import keras
from tools.benchmarks.layer_programs import attempt

FLAGS = flags.FLAGS


def memory_rows(layer, cases):
    """Peak memory of a layer on all --sizes, measured in a process of its own."""
    names = ("sizes", "dtypes", "direction", "jit", "training", "num_entities", "memory_limit_gib")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tools.benchmarks.layer", f"--layers={layer}", f"--memory_dump={folder}"]
        command += [FLAGS[name].serialize() for name in names]
        environ = dict(os.environ, TF_CPU_ALLOCATOR_USE_BFC="true")  # the allocator that counts
        if keras.backend.backend() == "tensorflow":
            environ["XLA_FLAGS"] = f"{environ.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text"
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        result = subprocess.run(command, env=environ, cwd=root, capture_output=True, text=True)
    if result.returncode:
        logging.error("The memory of %s could not be measured:\n%s", layer, result.stderr[-2000:])
        return [memory_row(layer, case, None, "cannot run") for case in cases]
    return json.loads(result.stdout.splitlines()[-1])


def measured_memory_row(layer, case):
    # XLA plans without running.
    return memory_row(layer, case, *attempt(layer, case, extra_bytes, runs=not FLAGS.jit))


def memory_row(layer, case, extra_bytes, note):
    return case.row(layer, note, extra_bytes=extra_bytes, times_input=extra_bytes and extra_bytes / case.input_bytes)


def extra_bytes(program):
    """Peak bytes beyond the arguments, outputs included: by XLA's plan, without XLA by TensorFlow's allocator.

    On a CPU XLA may hand operations to libraries, whose own buffers are not in its plan.
    """
    if keras.backend.backend() == "jax":
        plan = program.function.lower(*program.arguments).compile().memory_analysis()
        return plan.temp_size_in_bytes + plan.output_size_in_bytes
    return _planned_bytes(program) if FLAGS.jit else _allocated_bytes(program)


def _planned_bytes(program):
    """Compiles without running, and reads the buffer assignment that XLA dumps."""
    pattern = os.path.join(FLAGS.memory_dump, "*buffer-assignment.txt")
    seen = set(glob.glob(pattern))
    program.function.experimental_get_compiler_ir(*program.arguments)(stage="optimized_hlo")
    (plan,) = set(glob.glob(pattern)) - seen
    with open(plan, encoding="utf-8") as file:
        sizes = re.findall(r"^allocation \d+: size (\d+), (?!parameter)", file.read(), re.MULTILINE)
    return sum(map(int, sizes))


def _allocated_bytes(program):
    import tensorflow as tf

    memory = tf.config.experimental
    device = "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"
    program()
    memory.reset_memory_stats(device)
    before = memory.get_memory_info(device)["current"]
    program()
    return memory.get_memory_info(device)["peak"] - before
