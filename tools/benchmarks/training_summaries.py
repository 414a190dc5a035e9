"""What summaries cost in training: time and bytes."""

import os
import statistics
import tempfile

from tools.benchmarks.timing import interleaved_medians

HEADER = """| experiment | steps | seconds without | with | of a summary | % | KB with pictures | without | MB a day |
|---|---|---|---|---|---|---|---|---|"""


def row(experiment, timed_calls):
    """A row: the steps between two summaries at the default interval, with the summary and without, in turn."""
    import tensorflow as tf

    from trainers import configs
    from trainers.evaluation.gan_evaluator import GanEvaluator  # noqa: TID251 - what its probes cost is measured
    from trainers.monitoring.event_writers import EventWriters  # noqa: TID251 - as a run writes
    from trainers.monitoring.run_summaries import RunSummaries, has_pictures  # noqa: TID251 - as in a run
    from trainers.training.gan_trainer import GanTrainer  # noqa: TID251 - its steps are what is measured

    params = configs.resolve(experiment, params_override="runtime.distribution_strategy=one_device")
    interval, strategy = params.trainer.summary_interval, tf.distribute.get_strategy()
    trainer, model = GanTrainer(params, strategy), params.task.model
    batch_size = params.task.train_data.global_batch_size
    shape = (batch_size, model.resolution, model.resolution, model.image_channels)
    batch = {"image": tf.zeros(shape), "label": tf.zeros(batch_size, tf.int32)}
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
    with tempfile.TemporaryDirectory() as folder:
        probes = GanEvaluator(params, folder, trainer.ema_generator, trainer.discriminator).probes
        writers = EventWriters(folder)
        written, seconds, sizes = RunSummaries(params, folder, writers, probes), [], {}

        def steps():
            return {name: float(value) for name, value in trainer.train(iterator, tf.constant(interval)).items()}

        def summary(index=1):
            path, before = os.path.join(folder, "train"), written.seconds
            size = _bytes_below(path)
            written.write(index * interval, losses, 1.0, 1.0, trainer.learning_rates())
            writers.get("train").flush()
            sizes[has_pictures(index)] = _bytes_below(path) - size
            seconds.append(written.seconds - before)

        losses = steps()
        summary(129)  # scalars alone
        summary()
        seconds.clear()
        calls = {"without": steps, "with": lambda: (steps(), summary())}
        medians = interleaved_medians(calls, timed_calls)
        writers.close()
    own = statistics.median(seconds)
    per_day = int(86_400 / (medians["without"] + own))
    pictured = sum(has_pictures(index) for index in range(1, per_day + 1))
    megabytes = (pictured * sizes[True] + (per_day - pictured) * sizes[False]) / 1e6
    return (
        f"| {experiment} | {interval} | {medians['without']:.2f} | {medians['with']:.2f} | {own:.3f} | "
        f"{100 * own / medians['without']:.2f} | {sizes[True] / 1e3:.0f} | {sizes[False] / 1e3:.1f} | {megabytes:.0f} "
        "|"
    )


def _bytes_below(folder):
    return sum(entry.stat().st_size for entry in os.scandir(folder)) if os.path.isdir(folder) else 0
