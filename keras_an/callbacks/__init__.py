"""Callbacks of `fit`."""

from keras_an.callbacks.layout_summaries import LayoutSummaries

__all__ = ["LayoutSummaries"]
