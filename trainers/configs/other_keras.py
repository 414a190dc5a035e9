"""Checkpoints of one Keras for the other.

TensorFlow finds the values of a checkpoint by the attributes that lead to them from object to object. Keras 2, tf-keras
too, keeps a model's layers in `layer_with_weights-<number>` and a kernel in `kernel`, Keras 3 in `_operations` and
`_kernel`; so neither finds what the other wrote. The order of the layers, and the names below them, are the same.

A schedule of the learning rate in place of a constant one, or the other way round, is another form in the same way.

`.weights.h5` files need nothing of this: each Keras reads the other's. `.keras` archives name classes of their own
Keras, and do not load in the other.
"""

import contextlib
import os
import re
import tempfile

import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from keras_an.backend import IS_KERAS_3

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# An optimizer's variables once more, in another order in each.
_IN_ANY_ORDER = ("/variables/", "/trainable_variables/")
# Of Keras 2 where there is a schedule; found anew at every update.
_PRESENT_RATE = "/_current_learning_rate/"
# Of an optimizer without a schedule.
_RATE = re.compile(r"/_?learning_rate/\.ATTRIBUTES/")


class OtherKerasError(ValueError):
    """A checkpoint of the other Keras does not hold what it must."""


@contextlib.contextmanager
def for_this_keras(path, checkpoint):
    """A context with the path of a checkpoint in this Keras's form, and with a learning rate where there is one now.

    Args:
        path: of a checkpoint of either Keras.
        checkpoint: `tf.train.Checkpoint`, what shall be restored: networks, their optimizers, variables.

    Yields:
        `path`, or that of a copy which is gone after the context.

    Raises:
        OtherKerasError: where the other Keras wrote something else.
    """
    reader = tf.train.load_checkpoint(path)
    is_other = _is_of(reader, not IS_KERAS_3)
    if not is_other and _stored_rates(reader, checkpoint) == _rates(checkpoint):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        _ = checkpoint.save_counter  # made now, so that the copy has it as every checkpoint does
        own = tf.train.load_checkpoint(checkpoint.write(os.path.join(folder, "own")))
        dtypes, keys, values = own.get_variable_to_dtype_map(), _keys(reader), {}
        for name, key in _keys(own).items():
            if name in keys:
                values[key] = tf.cast(reader.get_tensor(keys[name]), dtypes[key])
        rest = set(dtypes) - set(values)
        missing = sorted(key for key in rest if key != _GRAPH and _PRESENT_RATE not in key)
        if not is_other:  # a constant rate, which the configuration gives anew
            missing = [key for key in missing if not _RATE.search(key)]
            if missing:  # which restoring tells
                yield path
                return
        if missing:
            raise OtherKerasError(
                f"{path} was written with {'Keras 2' if IS_KERAS_3 else 'Keras 3'} and has no {missing[0]}, nor "
                f"{len(missing) - 1} more. `decay_steps` of an optimizer cannot become 0 in a run, and one in float16 "
                "goes on with the Keras that it began with."
            )
        values.update({key: own.get_tensor(key) for key in rest})
        copy = os.path.join(folder, "copy")
        tf.raw_ops.SaveV2(
            prefix=copy, tensor_names=list(values), shape_and_slices=[""] * len(values), tensors=list(values.values())
        )
        yield copy


def _stored_rates(reader, checkpoint):
    """Paths to the learning rates that are stored of what shall be restored: those of optimizers without a schedule."""
    nodes, names = _graph(reader), set(tf.train.TrackableView(checkpoint).children(checkpoint))
    items = [item for item in nodes[0].children if item.local_name in names]
    paths = {item.local_name + path for item in items for path in _below(nodes, item.node_id)}
    return {path for path in paths if path.endswith("/learning_rate")}


def _rates(checkpoint):
    """Paths to those that there are now."""
    view, found = tf.train.TrackableView(checkpoint), set()
    for name, item in view.children(checkpoint).items():
        for path, part in {name: item, **{f"{name}/{inner}": part for inner, part in _inner(view, item)}}.items():
            children = view.children(part).items()
            found |= {f"{path}/learning_rate" for child, value in children if _is_rate(child, value)}
    return found


def _inner(view, item):
    """The optimizer within a loss scale, in either Keras, or within "lookahead" and "moving_average"."""
    names = ("inner_optimizer", "_optimizer", "optimizer", "base_optimizer", "lh_base_optimizer", "ma_base_optimizer")
    return [(name.lstrip("_"), part) for name, part in view.children(item).items() if name in names]


def _is_rate(name, value):
    return name.lstrip("_") == "learning_rate" and hasattr(value, "dtype")  # which a schedule has not


def _is_of(reader, keras_3):
    mark = "_operations" if keras_3 else "layer_with_weights-0"
    return any(child.local_name == mark for node in _graph(reader) for child in node.children)


def _graph(reader):
    return TrackableObjectGraph.FromString(reader.get_tensor(_GRAPH)).nodes


def _keys(reader):
    """The keys of all variables, by names that are the same in both Keras: a network's layers are numbers in them."""
    nodes, keys = _graph(reader), {}
    for item in nodes[0].children:
        layers = [below for below in (_below(nodes, layer) for layer in _layers(nodes, item.node_id)) if below]
        for number, below in enumerate(layers):
            keys.update({f"{item.local_name}/{number}{path}": key for path, key in below.items()})
        if not layers:
            below = _below(nodes, item.node_id).items()
            keys.update({item.local_name + path: key for path, key in below if not _has_any_order(path)})
    return keys


def _has_any_order(path):
    return any(part in path for part in _IN_ANY_ORDER)


def _layers(nodes, index):
    """The layers of a network, in the order of `layers`; nothing of other objects."""
    children = {child.local_name: child.node_id for child in nodes[index].children}
    if "_operations" in children:
        children = {child.local_name: child.node_id for child in nodes[children["_operations"]].children}
        return [children[name] for name in sorted(children, key=int)]
    names = [name for name in children if name.startswith("layer_with_weights-")]
    return [children[name] for name in sorted(names, key=lambda name: int(name.rsplit("-", 1)[1]))]


def _below(nodes, index):
    """The keys of the variables below an object, by the attributes that lead to them."""
    values = nodes[index].attributes  # one at most, of a variable
    keys = {"": values[0].checkpoint_key} if values else {}
    for child in nodes[index].children:
        below = _below(nodes, child.node_id)
        keys.update({f"/{child.local_name.lstrip('_')}{path}": key for path, key in below.items()})
    return keys
