"""The GAN of PyTorch that steps are compared with: as large as this package's, and trained by its step."""

import math

import pytest

from keras_an import models
from layer_test_case import record_gradients

SIZE = {"resolution": 32, "base_channels": 4}


@pytest.fixture
def pytorch_step():
    pytest.importorskip("torch")
    from tools.benchmarks import pytorch_step

    return pytorch_step


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize("attention", ["none", "self_attention"])
def test_networks_have_the_weights_of_this_packages(pytorch_step, attention):
    attends = attention == "self_attention"
    for theirs, make in (
        (pytorch_step.Generator(32, 4, attends), models.residual_generator),
        (pytorch_step.Discriminator(32, 4, attends), models.projection_discriminator),
    ):
        ours = make(num_classes=pytorch_step.NUM_CLASSES, attention=attention, **SIZE)
        biases = [
            parameter
            for name, parameter in theirs.named_parameters()
            if ".attention." in name and name.endswith("bias")  # which SAGAN's projections have not
        ]
        expected = sum(math.prod(weight.shape) for weight in ours.trainable_weights)
        assert count(theirs.parameters()) - count(biases) == expected
        assert bool(biases) == attends


def test_a_step_is_taken_on_both_networks(pytorch_step):
    import torch

    torch.manual_seed(0)
    call = pytorch_step.make_call(batch_size=2, attention="self_attention", kind="gan", **SIZE)
    with record_gradients(True):
        losses = [call() for _ in range(3)]
    assert all(math.isfinite(loss) for pair in losses for loss in pair)
    assert len({pair[0] for pair in losses}) == len({pair[1] for pair in losses}) == 3
