"""What the tests of trainers and tools share: a small GAN, mains as functions, and readers of what a run writes."""

import contextlib
import fcntl
import importlib
import io
import os
import pathlib
import sys

import tensorflow as tf
from absl import flags

from trainers import configs

# One block in each network: tracing is what costs time in tests.
SMALL = ",".join(
    [
        "task.model.resolution=8",
        "task.model.latent_dim=8",
        "task.model.generator.base_channels=4",
        "task.model.generator.attention_blocks=[1]",
        "task.model.generator.num_entities=3",
        "task.model.generator.entity_stddev=null",
        "task.model.discriminator.base_channels=4",
        "task.model.discriminator.attention_blocks=[1]",
        "task.model.discriminator.num_entities=3",
        "task.model.discriminator.entity_stddev=null",
        "task.train_data.global_batch_size=8",
        "task.validation_data.global_batch_size=30",
        "task.evaluation.num_samples=50",
        "task.evaluation.classifier_epochs=1",
        "trainer.discriminator_steps=1",
    ]
)
RUN = SMALL + (
    ",trainer.train_steps=8,trainer.steps_per_loop=4,trainer.summary_interval=4,trainer.checkpoint_interval=4"
    ",trainer.validation_interval=8,runtime.distribution_strategy=mirrored"
)
# Where replicas are not the point: each is traced.
ALONE = RUN.replace("mirrored", "one_device")

# Of the evaluator, in the features of a classifier.
SCORES = {
    "label_accuracy",
    "classifier_test_accuracy",
    "frechet_distance",
    "frechet_distance_floor",
    "kernel_distance",
    "classifier_score",
    "precision",
    "recall",
    "spread_ratio",
    "discriminator_slope",
}


def small_params(**overrides):
    """The demo experiment with tiny networks; `overrides` by key, with `__` for a dot."""
    return configs.resolve("gan_digits32", params_override=override_of(SMALL, **overrides))


def override_of(*texts, **overrides):
    """Texts of pairs `key=value` with commas between, then `overrides` by key, each in place of what was before."""
    pairs = dict(pair.split("=", 1) for text in texts for pair in text.split(","))
    pairs.update({key.replace("__", "."): value for key, value in overrides.items()})
    return ",".join(f"{key}={value}" for key, value in pairs.items())


@contextlib.contextmanager
def imported_main(name):
    """A context with the module of a main. Mains share names of flags, so a main's flags are gone again after it."""
    sys.modules.pop(name, None)
    try:
        yield importlib.import_module(name)
    finally:
        for flag in flags.FLAGS.get_flags_for_module(name):
            delattr(flags.FLAGS, flag.name)


def call_main(name, *arguments, **flag_values):
    """Runs a main in this process, and leaves no flags of it."""
    with imported_main(name) as module:
        try:
            flags.FLAGS([name, *(f"--{flag}={value}" for flag, value in flag_values.items())])
            module.main([name, *arguments])
        finally:
            flags.FLAGS.unparse_flags()


def train_gan(model_dir, mode="train_and_eval", override=RUN):
    """Runs `trainers.train_gan` on `model_dir`."""
    call_main("trainers.train_gan", experiment="gan_digits32", mode=mode, model_dir=model_dir, params_override=override)


def made_once(tmp_path_factory, name, make):
    """The folder `name`, to which `make` wrote; once in a session, also where its tests run in several processes."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(base / f"{name}.lock", "a+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if not lock.read():
            make(base / name)
            lock.write("made")
    return base / name


def trained_run(tmp_path_factory):
    """The folder of a run of 8 steps on two replicas, and what it printed.

    Tests that write to the folder take a copy.
    """

    def make(folder):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            train_gan(folder / "run")
        (folder / "printed.txt").write_text(printed.getvalue(), encoding="utf-8")

    folder = made_once(tmp_path_factory, "trained", make)
    return folder / "run", (folder / "printed.txt").read_text(encoding="utf-8")


def run_in_this_process(form, path, probes):
    """`exports.run_in_fresh_process` without the process, which takes seconds: for tests of something else."""
    from tools.exporting import fresh_process

    if form != "saved_model":
        run = fresh_process.RUNTIMES[form](path)
        return [run(signature, feed) for signature, feed in probes]
    signatures = tf.saved_model.load(path).signatures
    found = [
        signatures[signature](**{name: tf.constant(value) for name, value in feed.items()})
        for signature, feed in probes
    ]
    return [{name: value.numpy() for name, value in outputs.items()} for outputs in found]


def exported_run(tmp_path_factory):
    """The SavedModel of `trained_run`, averaged weights: 8 x 8 grey images of 10 classes, latents of 8.

    Tests that write to the folder take a copy.
    """
    model_dir, _ = trained_run(tmp_path_factory)

    def make(folder):
        call_main("tools.export_saved_model", model_dir=model_dir, output_dir=folder / "saved_model")

    return made_once(tmp_path_factory, "exported", make) / "saved_model"


def fake_inception(path, num_features=6, seed=0):
    """Writes a SavedModel with the inputs and outputs of TF-GAN's Inception, but few features, and returns its path.

    It sees the mean of each colour in each quarter of the image, mixed by weights that `seed` draws.
    """

    class FakeInception(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(tf.random.stateless_normal((12, num_features), (seed, 0), alg="philox"))

        @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3))])
        def __call__(self, images):
            means = tf.reshape(tf.image.resize(images, (2, 2), "area"), (-1, 12))
            features = tf.matmul(means, self.kernel)
            return {"pool_3": features[:, None, None], "logits": 4.0 * features[:, :5]}

    tf.saved_model.save(FakeInception(), str(path))
    return str(path)


def contents(folder):
    """Bytes of all files below `folder`, by path."""
    return {str(path): path.read_bytes() for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()}


def summaries_of(folder):
    """What the event files of `folder` hold: `{tag: {step: tensor}}`."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    return found
