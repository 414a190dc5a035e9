"""The API reference is built without a warning and has every public name."""

import importlib
import pathlib
import re
import subprocess
import sys

import pytest

import keras_an
from keras_an.backend import IS_KERAS_3

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not IS_KERAS_3, reason="made on the current stack alone")]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "reference"
    command = [sys.executable, ROOT / "docs/build_api.py", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["layers", "losses", "models", "ops"])
def test_every_public_name_is_on_the_page_of_its_package(reference, name):
    page = (reference / "keras_an" / f"{name}.html").read_text("utf-8")
    names = importlib.import_module(f"keras_an.{name}").__all__
    assert [one for one in names if f'<section id="{one}">' not in page] == []


def test_every_package_has_a_page(reference):
    pages = {str(path.relative_to(reference)) for path in reference.rglob("*.html")}
    packages = [name for name in keras_an.__all__ if name != "AttentiveNormalization"]
    assert pages == {"index.html", "keras_an.html", *(f"keras_an/{name}.html" for name in (*packages, "ops"))}


def test_sections_are_rendered_as_such(reference):
    page = (reference / "keras_an/layers.html").read_text("utf-8")
    sections = re.findall(r"<h6 id=[^>]*>(.*?):</h6>", page)
    assert {"Arguments", "Call arguments", "Input shape", "Output shape", "Raises", "References"} <= {*sections}
    assert "<li><strong>return_layout:</strong>" in page and "gt;&gt;&gt;" in page
