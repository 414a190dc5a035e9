"""Strokes that cover all or nothing are refused before any training."""

import pytest

from gan_test_case import call_main
from trainers import configs
from trainers.configs.experiments import EXPERIMENTS
from trainers.data import stroke_check

WIDE = "task.masks.min_width=200,task.masks.max_width=200"
THIN = "task.masks.min_width=1e-6,task.masks.max_width=1e-6,task.masks.max_length=0"


def params_of(override):
    return configs.resolve("inpainting_photos64", params_override=override)


@pytest.mark.parametrize("override, words", [(WIDE, "cover everything"), (THIN, "cover nothing")])
def test_strokes_that_hide_all_or_nothing_are_refused(override, words):
    with pytest.raises(
        ValueError, match=f"Of 16 masks of strokes .* 16 {words} of an image of 64 x 64: .* Received: 3, 6"
    ):
        stroke_check.check(params_of(override))


def test_other_kinds_are_not_drawn():
    stroke_check.check(params_of(f"{WIDE},task.masks.kinds=[rectangle],task.evaluation.masks=[center]"))


def test_strokes_of_the_evaluation_count():
    with pytest.raises(ValueError, match="cover everything"):
        stroke_check.check(params_of(f"{WIDE},task.masks.kinds=[rectangle]"))


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("inpainting")])
def test_strokes_of_the_experiments_are_good(name):
    stroke_check.check(configs.resolve(name))


def test_main_refuses_them_and_writes_nothing(tmp_path, caplog):
    with pytest.raises(SystemExit) as caught:
        call_main(
            "trainers.train_inpainting",
            experiment="inpainting_photos64",
            model_dir=tmp_path / "run",
            params_override=WIDE,
        )
    assert caught.value.code == 2 and "cover everything" in caplog.text and not list(tmp_path.iterdir())
