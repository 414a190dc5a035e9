"""The scores of the best checkpoint of a run, which lie beside it, as Model Garden's trainer has them."""

import json
import os

INFO_FILE = "best_ckpt_info.txt"


def info_of(folder):
    """What is known of the checkpoint in a folder: its scores and `best_ckpt_global_step`; {} where it is not there."""
    try:
        with open(os.path.join(folder, INFO_FILE), encoding="utf-8") as file:
            info = dict(json.load(file))
    except (OSError, ValueError, TypeError):
        return {}
    path = os.path.join(folder, f"ckpt-{info.get('best_ckpt_global_step')}.index")
    return info if os.path.isfile(path) else {}
