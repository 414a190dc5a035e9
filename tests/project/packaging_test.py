"""Wheel and source distribution: what they hold, what they say, and that the wheel works without the clone."""

import email
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import keras_an

ROOT = pathlib.Path(__file__).parents[2]
VERSION = keras_an.__version__
pytestmark = pytest.mark.slow

USE_OF_THE_WHEEL = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import keras_an
from keras_an.backend import keras
inputs = keras.Input((8, 8, 3))
outputs = keras_an.AttentiveNormalization(2)(inputs)
features = np.ones((2, 8, 8, 3), np.float32)
print(keras_an.__file__, np.abs(keras.Model(inputs, outputs)(features) - features).max())
"""


def run(*command, cwd=None):
    done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Wheel and source distribution, the wheel built from the latter, without network."""
    folder = tmp_path_factory.mktemp("packaging")
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "shared")
    clone = shutil.copytree(ROOT, folder / "clone", ignore=left_out)
    run("-m", "build", "--no-isolation", "--outdir", folder / "dist", clone)
    (wheel,), (source,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def unpacked(archives, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(archives[0]) as wheel:
        wheel.extractall(folder)
    return folder


def test_wheel_holds_the_package_and_nothing_else(unpacked):
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    packages = ("keras_an", "keras_an_tensorboard")
    sources = {str(path.relative_to(ROOT)) for package in packages for path in (ROOT / package).rglob("*.py")}
    info = f"keras_an-{VERSION}.dist-info/"
    assert {file for file in files if not file.startswith(info)} == {
        *sources,
        "keras_an/py.typed",
        "keras_an_tensorboard/static/index.js",
    }
    entry_points = (unpacked / info / "entry_points.txt").read_text("utf-8")
    assert "[tensorboard_plugins]\nkeras_an_layouts = keras_an_tensorboard.plugin:LayoutsLoader" in entry_points
    assert f"{info}METADATA" in files and any(file.startswith(info) and file.endswith("LICENSE") for file in files)


def test_source_distribution_holds_no_trainers_and_no_tests(archives):
    with tarfile.open(archives[1]) as source:
        folders = {name.split("/")[1] for name in source.getnames() if name.count("/") > 1}
    assert folders == {"keras_an", "keras_an_tensorboard", "keras_an.egg-info"}


def test_version_and_extras(archives, unpacked):
    metadata = email.message_from_string((unpacked / f"keras_an-{VERSION}.dist-info/METADATA").read_text("utf-8"))
    extras = {"tensorflow", "tensorboard", "metrics", "train", "jax", "torch", "addons", "test", "dev"}
    assert metadata["Version"] == VERSION and set(metadata["Requires-Python"].split(",")) == {">=3.9", "<3.14"}
    assert extras <= set(metadata.get_all("Provides-Extra"))
    assert [path.name.split("-")[1] for path in archives] == [VERSION, f"{VERSION}.tar.gz"]


def test_changelog_begins_with_the_version():
    assert re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[0] == VERSION


@pytest.mark.skipif(sys.version_info < (3, 10), reason="what checks archives needs Python 3.10")
def test_twine_finds_no_fault(archives):
    assert run("-m", "twine", "check", "--strict", *archives).count("PASSED") == 2


def test_wheel_works_without_the_clone(unpacked, tmp_path):
    path, difference = run("-I", "-c", USE_OF_THE_WHEEL, unpacked, cwd=tmp_path).split()[-2:]
    assert path == str(unpacked / "keras_an/__init__.py") and float(difference) == 0.0
