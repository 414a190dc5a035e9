"""What a run has written for TensorBoard, read without TensorFlow."""

import math
import os
import re
import struct

_GROUP = re.compile(r"^\d+_\w+/")  # numbers put groups of TensorBoard's page in order
_LENGTH = struct.Struct("<Q")


def scalars(folder):
    """The scalars of a folder's event files.

    Args:
        folder: path, which need not be there.

    Returns:
        `{name: {step: float}}`, names without a numbered group in front; of a step that came twice, as after a kill,
        the later value.
    """
    from tensorboard.compat.proto import event_pb2

    found = {}
    names = sorted(name for name in _listed(folder) if ".tfevents." in name)
    for name in names:
        for record in _records(os.path.join(folder, name)):
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                number = _number(value)
                if number is not None and math.isfinite(number):
                    found.setdefault(_GROUP.sub("", value.tag), {})[event.step] = number
    return found


def _listed(folder):
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _records(path):
    """The records of a TFRecord file up to its end, or to where it is still being written."""
    with open(path, "rb") as file:
        while len(header := file.read(12)) == 12:
            (length,) = _LENGTH.unpack(header[:8])
            record = file.read(length)
            if len(record) < length or len(file.read(4)) < 4:
                return
            yield record


def _number(value):
    """The float of a summary, or None where it is no scalar."""
    if value.HasField("simple_value"):
        return value.simple_value
    tensor = value.tensor
    if not value.HasField("tensor") or tensor.tensor_shape.dim or tensor.dtype not in (1, 2):  # float, double
        return None
    if tensor.float_val or tensor.double_val:
        return (tensor.float_val or tensor.double_val)[0]
    kind = {4: "<f", 8: "<d"}.get(len(tensor.tensor_content))
    return struct.unpack(kind, tensor.tensor_content)[0] if kind else 0.0  # proto leaves zeros out
