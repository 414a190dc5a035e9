"""Runs an export as its users do: in a process of its own, with its own runtime alone.

python -I tools/exporting/fresh_process.py FORMAT PATH FOLDER

Reads the inputs that `write_probes` left in FOLDER and leaves the outputs there for `read_results`. A SavedModel runs
with TensorFlow, and its first inputs also through `saved_model_cli run`; LiteRT and ONNX run without TensorFlow; and
where only they are, this package cannot be imported. `.keras` and `.weights.h5` need Keras and this package.
"""

import contextlib
import json
import os
import sys
import tempfile

import numpy as np

_SIGNATURES, _INPUTS, _OUTPUTS = "signatures.json", "inputs.npz", "outputs.npz"


def main(form, path, folder):
    hidden = [] if form in ("keras", "weights") else ["keras_an", "trainers", "tools"]
    hidden += ["tensorflow", "keras"] if form in ("litert", "onnx") else []
    sys.modules.update(dict.fromkeys(hidden))  # to import one of these is an error now
    run = RUNTIMES[form](path)
    with open(os.path.join(folder, _SIGNATURES), encoding="utf-8") as file:
        signatures = json.load(file)
    results = [run(signature, feed) for signature, feed in zip(signatures, _read(folder, _INPUTS, len(signatures)))]
    _write(folder, _OUTPUTS, results)


def write_probes(folder, probes):
    """Leaves pairs of a signature, or None for a whole model, and arrays by name for the fresh process."""
    with open(os.path.join(folder, _SIGNATURES), "w", encoding="utf-8") as file:
        json.dump([signature for signature, _ in probes], file)
    _write(folder, _INPUTS, [feed for _, feed in probes])


def read_results(folder, count):
    """The outputs for each of `count` probes, arrays by name."""
    return _read(folder, _OUTPUTS, count)


def _write(folder, name, dictionaries):
    arrays = {f"{i}.{key}": value for i, dictionary in enumerate(dictionaries) for key, value in dictionary.items()}
    np.savez(os.path.join(folder, name), **arrays)


def _read(folder, name, count):
    dictionaries = [{} for _ in range(count)]
    with np.load(os.path.join(folder, name)) as file:
        for key in file.files:
            number, _, key_of_dictionary = key.partition(".")
            dictionaries[int(number)][key_of_dictionary] = file[key]
    return dictionaries


def _saved_model(path):
    import tensorflow as tf

    signatures = tf.saved_model.load(path).signatures
    seen = set()

    def run(signature, feed):
        outputs = signatures[signature](**{name: tf.constant(value) for name, value in feed.items()})
        outputs = {name: value.numpy() for name, value in outputs.items()}
        if signature not in seen:  # a session is slow to start
            seen.add(signature)
            _check_command_line(path, signature, feed, outputs)
        return outputs

    return run


def _check_command_line(path, signature, feed, outputs):
    """Raises ValueError where `saved_model_cli run` gives other outputs."""
    from tensorflow.python.tools import saved_model_cli

    with tempfile.TemporaryDirectory() as folder:
        np.savez(os.path.join(folder, "inputs.npz"), **feed)
        inputs = ";".join(f"{name}={folder}/inputs.npz[{name}]" for name in feed)
        arguments = ["run", "--dir", path, "--tag_set", "serve", "--signature_def", signature, "--inputs", inputs]
        command, sys.argv = sys.argv, ["saved_model_cli", *arguments, "--outdir", folder]
        try:
            with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
                saved_model_cli.main()
        except SystemExit as end:
            if end.code:
                raise ValueError(f"saved_model_cli run ends with {end.code} for `{signature}`") from end
        finally:
            sys.argv = command
        for name, value in outputs.items():
            found = np.load(os.path.join(folder, f"{name}.npy"))
            scale = 127.5 if value.dtype == np.uint8 else 1.0  # levels may round to the other side
            if found.shape != value.shape or not np.abs(found.astype(float) - value).max() <= 1e-2 * scale:
                raise ValueError(f"saved_model_cli run gives another `{name}` of `{signature}`")


def _litert(path):
    from ai_edge_litert.interpreter import Interpreter

    threads = os.cpu_count() or 1  # by itself it takes one
    runner = Interpreter(model_path=path, num_threads=threads).get_signature_runner("serving_default")
    return lambda signature, feed: runner(**feed)


def _onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda signature, feed: dict(zip(names, session.run(names, feed)))


def _keras(path):
    return _called(_keras_of_package().saving.load_model(path, compile=False))


def _weights(path):
    keras = _keras_of_package()
    with open(path.removesuffix(".weights.h5") + ".json", encoding="utf-8") as file:
        model = keras.models.model_from_json(file.read())
    model.load_weights(path)
    return _called(model)


def _keras_of_package():
    """The Keras that the package runs on, with the package's layers registered."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from keras_an import backend

    return backend.keras


def _called(model):
    def run(signature, feed):
        outputs = model([feed[name] for name in sorted(feed)], training=False)
        outputs = outputs if isinstance(outputs, dict) else {"output": outputs}
        return {name: np.asarray(value) for name, value in outputs.items()}

    return run


# By format: a function from the path of an export to one from a signature and arrays by name to its outputs.
RUNTIMES = {"saved_model": _saved_model, "litert": _litert, "onnx": _onnx, "keras": _keras, "weights": _weights}


if __name__ == "__main__":
    main(*sys.argv[1:])
