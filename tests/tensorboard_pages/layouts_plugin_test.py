"""The plugin of the page "Layouts" on TensorBoard's own data provider, and how TensorBoard finds it."""

import argparse
import json
import pathlib
import subprocess
import sys

import pytest
from tensorboard import default
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from werkzeug import test as werkzeug_test
from werkzeug import wrappers

from keras_an_tensorboard import packing, plugin
from keras_an_tensorboard.names import LAYOUTS_PLUGIN
from tensorboard_pages_test_case import planted_view, write_planted

ROOT = pathlib.Path(__file__).parents[2]
TAG = "interactive/net/layer"


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    """Clients of the routes of a plugin that shows two steps."""
    folder = tmp_path_factory.mktemp("logs")
    write_planted(folder / "run", steps=(3, 7))
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    shown = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    apps = plugin.LayoutsPlugin(base_plugin.TBContext(data_provider=shown)).get_plugin_apps()
    return {path: werkzeug_test.Client(app, wrappers.Response) for path, app in apps.items()}


def test_layers_are_tags_by_run(routes):
    assert json.loads(routes["/layers"].get("/").data) == {"run": [TAG]}


def test_steps_and_blobs_are_what_was_written(routes):
    steps = json.loads(routes["/steps"].get("/", query_string={"run": "run", "tag": TAG}).data)
    assert [step["step"] for step in steps] == [3, 7] and all(len(step["blobs"]) == 3 for step in steps)
    for step in steps:
        view = planted_view(step["step"])
        expected = packing.pack(view.images, view.layout, view.shares(), view.labels)
        for key, blob in zip(step["blobs"], expected):
            response = routes["/blob"].get("/", query_string={"key": key})
            assert response.data == blob and response.content_type == "application/octet-stream"


@pytest.mark.parametrize(
    "path, asked, code, told",
    [
        ("/steps", {"run": "run"}, 400, "`run` and `tag` must be given."),
        ("/steps", {"run": "other", "tag": TAG}, 404, f"There is no {TAG} in the run other."),
        ("/blob", {"key": "none"}, 404, "There is no such blob"),
        ("/blob", {}, 404, "There is no such blob"),
    ],
)
def test_what_is_not_there_is_told(routes, path, asked, code, told):
    response = routes[path].get("/", query_string=asked)
    assert response.status_code == code and told in json.loads(response.data)["error"]


def test_script_is_a_module(routes):
    response = routes["/index.js"].get("/")
    assert response.content_type.startswith("text/javascript") and b"export async function render" in response.data


def test_tensorboard_finds_the_plugin():
    assert plugin.LayoutsLoader in default.get_dynamic_plugins()
    assert plugin.LayoutsPlugin(base_plugin.TBContext()).frontend_metadata().tab_name == "Layouts"


def test_loader_keeps_more_steps_unless_the_user_says_how_many():
    for given, kept in (({}, 200), ({LAYOUTS_PLUGIN: 7}, 7)):
        flags = argparse.Namespace(samples_per_plugin=dict(given))
        plugin.LayoutsLoader().fix_flags(flags)
        assert flags.samples_per_plugin == {LAYOUTS_PLUGIN: kept}


def test_plugin_imports_neither_keras_nor_tensorflow():
    program = (
        "import sys; from keras_an_tensorboard import plugin, summaries, health; "
        "print([name for name in sys.modules if name in ('keras', 'tensorflow', 'keras_an', 'jax', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
