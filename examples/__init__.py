"""Scripts in cells that show the layer at work, each in less than a minute on real data; they run from a clone."""
