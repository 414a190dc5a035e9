"""What the Attentive Normalization layers of a model learn, for TensorBoard, from `fit`."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np

from keras_an.backend import Tensor, keras, ops, to_numpy
from keras_an.checks import check_positive_integer
from keras_an.layers import AttentiveNormalization

_LOGGER = logging.getLogger(__name__)


class LayoutSummaries(keras.callbacks.Callback):
    """Writes layouts, statistics and the health of all `AttentiveNormalization` layers for TensorBoard.

    It needs TensorBoard, `pip install keras-an[tensorboard]`, and works with every backend of Keras. A layer that may
    be dead is a warning of the log and a text. Bytes: at most 0.5 MB a layer and summary on the page "Layouts",
    and pictures of at most 1.5 million pixels.

    Args:
        log_dir: string or path, the folder for the events; that of `keras.callbacks.TensorBoard` will do.
        inputs: a batch of what the model takes, on which the layers are watched; 8 of it are shown.
        labels: one for each of the inputs, for a table of what entities each class uses; None, the default, makes none.
        every: integer, epochs between summaries. Defaults to 1. The last epoch is always written.
        model: the model to watch, where `fit` is called on one that holds it. None, the default, is that of `fit`.

    Raises:
        ImportError: if TensorBoard is not installed.
        ValueError: if `every` is not positive, there are not as many labels as inputs, or, when `fit` begins, the model
            has no `AttentiveNormalization`.

    Example:

    ```python
    >>> callback = keras_an.callbacks.LayoutSummaries("logs", images[:16], labels=classes[:16])
    >>> model.fit(images, classes, epochs=10, callbacks=[callback])
    ```

    and then `tensorboard --logdir logs`: see the pages Layouts, Scalars, Images and Text.
    """

    def __init__(
        self,
        log_dir: Any,
        inputs: Any,
        labels: Optional[Sequence[Any]] = None,
        every: int = 1,
        model: Optional[keras.Model] = None,
    ) -> None:
        super().__init__()
        try:
            from keras_an_tensorboard import summaries
        except ImportError as error:
            raise ImportError(
                "`LayoutSummaries` needs TensorBoard: pip install 'keras-an[tensorboard]'. "
                f"Received: {type(error).__name__}: {error}"
            ) from error
        from keras_an_tensorboard.health import HealthReport

        self.log_dir = str(log_dir)
        self.every = check_positive_integer("every", every)
        first = _first(inputs)
        if labels is not None and len(labels) != len(first):
            raise ValueError(
                f"`labels` must be as many as the inputs. Received: {len(labels)} labels for {len(first)} inputs"
            )
        self._inputs = inputs
        self._labels = None if labels is None else [str(label) for label in labels]
        self._watched = model
        self._summaries = summaries
        self._report = HealthReport()
        self._writer: Any = None

    def on_train_begin(self, logs: Optional[dict[str, Any]] = None) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        watched = self._watched_model()
        if not _attentive_layers(watched):
            raise ValueError(
                "`LayoutSummaries` watches `AttentiveNormalization` layers, and the model has none. "
                f"Received: model={watched.name}"
            )
        self._writer = EventFileWriter(self.log_dir)
        self._write(self._summaries.charts(_CHARTS), 0)

    def on_epoch_end(self, epoch: int, logs: Optional[dict[str, Any]] = None) -> None:
        from keras_an_tensorboard.health import progress_of

        params = self.params or {}
        epochs = params.get("epochs") or epoch + 1
        if (epoch + 1) % self.every and epoch + 1 != epochs:
            return
        steps = params.get("steps")  # of an epoch; None where Keras does not know yet
        progress = progress_of((epoch + 1) * steps, epochs * steps) if steps else (epoch + 1) / epochs
        summary, problems = self._summaries.of_layers(self._views(), "attention/", self._report, progress)
        self._write(summary.value, epoch)
        for sentence in problems:
            _LOGGER.warning("Epoch %d: %s", epoch, sentence)

    def on_train_end(self, logs: Optional[dict[str, Any]] = None) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, values: Any, step: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2

        summary = summary_pb2.Summary(value=values)
        self._writer.add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def _watched_model(self) -> keras.Model:
        return self.model if self._watched is None else self._watched

    def _views(self) -> list[Any]:
        """A `LayerView` of each call of a layer."""
        from keras_an_tensorboard.health import LayerView

        watched, views = self._watched_model(), []
        with _recorded(_attentive_layers(watched)) as calls:
            outputs = watched(self._inputs, training=False)
        images = _images(self._inputs, outputs)
        names: dict[str, int] = {}
        for layer, inputs, mask in calls:
            names[layer.name] = number = names.get(layer.name, 0) + 1
            features = to_numpy(ops.cast(inputs, "float32"))
            layout = to_numpy(ops.cast(layer.get_layout(inputs, mask=mask), "float32"))
            if layer.data_format == "channels_first":
                features = np.moveaxis(features, 1, -1)
            views.append(
                LayerView(
                    name=f"{watched.name}/{layer.name}" + (f"_{number}" if number > 1 else ""),
                    features=features,
                    layout=layout,
                    rho=float(to_numpy(layer.rho)),
                    entities=to_numpy(ops.cast(layer.entities, "float32")),
                    t=to_numpy(ops.cast(layer.sampling_weight, "float32")) if layer.self_sampling else None,
                    epsilon=layer.epsilon,
                    images=images,
                    labels=self._labels,
                )
            )
        return views


# What the page Custom Scalars shows: titles, charts, and expressions for the tags of their lines.
_CHARTS = {
    "Layers": {
        name: [f"^attention/.*/{statistic}$"]
        for name, statistic in (
            ("Entropy over log n", "layout_entropy"),
            ("Entities in use", "entities_in_use"),
            ("Deviation inside regions over that of the map", "region_deviation"),
            ("rho", "rho"),
            ("Gain: |rho| over the deviation inside regions", "gain"),
        )
    }
}


def _attentive_layers(model: keras.Model) -> list[AttentiveNormalization]:
    layers = {id(layer): layer for layer in model._flatten_layers() if isinstance(layer, AttentiveNormalization)}
    return list(layers.values())


@contextlib.contextmanager
def _recorded(layers: list[AttentiveNormalization]) -> Iterator[list[Any]]:
    """Gives a list that takes in each call of the layers: the layer, its inputs and its mask."""
    calls: list[Any] = []

    def recording(layer: AttentiveNormalization) -> Any:
        call = layer.call

        def record(inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
            calls.append((layer, inputs, kwargs.get("mask")))
            return call(inputs, *args, **kwargs)

        return record

    for layer in layers:
        object.__setattr__(layer, "call", recording(layer))
    try:
        yield calls
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")


def _first(inputs: Any) -> Any:
    """The first array of a structure."""
    while isinstance(inputs, (list, tuple, dict)):
        inputs = next(iter(inputs.values() if isinstance(inputs, dict) else inputs))
    return inputs


def _images(inputs: Any, outputs: Any) -> Any:
    """What can be shown as images: the first inputs, else the first outputs, else None."""
    for values in (_first(inputs), _first(outputs)):
        if len(values.shape) == 4 and values.shape[-1] in (1, 3):
            return to_numpy(ops.cast(values, "float32"))
    return None
