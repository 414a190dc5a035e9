"""A rule that inputs of a signature keep."""

import tensorflow as tf


def guarded(holds, rule, *inputs):
    """The inputs, once a rule holds for them; a tuple of tensors.

    What uses them waits for the check: beside an assertion alone, an operation may have failed or answered before.

    Args:
        holds: boolean scalar tensor.
        rule: the sentence of the error.
        *inputs: tensors.
    """
    with tf.control_dependencies([tf.debugging.Assert(holds, [rule])]):
        return tuple(tf.identity(tensor) for tensor in inputs)
