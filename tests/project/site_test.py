"""The site of guides and API is built without a warning and has every public name."""

import html
import importlib
import os
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
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def text_of(page):
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text("utf-8")))


@pytest.mark.parametrize("name", ["layers", "losses", "models", "ops", "regularizers"])
def test_every_public_name_is_on_the_page_of_its_package(site, name):
    page = (site / "api" / f"{name}.html").read_text("utf-8")
    module = importlib.import_module(f"keras_an.{name}")
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    names = getattr(module, "__all__", own)
    # A function of its module's name stands under both.
    found = {shown.split(".")[-1] for shown in re.findall(rf'<h\d id="(keras_an\.{name}\.[\w.]+)"', page)}
    assert names and set(names) - found == set()


def test_every_guide_and_package_has_a_page(site):
    guides = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {path.relative_to(site) for path in site.rglob("*.html")} == {*guides, pathlib.Path("404.html")}
    packages = [name for name in keras_an.__all__ if name != "AttentiveNormalization"]
    assert {pathlib.Path(f"api/{name}.html") for name in (*packages, "ops")} <= guides


def test_sections_are_rendered_as_such(site):
    text = text_of(site / "api/layers.html")
    titles = {"Parameters:", "Call arguments", "Input shape", "Output shape", "Raises:", "References"}
    assert titles - {line.strip() for line in text.splitlines()} == set()
    assert "return_layout" in text and ">>>" in text


def test_no_page_asks_another_site_for_anything(site):
    asked = re.compile(r'(?:<script[^>]*src|<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href)="(https?:[^"]+)"')
    assert [found for path in site.rglob("*.html") for found in asked.findall(path.read_text("utf-8"))] == []
