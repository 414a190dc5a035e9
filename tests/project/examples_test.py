"""The examples run, and what they print is better than what they compare it with."""

import pathlib
import re
import subprocess
import sys

import pytest

from keras_an.backend import IS_KERAS_3

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not IS_KERAS_3, reason="takes a minute; they run on Keras 3")]


def numbers(example, pattern):
    """The groups of `pattern` in what an example prints, run as its docstring says: a name, then numbers."""
    assert f"Command: python -m examples.{example}\n" in (ROOT / "examples" / f"{example}.py").read_text("utf-8")
    done = subprocess.run([sys.executable, "-m", f"examples.{example}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.findall(pattern, done.stdout, re.MULTILINE)
    return {name: [float(number) for number in values if number] for name, *values in found}


def test_digits_classifier():
    accuracy = numbers("digits_classifier", r"^(\w+): (\S+) of 599 test digits right")
    assert set(accuracy) == {"without", "attentive"}
    assert accuracy["without"][0] > 0.95 and accuracy["attentive"][0] > 0.96


def test_segmentation():
    """Takes 45 seconds: four networks learn."""
    overlap = numbers("segmentation", r"^(\w+): intersection over union (\S+)")
    assert set(overlap) == {"everything", "none", "instance", "attentive"}
    assert overlap["everything"] < overlap["none"]
    assert min(overlap["instance"][0], overlap["attentive"][0]) > overlap["none"][0] + 0.1


def test_tfgan_losses():
    """Takes 50 seconds: two GANs learn."""
    found = numbers(
        "tfgan_losses",
        r"^([\w -]+)(?: differ from keras_an.losses by|: label accuracy) (\S+)(?: before training, (\S+))?",
    )
    assert found.pop("hinge losses")[0] < 1e-6
    assert set(found) == {"hinge", "non-saturating"}
    assert all(before < 0.2 and after > 0.4 for before, after in found.values())
