"""What a run's folder tells beside its checkpoints: scores, the best checkpoint, the names of the classes."""

import json
import os
import re

from tools.exporting.exports import ExportError
from trainers.configs import best_scores

# The group of scores in TensorBoard; older runs have no groups.
_SCORE = re.compile(r"(?:\d+_scores/)?([^/]+)")


def steps_of(model_dir):
    """The steps of the checkpoints in a folder, in order."""
    names = os.listdir(model_dir) if os.path.isdir(model_dir) else ()
    return sorted(int(match[1]) for match in (re.fullmatch(r"ckpt-(\d+)\.index", name) for name in names) if match)


def scores_of(model_dir):
    """The scores of a run's evaluations: floats by name, by step, from the events that TensorBoard shows."""
    from tensorboard.backend.event_processing import plugin_event_accumulator, tag_types
    from tensorboard.util import tensor_util

    folder = os.path.join(model_dir, "validation")
    if not os.path.isdir(folder):
        return {}
    events = plugin_event_accumulator.EventAccumulator(folder, size_guidance={tag_types.TENSORS: 0})
    events.Reload()
    scores = {}
    for tag in events.Tags()[tag_types.TENSORS]:
        name = _SCORE.fullmatch(tag)
        if name and events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            for event in events.Tensors(tag):
                scores.setdefault(event.step, {})[name[1]] = float(tensor_util.make_ndarray(event.tensor_proto))
    return scores


def best_checkpoint(model_dir, best):
    """The path of the checkpoint with the best score, of those that are there and were evaluated.

    They are in the run's folder, and in the folder of `trainer.best_checkpoint_export_subdir`, where the run has one.

    Args:
        model_dir: folder of the run.
        best: `min:NAME` or `max:NAME`, the name of a score.

    Raises:
        ExportError: where `best` is something else, or no checkpoint has such a score.
    """
    direction, _, name = best.partition(":")
    if direction not in ("min", "max") or not name:
        raise ExportError(f"--best must be min:NAME or max:NAME, the name of a score. Received: --best={best}")
    paths = {step: os.path.join(model_dir, f"ckpt-{step}") for step in steps_of(model_dir)}
    scores = {step: values for step, values in scores_of(model_dir).items() if step in paths}
    for folder in _folders_of_best(model_dir):
        info = best_scores.info_of(folder)
        if info:
            step = info.pop("best_ckpt_global_step")
            paths.setdefault(step, os.path.join(folder, f"ckpt-{step}"))
            scores[step] = {**info, **scores.get(step, {})}
    if not any(name in values for values in scores.values()):
        names = sorted({name for values in scores.values() for name in values})
        raise ExportError(
            f"--best={best}: no checkpoint in --model_dir={model_dir} has such a score. Steps with checkpoints: "
            f"{sorted(paths)}; their scores: {', '.join(names) or 'none'}."
        )
    ranked = {step: values[name] for step, values in scores.items() if name in values}
    return paths[{"min": min, "max": max}[direction](ranked, key=ranked.get)]


def _folders_of_best(model_dir):
    """The folders in a run's that hold a best checkpoint: its name may have changed since."""
    return sorted(entry.path for entry in os.scandir(model_dir) if entry.is_dir()) if os.path.isdir(model_dir) else []


def class_names(model_dir):
    """The names of the classes of a run's training data, or None where the data did not tell."""
    path = os.path.join(model_dir, "class_names.json")
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)
