"""What all networks share: counts of NumPy, and the refusal of channels first."""

import numpy as np
import pytest

from keras_an import models
from keras_an.backend import keras

NETWORK = {"resolution": 16, "num_classes": 3, "base_channels": 2, "image_channels": 2, "num_entities": 3}
CRITIC = {"base_channels": 2, "image_channels": 2, "num_entities": 3, "attention": "attentive_normalization"}
NETWORKS = {
    "residual_generator": {**NETWORK, "latent_dim": 5, "attention_blocks": [1]},
    "projection_discriminator": {**NETWORK, "attention_blocks": [1]},
    "inpainting_generator": {"base_channels": 2, "image_channels": 2, "num_entities": 3},
    "global_critic": {**CRITIC, "resolution": 32},
    "local_critic": {**CRITIC, "resolution": 32},
    "patch_critic": CRITIC,
}
every_network = pytest.mark.parametrize("name", sorted(NETWORKS))


def as_numpy(value):
    if isinstance(value, list):
        return [as_numpy(one) for one in value]
    return np.int64(value) if isinstance(value, int) else value


@every_network
def test_counts_may_be_numpys(name, tmp_path):
    arguments = NETWORKS[name]
    model = getattr(models, name)(**{key: as_numpy(value) for key, value in arguments.items()})
    expected = getattr(models, name)(**arguments)
    assert [tuple(weight.shape) for weight in model.weights] == [tuple(weight.shape) for weight in expected.weights]
    model.save(tmp_path / "model.keras")
    keras.models.load_model(tmp_path / "model.keras")


@every_network
def test_channels_first_is_refused(name):
    before = keras.backend.image_data_format()
    keras.backend.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="\"channels_last\" alone. Received: image_data_format='channels_first'"):
            getattr(models, name)(**NETWORKS[name])
    finally:
        keras.backend.set_image_data_format(before)


@pytest.mark.parametrize("resolution, block", [(8, 1), (16, 2), (32, 3), (64, 3)])
def test_the_generators_default_block_exists(resolution, block):
    model = models.residual_generator(**{**NETWORK, "resolution": resolution})
    assert [layer.name for layer in models.attentive_layers(model)] == [f"block{block}_attention"]


@pytest.mark.parametrize("name", ["residual_generator", "projection_discriminator", "global_critic", "patch_critic"])
def test_base_channels_must_be_a_positive_integer(name):
    with pytest.raises(ValueError, match="`base_channels` must be a positive integer. Received: base_channels=2.0"):
        getattr(models, name)(**{**NETWORKS[name], "base_channels": 2.0})
