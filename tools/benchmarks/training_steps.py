"""Training steps to be timed, in this process or in one of its own, which may run another clone.

It imports nothing of `tools`: as a program it runs the trainers of the clone that it is given, of whatever version.

python tools/benchmarks/training_steps.py PATH_OF_A_CLONE SPECIFICATION

SPECIFICATION is what `make_call` takes, as JSON. The program answers on its standard output, a line of JSON each: first
the seconds of the first call, in which the step is traced; then for every line that it reads those of one more. Seconds
are two numbers: of the clock, and of the processors, of all threads together.
"""

import json
import os
import sys
import time
import types

KINDS = ("gan", "reconstruction", "adversarial")


def make_call(
    kind="gan",
    resolution=32,
    batch_size=16,
    replicas=1,
    xla=False,
    steps=1,
    attention="none",
    base_channels=64,
    precision="float32",
    mirrored=False,
):
    """A function that takes `steps` training steps on random images and waits for them.

    Args:
        kind: one of `KINDS`: a step of the class-conditional GAN, or one of either phase of inpainting.
        resolution: side of the images.
        batch_size: of the images, over all replicas.
        replicas: replicas that share a batch.
        xla: whether XLA compiles losses and gradients.
        steps: steps in a call.
        attention: what the attention slots hold.
        base_channels: channels at full resolution; the inpainting generator has half of them.
        precision: `runtime.mixed_precision_dtype`.
        mirrored: whether one replica is that of a MirroredStrategy too; several always are.

    Returns:
        A function without arguments that returns the metrics, floats by name.
    """
    import numpy as np
    import tensorflow as tf

    from keras_an.backend import keras
    from trainers import configs

    overrides = {
        "task.model.resolution": resolution,
        "task.model.generator.base_channels": base_channels,
        "task.train_data.global_batch_size": batch_size,
        "runtime.enable_xla": str(xla).lower(),
        "runtime.mixed_precision_dtype": precision,
    }
    if kind == "gan":
        experiment, trainer_class = "gan_imagenet128", _trainers().gan
        overrides["task.model.num_classes"] = 10
        overrides["task.model.attention"] = attention
        overrides["task.model.discriminator.base_channels"] = base_channels
        overrides["task.model.synchronized_batch_norm"] = str(not xla).lower()
    else:
        experiment, trainer_class = "inpainting_folder256", _trainers().inpainting
        overrides["task.model.generator.base_channels"] = base_channels // 2
        overrides["task.model.generator.attention"] = attention
        overrides["task.model.critic.base_channels"] = base_channels
        overrides["task.model.critic.attention"] = "none"
        overrides["task.masks.size"] = resolution // 2
        overrides["task.masks.max_shrink"] = resolution // 8
        overrides["trainer.discriminator_steps"] = 1
        overrides["trainer.pretrain_steps"] = 10**6 if kind == "reconstruction" else 0
    override = ",".join(f"{key}={value}" for key, value in overrides.items())
    params = configs.resolve(experiment, params_override=override)
    keras.mixed_precision.set_global_policy(precision if precision == "float32" else f"mixed_{precision}")
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices[:replicas]]
    mirrored = mirrored or replicas > 1
    make_strategy = _trainers().distribution.mirrored_strategy
    strategy = make_strategy(names) if mirrored else tf.distribute.OneDeviceStrategy(names[0])
    trainer = trainer_class(params, strategy)
    random = np.random.default_rng(0)
    batch = {"image": random.uniform(-1, 1, (batch_size, resolution, resolution, 3)).astype("float32")}
    if kind == "gan":
        batch["label"] = random.integers(10, size=batch_size).astype("int32")
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    iterator = iter(strategy.experimental_distribute_dataset(dataset))

    def call():
        return {name: float(value) for name, value in trainer.train(iterator, tf.constant(steps)).items()}

    return call


def prepare():
    """What training does before TensorFlow is imported, and before anything is built, as far as the clone knows it."""
    try:
        from trainers import cpu

        cpu.choose_kernels()
    except ImportError:
        pass  # of an older version
    _trainers().distribution.keep_freed_memory()


def make_devices(count):
    """Divides the CPU into `count` logical devices, where there is no GPU."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    if not tf.config.list_physical_devices("GPU") and not tf.config.get_logical_device_configuration(cpu):
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)


def _trainers():
    """The modules of the steps; older versions have them in `trainers` itself."""
    try:
        # The steps are what is measured.
        from trainers.training import distribution, gan_trainer, inpainting_trainer  # noqa: TID251
    except ImportError:
        from trainers import distribution, gan_trainer, inpainting_trainer
    return types.SimpleNamespace(
        distribution=distribution, gan=gan_trainer.GanTrainer, inpainting=inpainting_trainer.InpaintingTrainer
    )


def _serve(clone, specification):
    clone = os.path.realpath(clone)
    sys.path[0] = clone  # was the folder of this file
    prepare()
    import keras_an

    if not os.path.realpath(keras_an.__file__).startswith(clone + os.sep):
        raise SystemExit(f"{clone} holds no keras_an: {keras_an.__file__} was imported.")
    if specification.get("replicas", 1) > 1:
        make_devices(specification["replicas"])
    call = make_call(**specification)
    print(json.dumps(_seconds(call)), flush=True)
    for _ in sys.stdin:
        print(json.dumps(_seconds(call)), flush=True)


def _seconds(call):
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(sys.argv[2]))
