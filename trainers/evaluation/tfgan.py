"""Imports the parts of TF-GAN that still run where `tf.estimator` is gone (TensorFlow 2.16 and later).

`import tensorflow_gan` fails there, in its `__init__`. The modules used here do not need that file: bare packages
with the right path stand in for `tensorflow_gan` and `tensorflow_gan.python`.
"""

import importlib
import importlib.util
import os
import sys
import types

import tensorflow as tf


def _import(name):
    if not hasattr(tf, "estimator") and "tensorflow_gan" not in sys.modules:
        (root,) = importlib.util.find_spec("tensorflow_gan").submodule_search_locations
        for package, path in (("tensorflow_gan", root), ("tensorflow_gan.python", os.path.join(root, "python"))):
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [path]
    return importlib.import_module(name)


def classifier_metrics():
    """The module `tensorflow_gan.python.eval.classifier_metrics`."""
    return _import("tensorflow_gan.python.eval.classifier_metrics")


def losses():
    """The module `tensorflow_gan.python.losses.losses_impl`."""
    return _import("tensorflow_gan.python.losses.losses_impl")


def eval_utils():
    """The module `tensorflow_gan.python.eval.eval_utils`."""
    return _import("tensorflow_gan.python.eval.eval_utils")
