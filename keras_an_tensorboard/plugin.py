"""The page "Layouts" of TensorBoard: which position belongs to which entity, image by image and step by step.

TensorBoard finds it by the entry point `tensorboard_plugins` of setup.py. It reads by TensorBoard's data provider, so
that it works with whatever reads the events, and serves one JavaScript module, which draws.
"""

import json
import os

from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from keras_an_tensorboard.names import LAYOUTS_PLUGIN

_MOST_STEPS = 200  # of a layer; TensorBoard keeps some of what was written, evenly
_SCRIPT = os.path.join(os.path.dirname(__file__), "static", "index.js")


class LayoutsLoader(base_plugin.TBLoader):
    """What the entry point names: it asks for more steps than the 10 that TensorBoard keeps by default."""

    def fix_flags(self, flags):
        flags.samples_per_plugin.setdefault(LAYOUTS_PLUGIN, _MOST_STEPS)

    def load(self, context):
        return LayoutsPlugin(context)


class LayoutsPlugin(base_plugin.TBPlugin):
    """Serves `index.js`, what there is (`layers`, `steps`), and the blobs of `packing`, one at a time (`blob`).

    Args:
        context: `base_plugin.TBContext`.
    """

    plugin_name = LAYOUTS_PLUGIN

    def __init__(self, context):
        self._provider = context.data_provider

    def get_plugin_apps(self):
        return {
            "/index.js": self._serve_script,
            "/layers": self._serve_layers,
            "/steps": self._serve_steps,
            "/blob": self._serve_blob,
        }

    def is_active(self):
        return False  # TensorBoard itself asks the data provider, and calls this where there are no data

    def frontend_metadata(self):
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Layouts")

    @wrappers.Request.application
    def _serve_script(self, request):
        with open(_SCRIPT, encoding="utf-8") as file:
            return http_util.Respond(request, file.read(), "text/javascript")

    @wrappers.Request.application
    def _serve_layers(self, request):
        """Tags by run, as JSON."""
        found = self._provider.list_blob_sequences(
            plugin_util.context(request.environ),
            experiment_id=plugin_util.experiment_id(request.environ),
            plugin_name=LAYOUTS_PLUGIN,
        )
        return _json(request, {run: sorted(tags) for run, tags in found.items()})

    @wrappers.Request.application
    def _serve_steps(self, request):
        """What was written of the tag `tag` of the run `run`: a list of steps, wall times and keys of blobs."""
        run, tag = request.args.get("run"), request.args.get("tag")
        if run is None or tag is None:
            return _json(request, {"error": "`run` and `tag` must be given."}, 400)
        found = self._provider.read_blob_sequences(
            plugin_util.context(request.environ),
            experiment_id=plugin_util.experiment_id(request.environ),
            plugin_name=LAYOUTS_PLUGIN,
            downsample=_MOST_STEPS,
            run_tag_filter=provider.RunTagFilter(runs=[run], tags=[tag]),
        )
        if tag not in found.get(run, {}):
            return _json(request, {"error": f"There is no {tag} in the run {run}."}, 404)
        steps = [
            {"step": datum.step, "wall_time": datum.wall_time, "blobs": [value.blob_key for value in datum.values]}
            for datum in found[run][tag]
        ]
        return _json(request, steps)

    @wrappers.Request.application
    def _serve_blob(self, request):
        """The blob of the key `key`, as `_serve_steps` gives it."""
        try:
            data = self._provider.read_blob(plugin_util.context(request.environ), blob_key=request.args.get("key", ""))
        except (errors.PublicError, ValueError, KeyError) as error:
            return _json(request, {"error": f"There is no such blob: {error}"}, 404)
        return http_util.Respond(request, data, "application/octet-stream")


def _json(request, content, code=200):
    return http_util.Respond(request, json.dumps(content), "application/json", code=code)
