"""Names that what writes and what reads summaries share."""

LAYOUTS_PLUGIN = "keras_an_layouts"
