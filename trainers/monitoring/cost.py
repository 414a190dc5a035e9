"""What networks cost: weights, and operations for an image."""

import math

import tensorflow as tf


def count_parameters(network):
    """Numbers in the trainable weights of a `keras.Model`."""
    return sum(math.prod(weight.shape) for weight in network.trainable_weights)


def count_flops(network, side=None):
    """Floating-point operations of one image through a functional `keras.Model`, as TensorFlow's profiler counts them.

    A multiplication and an addition are two. Training and its gradients are not counted.

    Args:
        network: the model.
        side: integer in place of heights and widths that the model leaves open.
    """
    inputs = [
        tf.TensorSpec((1, *(size or side for size in tensor.shape[1:])), tensor.dtype) for tensor in network.inputs
    ]

    def call(*values):
        return network(list(values) if len(values) > 1 else values[0], training=False)

    graph = tf.function(call, autograph=False).get_concrete_function(*inputs).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    logger, level = tf.get_logger(), tf.get_logger().level
    logger.setLevel("ERROR")  # The profiler warns of its own use of TensorFlow 1.
    try:
        counted = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    finally:
        logger.setLevel(level)
    return counted + sum(_einsum_flops(op) for op in graph.get_operations() if op.type == "Einsum")


def _einsum_flops(op):
    """Operations of an einsum, of which the profiler knows nothing: two for every combination of its indices."""
    operands = op.get_attr("equation").decode().partition("->")[0].split(",")
    sizes = {}
    for indices, tensor in zip(operands, op.inputs):
        sizes.update(zip(indices, tensor.shape))
    return 2 * math.prod(sizes.values())


def describe(networks, sides=None):
    """A Markdown table of parameters and operations.

    Args:
        networks: `{name: keras.Model}`.
        sides: `{name: side}` of the images, where a model leaves it open.
    """
    sides = sides or {}
    rows = [
        f"| {name} | {count_parameters(network):,} | {count_flops(network, sides.get(name)) / 1e9:.3f} |"
        for name, network in networks.items()
    ]
    return "\n".join(["| network | parameters | GFLOPs an image |", "|---|---|---|", *rows])
