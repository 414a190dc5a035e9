"""The checkpoint with the best score of a run, kept as Model Garden's trainer keeps it."""

import json
import os
import re

from absl import logging

from trainers.configs.best_scores import INFO_FILE, info_of


class BestCheckpoint:
    """A copy of the best checkpoint in a folder of its own, with its scores in `best_ckpt_info.txt`.

    Args:
        model_dir: the run's folder.
        config: `schema.TrainerConfig`; without `best_checkpoint_export_subdir` nothing is kept.
        copy: function from a step and a folder that writes the checkpoint of the step there.
    """

    def __init__(self, model_dir, config, copy):
        self._folder = os.path.join(model_dir, config.best_checkpoint_export_subdir)
        self._is_kept = bool(config.best_checkpoint_export_subdir)
        self._metric = config.best_checkpoint_eval_metric
        self._sign = {"higher": 1.0, "lower": -1.0}[config.best_checkpoint_metric_comp]
        self._copy = copy

    def keep(self, step, scores):
        """Takes the checkpoint of a step in place of the one that is kept, where its score is better.

        Args:
            step: integer.
            scores: floats by name.
        """
        if not self._is_kept:
            return
        if self._metric not in scores:
            logging.warning(
                "Step %d has no `trainer.best_checkpoint_eval_metric` %r among its scores: %s",
                step,
                self._metric,
                ", ".join(scores),
            )
            return
        best = info_of(self._folder).get(self._metric)
        if best is not None and self._sign * scores[self._metric] <= self._sign * best:
            return
        os.makedirs(self._folder, exist_ok=True)
        self._copy(step, self._folder)
        self._write(INFO_FILE, json.dumps({**scores, "best_ckpt_global_step": step}, indent=4) + "\n")
        self._write("checkpoint", f'model_checkpoint_path: "ckpt-{step}"\nall_model_checkpoint_paths: "ckpt-{step}"\n')
        for name in os.listdir(self._folder):
            if re.fullmatch(r"ckpt-\d+\..*", name) and not name.startswith(f"ckpt-{step}."):
                os.remove(os.path.join(self._folder, name))
        logging.info("Step %d is the best so far: %s %.4g", step, self._metric, scores[self._metric])

    def _write(self, name, text):
        path = os.path.join(self._folder, name)
        with open(path + ".part", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".part", path)
