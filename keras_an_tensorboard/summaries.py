"""What TensorBoard reads, as protocol buffers made by tensorboard alone: scalars, histograms, pictures, layouts."""

import numpy as np
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.plugins.histogram import summary_v2 as histogram_summary
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import summary_v2 as scalar_summary
from tensorboard.plugins.text import summary_v2 as text_summary
from tensorboard.util import tensor_util

from keras_an_tensorboard import health, packing, pictures
from keras_an_tensorboard.names import LAYOUTS_PLUGIN

_MOST_ROWS = 20  # of a table
_BUCKETS = 20

# What TensorBoard shows beside a chart.
STATISTICS = {
    "rho": "How much of the normalised map the output holds: X + rho * Xbar. Starts at 0, and should leave it early.",
    "t": "Weight of self-sampling, a mean over the entities. Starts at 0.1, and moves slowly.",
    "layout_entropy": "Entropy of the layout at a position, averaged, over log n. At 1 the layout tells nothing; above "
    "0.98 the layer is dead.",
    "entities_in_use": "Share of the entities that win at some position of some of the fixed inputs.",
    "entities_dead": "Number of entities that win nowhere on the fixed inputs.",
    "largest_share": "Share of the positions that the entity wins which wins most. Above 0.95 the layer is dead.",
    "region_deviation": "Deviation of the layer's input inside the regions, over that of the whole map. At 1 the "
    "regions are as varied as the map; in the paper's networks it is 0.35 to 1.09 against 4.77.",
    "gain": "|rho| over the deviation inside the regions: how many times as strongly as the input itself the "
    "normalised map answers to a change of it. Far above 1 it undoes the bound of a discriminator's spectral norms.",
    "orthogonality": "Sum of the squares of W W^T - I, with the rows of W at unit length. 0: the entities differ; "
    "n (n - 1): all are the same.",
}


def scalar(tag, value, description=None):
    """A scalar."""
    return scalar_summary.scalar_pb(tag, np.float32(value), description).value


def text(tag, markdown, description=None):
    """A text in Markdown."""
    return text_summary.text_pb(tag, markdown, description).value


def histogram(tag, values, description=None):
    """A histogram of numbers."""
    return histogram_summary.histogram_pb(tag, np.asarray(values, np.float64), _BUCKETS, description).value


def picture(tag, image, description=None):
    """A uint8 `(height, width, 3)` picture."""
    metadata = image_metadata.create_summary_metadata(display_name=None, description=description or "")
    height, width, _ = image.shape
    return [_value(tag, [str(width).encode(), str(height).encode(), pictures.png(image)], metadata)]


def layouts(tag, view, description=None):
    """A `health.LayerView` with images and two spatial dimensions, for the page "Layouts"."""
    metadata = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=LAYOUTS_PLUGIN, content=b"1"),
        summary_description=description or "",
        data_class=summary_pb2.DATA_CLASS_BLOB_SEQUENCE,
    )
    return [_value(tag, list(packing.pack(view.images, view.layout, view.shares(), view.labels)), metadata)]


def charts(categories):
    """The layout of the Custom Scalars page.

    Args:
        categories: `{title: {chart: tags}}`. Tags are a list of regular expressions, of lines; or a dictionary from
            expression-free tags to the tags of the lower and the upper end of their margin.
    """
    layout = layout_pb2.Layout()
    for title, parts in categories.items():
        category = layout.category.add(title=title)
        for name, tags in parts.items():
            chart = category.chart.add(title=name)
            if isinstance(tags, dict):
                for value, (lower, upper) in tags.items():
                    chart.margin.series.add(value=value, lower=lower, upper=upper)
            else:
                chart.multiline.tag.extend(tags)
    metadata = custom_scalar_metadata.create_summary_metadata()
    return [_value(custom_scalar_metadata.CONFIG_SUMMARY_TAG, layout.SerializeToString(), metadata)]


def of_layer(view, prefix, values, with_pictures=True):
    """All summaries of a layer.

    Args:
        view: `health.LayerView`.
        prefix: string, first part of the tags of scalars and histograms, with a slash at its end.
        values: of `health.statistics`.
        with_pictures: whether to make pictures and the page "Layouts" too, which take most of the bytes.

    Returns:
        A list of `Summary.Value`.
    """
    name, found = f"{prefix}{view.name}", []
    for statistic, value in values.items():
        found += scalar(f"{name}/{statistic}", value, STATISTICS[statistic])
    if not with_pictures:
        return found
    found += histogram(f"{name}/shares", view.shares(), "Share of the positions that each entity wins.")
    if len(view.entities) > 1:
        told = "Cosine between the filters of each two entities. 0: at right angles; 1: the same."
        found += histogram(f"{name}/cosines", view.cosines(), told)
    table = view.table()
    if table:
        told = "Mean assignment to each entity, in per cent, of the inputs of a class, or of a part of the image."
        rows, means = table
        found += picture(
            f"assignments/{view.name}", pictures.table_picture(rows[:_MOST_ROWS], means[:_MOST_ROWS]), told
        )
    if view.images is not None and view.layout.ndim == 4:
        told = (
            "Fixed inputs: the image, the winning entities over it and alone, and a heat map for each entity, from "
            "black (0) over red and yellow to white (1), under its number and the share of the positions that it wins."
        )
        image = pictures.layout_picture(view.images, view.layout, view.shares())
        found += picture(f"layouts/{view.name}", image, told)
        found += layouts(f"interactive/{view.name}", view, "See the page Layouts.")
    return found


def of_layers(views, prefix, report, progress=0.0, with_pictures=True):
    """All summaries of the layers of a run.

    Args:
        views: list of `health.LayerView`.
        prefix: as of `of_layer`.
        report: `health.HealthReport`.
        progress: share of the training that is done.
        with_pictures: as of `of_layer`.

    Returns:
        `Summary`, and a list of sentences, what is newly wrong.
    """
    found, problems = [], {}
    for view in views:
        values = health.statistics(view)
        problems[view.name] = health.findings(values, len(view.entities), progress)
        found += of_layer(view, prefix, values, with_pictures)
    new, markdown = report.update(problems) if views else ([], None)
    if markdown:
        found += text("health", markdown, "What is wrong with the layers, and what to try; written when it changes.")
    return summary_pb2.Summary(value=found), new


def _value(tag, data, metadata):
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor_util.make_tensor_proto(data))
