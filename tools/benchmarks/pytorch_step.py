"""Training steps of a GAN of the same layers in PyTorch, as StudioGAN builds them, to be timed.

It imports nothing but PyTorch, and runs with the Python of an environment that has it:

PYTHON tools/benchmarks/pytorch_step.py SPECIFICATION

SPECIFICATION is JSON with the `resolution`, `batch_size`, `attention` and `base_channels` that
`training_steps.make_call` takes. It answers as `training_steps` does. Attentive Normalization is set against networks
without attention. The threads are those of `OMP_NUM_THREADS`.

References:
    StudioGAN (Kang et al., TPAMI 2023), its residual networks: layers in the order of the paper's figures, nothing
    exchanged or joined; one update of the discriminator, by the hinge loss, one of the generator, and the average.
"""

import copy
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional

NUM_CLASSES, LATENT_DIM = 10, 128


class Generator(nn.Module):
    """From noise and labels to images, `(batch, 3, resolution, resolution)`."""

    def __init__(self, resolution, channels, attends):
        super().__init__()
        blocks = num_blocks(resolution)
        widths = [channels * 2 ** (blocks - 1), *(channels * 2 ** (blocks - block) for block in range(1, blocks + 1))]
        self.project = normalized(nn.Linear(LATENT_DIM, 16 * widths[0]))
        self.blocks = nn.ModuleList(
            UpBlock(*pair, attends and number == min(3, blocks))
            for number, pair in enumerate(zip(widths, widths[1:]), start=1)
        )
        self.norm, self.to_image = nn.BatchNorm2d(channels), convolution(channels, 3, 3)

    def forward(self, z, labels):
        x = self.project(z).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            x = block(x, labels)
        return torch.tanh(self.to_image(functional.relu(self.norm(x))))


class Discriminator(nn.Module):
    """From images and labels to logits, `(batch,)`."""

    def __init__(self, resolution, channels, attends):
        super().__init__()
        widths = [3, *(channels * 2**block for block in range(num_blocks(resolution)))]
        self.blocks = nn.ModuleList(
            DownBlock(*pair, attends and number == 1, number == 1)
            for number, pair in enumerate(zip(widths, widths[1:]), start=1)
        )
        self.logit = normalized(nn.Linear(widths[-1], 1))
        self.embed = normalized(nn.Embedding(NUM_CLASSES, widths[-1]))

    def forward(self, x, labels):
        for block in self.blocks:
            x = block(x)
        features = functional.relu(x).sum((2, 3))
        return self.logit(features)[:, 0] + (features * self.embed(labels)).sum(1)


class UpBlock(nn.Module):
    """A residual block of the generator, which doubles the map."""

    def __init__(self, channels, filters, attends):
        super().__init__()
        self.norms = nn.ModuleList([ConditionalBatchNorm(channels), ConditionalBatchNorm(filters)])
        self.conv1, self.conv2 = convolution(channels, filters, 3), convolution(filters, filters, 3)
        self.shortcut = convolution(channels, filters, 1)
        self.attention = SelfAttention(filters) if attends else nn.Identity()

    def forward(self, x, labels):
        h = self.conv1(doubled(functional.relu(self.norms[0](x, labels))))
        h = self.conv2(functional.relu(self.norms[1](self.attention(h), labels)))
        return h + self.shortcut(doubled(x))


class DownBlock(nn.Module):
    """A residual block of the discriminator, which halves the map; the first takes pixels."""

    def __init__(self, channels, filters, attends, first):
        super().__init__()
        self.conv1, self.conv2 = convolution(channels, filters, 3), convolution(filters, filters, 3)
        self.shortcut, self.first = convolution(channels, filters, 1), first
        self.attention = SelfAttention(filters) if attends else nn.Identity()

    def forward(self, x):
        h = self.attention(self.conv1(x if self.first else functional.relu(x)))
        h = functional.avg_pool2d(self.conv2(functional.relu(h)), 2)
        if self.first:
            return h + self.shortcut(functional.avg_pool2d(x, 2))
        return h + functional.avg_pool2d(self.shortcut(x), 2)


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose scale and shift are a class's."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gamma, self.beta = (nn.Embedding(NUM_CLASSES, channels) for _ in range(2))

    def forward(self, x, labels):
        return self.norm(x) * self.gamma(labels)[:, :, None, None] + self.beta(labels)[:, :, None, None]


class SelfAttention(nn.Module):
    """SAGAN's attention, over keys and values pooled by 2 x 2."""

    def __init__(self, channels):
        super().__init__()
        self.query, self.key = (convolution(channels, max(channels // 8, 1), 1) for _ in range(2))
        self.value, self.output = convolution(channels, channels // 2, 1), convolution(channels // 2, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        keys, values = (functional.max_pool2d(layer(x), 2).flatten(2) for layer in (self.key, self.value))
        weights = torch.softmax(self.query(x).flatten(2).mT @ keys, dim=-1)
        return x + self.gamma * self.output((values @ weights.mT).unflatten(2, x.shape[2:]))


def num_blocks(resolution):
    """Blocks between 4 x 4 and the resolution."""
    return (resolution // 4).bit_length() - 1


def normalized(layer):
    """`layer`, spectrally normalised."""
    return nn.utils.parametrizations.spectral_norm(layer)


def convolution(channels, filters, kernel_size):
    """A spectrally normalised convolution that keeps height and width."""
    return normalized(nn.Conv2d(channels, filters, kernel_size, padding=kernel_size // 2))


def doubled(x):
    """Nearest up-sampling."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def make_call(resolution, batch_size, attention, base_channels, **_):
    """A function that takes one training step on random images.

    Args:
        resolution: side of the images.
        batch_size: of the images.
        attention: what the attention slots hold; they stay empty but for `"self_attention"`.
        base_channels: channels at full resolution.
        **_: what else `training_steps.make_call` takes.

    Returns:
        A function without arguments that returns both losses.
    """
    attends = attention == "self_attention"
    generator = Generator(resolution, base_channels, attends)
    discriminator = Discriminator(resolution, base_channels, attends)
    average = copy.deepcopy(generator)
    adams = [
        torch.optim.Adam(network.parameters(), rate, (0.0, 0.9))
        for network, rate in ((generator, 1e-4), (discriminator, 4e-4))
    ]
    images = 2 * torch.rand(batch_size, 3, resolution, resolution) - 1
    labels = torch.randint(NUM_CLASSES, (batch_size,))

    def generated():
        return generator(torch.randn(batch_size, LATENT_DIM), labels)

    def update(adam, loss):
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item()

    def call():
        discriminator.requires_grad_(True)
        with torch.no_grad():
            fakes = generated()
        margins = 1 - discriminator(images, labels), 1 + discriminator(fakes, labels)
        of_discriminator = update(adams[1], sum(functional.relu(margin).mean() for margin in margins))
        discriminator.requires_grad_(False)
        of_generator = update(adams[0], -discriminator(generated(), labels).mean())
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1e-4)
        return of_discriminator, of_generator

    return call


def _seconds(call):
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    step = make_call(**json.loads(sys.argv[1]))
    print(json.dumps(_seconds(step)), flush=True)
    for _ in sys.stdin:
        print(json.dumps(_seconds(step)), flush=True)
