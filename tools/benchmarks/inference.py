"""Images a second and peak memory of a run's generator: called through Keras, and of every export of it.

python -m tools.benchmarks.inference --model_dir=runs/demo
python -m tools.benchmarks.inference --model_dir=runs/inpainting --side=512 --batch_sizes=1,4 --num_calls=10

Prints a Markdown table, and by how much a pixel of each export differs from Keras. `Keras` is the training checkpoint,
called as a model, op by op; `Keras, one graph` the same call as a `tf.function`. SavedModel, LiteRT and ONNX are what
tools.convert_checkpoint writes, on their own runtimes with a thread for each core, all in turn in one process.
Memory is the peak of a process that loads one of them and runs it, less that of the process once it has loaded its
runtime.
"""

import functools
import os
import subprocess
import sys
import tempfile

import numpy as np
from absl import app, flags, logging

from tools import program
from tools.benchmarks.timing import interleaved_medians, peak_gib
from trainers import cpu

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Folder of the run, or an export of one.", required=True)
flags.DEFINE_list("batch_sizes", ["1", "8", "32"], "Images in a call.")
flags.DEFINE_integer("num_calls", 20, "Calls of each, of whose seconds the median counts.", lower_bound=1)
flags.DEFINE_integer(
    "side",
    None,
    "Pixels of a side of pictures of inpainting, a multiple of 4; by default they are of 64 x 96.",
    lower_bound=8,
)
flags.DEFINE_list("formats", ["saved_model", "litert", "onnx"], "Exports to measure.")

_NAMES = {"saved_model": "SavedModel", "litert": "LiteRT", "onnx": "ONNX Runtime"}
# Peak memory in MiB of the calls alone.
_MEMORY_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[3])
from tools.benchmarks.inference import measure_memory
print(measure_memory(*sys.argv[1:3], sys.argv[4]))
"""


def main(argv):
    from tools.exporting.exports import ExportError
    from trainers.configs import ConfigError
    from trainers.configs.networks import CheckpointError

    program.run(argv, benchmark, ExportError, ConfigError, CheckpointError)


def benchmark():
    """Exports the run into a temporary folder, measures, and prints the table."""
    cpu.choose_kernels()
    import tensorflow as tf

    from tools.exporting import exports, generators, inpainting_serving

    sizes = program.positive_integers("batch_sizes")
    tf.config.set_visible_devices([], "GPU")
    cpu.keep_freed_memory()
    model, serving, _ = generators.load(FLAGS.model_dir)
    if FLAGS.side and serving.application != "inpainting":
        raise program.ToolError(f"--side is of inpainting alone. {FLAGS.model_dir} is the run of a GAN.")
    if FLAGS.side and FLAGS.side % inpainting_serving.DIVISOR:
        raise program.ToolError(f"--side must be a multiple of {inpainting_serving.DIVISOR}. Received: {FLAGS.side}")
    exports.check_formats(FLAGS.formats, "serving_default", serving)
    with tempfile.TemporaryDirectory() as folder:
        paths = {form: os.path.join(folder, exports.FORMATS[form][0]) for form in FLAGS.formats}
        for form, path in paths.items():
            logging.info("Writing and checking %s.", _NAMES[form])
            exports.write(form, path, model, serving)
            exports.verify(form, path, serving, None if form == "saved_model" else "serving_default")
        probes = {"keras": serving.call_probes()[0], "served": dict(serving.probes())["serving_default"]}
        feeds = {size: {kind: _of_size(feed, size) for kind, feed in probes.items()} for size in sizes}
        rates, apart = {}, dict.fromkeys(map(_NAMES.get, FLAGS.formats), 0.0)
        runs = {"Keras": _live(model), "Keras, one graph": _live(tf.function(model))}
        runs.update({_NAMES[form]: runtime(form, path) for form, path in paths.items()})
        for size, by_kind in feeds.items():
            calls = {
                name: functools.partial(run, by_kind["keras" if name.startswith("Keras") else "served"])
                for name, run in runs.items()
            }
            results = {name: call() for name, call in calls.items()}
            expected = serving.expected("serving_default", by_kind["served"])
            for name in apart:
                apart[name] = float(np.maximum(apart[name], levels_apart(results[name], expected)))
            rates[size] = {
                name: size / seconds for name, seconds in interleaved_medians(calls, FLAGS.num_calls).items()
            }
        memory = {size: _memory(folder, paths, by_kind) for size, by_kind in feeds.items()}
    pictures = next(iter(feeds.values()))["served"].get("image")
    print(table(rates, memory, None if pictures is None else pictures.shape[1] * pictures.shape[2]))
    print("\nThe largest difference of a pixel to Keras, in levels of 255:")
    print(", ".join(f"{name} {difference:.2g}" for name, difference in apart.items()))


def levels_apart(found, expected):
    """The largest difference of a pixel in levels of 255.

    Args:
        found: arrays by name, uint8 or float in [-1, 1].
        expected: by the same names, pairs of a float array, in levels where what was found is uint8, and a tolerance.
    """
    largest = 0.0
    for name, (value, _) in expected.items():
        array = np.asarray(found[name])
        difference = array - np.round(value) if array.dtype == np.uint8 else 127.5 * (array - value)
        largest = np.maximum(largest, np.abs(difference).max())  # NaN stays NaN
    return float(largest)


def table(rates, memory, pixels=None):
    """Images a second, in times of Keras, milliseconds a megapixel where `pixels` of an image are given, and MiB.

    By batch size, as Markdown.
    """
    names = list(next(iter(rates.values())))
    lines = ["| batch | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for size, by_name in rates.items():
        cells = [f"{_rate(rate, pixels)}, {rate / by_name['Keras']:.2f} x" for rate in by_name.values()]
        held = [f", {memory[size][name]:,.0f} MiB" if name in memory[size] else "" for name in names]
        lines.append(f"| {size} | " + " | ".join(map("".join, zip(cells, held))) + " |")
    return "\n".join(lines)


def _rate(rate, pixels):
    return f"{rate:,.0f}/s" if pixels is None else f"{1e9 / (rate * pixels):,.0f} ms/MP"


def _of_size(feed, size):
    """Inputs of `size` images, which are `--side` high and wide where it is given."""
    feed = {name: np.resize(value, (size, *value.shape[1:])) for name, value in feed.items()}
    return {name: _stretched(value, FLAGS.side) for name, value in feed.items()} if FLAGS.side else feed


def _stretched(images, side):
    rows, columns = (np.arange(side) * size // side for size in images.shape[1:3])
    return images[:, rows][:, :, columns]


def _live(model):
    import tensorflow as tf

    def run(feed):
        return model([tf.constant(feed["0"]), tf.constant(feed["1"])], training=False)

    return run


def runtime(form, path):
    """A function from arrays by name to the outputs of `serving_default`."""
    if form == "saved_model":
        import tensorflow as tf

        loaded = tf.saved_model.load(path)
        # By way of `loaded`, which a signature does not keep alive.
        return lambda feed: loaded.signatures["serving_default"](
            **{name: tf.constant(value) for name, value in feed.items()}
        )
    from tools.exporting import fresh_process

    run = fresh_process.RUNTIMES[form](path)
    return lambda feed: run("serving_default", feed)


def _memory(folder, paths, by_kind):
    """MiB by name."""
    clone = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sources = {"Keras": ("keras", FLAGS.model_dir), **{_NAMES[form]: (form, path) for form, path in paths.items()}}
    result = {}
    for name, (form, path) in sources.items():
        feed = os.path.join(folder, "feed.npz")
        np.savez(feed, **by_kind["keras" if form == "keras" else "served"])
        command = [sys.executable, "-c", _MEMORY_PROGRAM, form, path, clone, feed]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise program.ToolError(f"{name} could not be measured: {done.stderr.strip().splitlines()[-1]}")
        result[name] = float(done.stdout.strip().splitlines()[-1])
    return result


def measure_memory(form, path, feed_path):
    """MiB by which loading and running raise the peak of this process, whose runtime is imported first."""
    if form in ("keras", "saved_model"):
        import tensorflow as tf

        tf.constant(0.0)
    elif form == "litert":
        import ai_edge_litert.interpreter  # noqa: F401
    else:
        import onnxruntime  # noqa: F401
    with np.load(feed_path) as file:
        feed = {name: file[name] for name in file.files}
    if form == "keras":
        from tools.exporting import generators
    before = peak_gib()
    run = _live(generators.load(path).model) if form == "keras" else runtime(form, path)
    for _ in range(3):
        run(feed)
    return (peak_gib() - before) * 2**10


if __name__ == "__main__":
    app.run(main)
