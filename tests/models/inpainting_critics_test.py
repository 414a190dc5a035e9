"""Critics of inpainted images: their shapes, where attention stands, what a patch critic sees, gradient penalties."""

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import AttentiveNormalization, SelfAttention
from keras_an.losses import gradient_penalty
from keras_an.models import global_critic, local_critic, patch_critic
from layer_test_case import array, differentiate, dtype_of, gradients, tensors

KINDS = ["none", "self_attention", "attentive_normalization"]
SMALL = {"base_channels": 2, "num_entities": 3}
FLAT = [global_critic, local_critic]
# The side of the pixels that a score of the patch critic depends on, and how far they start before its patch.
FIELD, BEFORE = 125, 31


def critic(network, kind, **kwargs):
    """A small critic with attention that is no longer the identity."""
    sizes = {} if network is patch_critic else {"resolution": 32}
    model = network(**sizes, **{**SMALL, **kwargs}, attention=kind)
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if "residual_weight" in weight.name or "sampling_weight" in weight.name:
            weight.assign(rng.uniform(0.2, 1.0, weight.shape))
    return model


def images(height=32, width=32):
    return np.random.default_rng(0).uniform(-1, 1, size=(2, height, width, 3)).astype(np.float32)


def hole(height=32, width=32):
    mask = np.zeros((2, height, width, 1), np.float32)
    mask[0, 4:12, 8:20] = mask[1, 20:, :9] = 1
    return mask


def arguments(network, height=32, width=32):
    image = images(height, width)
    return tensors([image, hole(height, width)] if network is patch_critic else image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", [*FLAT, patch_critic])
def test_every_image_has_one_score(network, kind):
    model = critic(network, kind)
    assert tuple(model.output_shape) == (None, 1)
    for training in (False, True):
        scores = model(arguments(network), training=training)
        assert tuple(scores.shape) == (2, 1) and dtype_of(scores) == "float32"
        assert np.isfinite(array(scores)).all() and array(scores).std() > 0


@pytest.mark.parametrize("network", FLAT)
def test_defaults_of_flat_critics_are_the_released_networks(network):
    model = network(256)
    assert [tuple(tensor.shape) for tensor in model.inputs] == [(None, 256, 256, 3)]
    layers = [model.get_layer(f"conv{number}") for number in range(1, 7)]
    shapes = [tuple(layer.output.shape[1:]) for layer in layers]
    assert shapes == [(128, 128, 64), (64, 64, 128), (32, 32, 256), (16, 16, 512), (8, 8, 256), (4, 4, 128)]
    assert {layer.kernel_size for layer in layers} == {(5, 5)}
    assert [tuple(weight.shape) for weight in model.get_layer("scores").weights] == [(4 * 4 * 128, 1), (1,)]


def test_defaults_of_the_patch_critic_are_the_released_networks():
    model = patch_critic()
    assert [tuple(tensor.shape) for tensor in model.inputs] == [(None, None, None, 3), (None, None, None, 1)]
    layers = [model.get_layer(name) for name in ("conv1", "conv2", "conv3", "conv4", "patch_scores")]
    assert [layer.filters for layer in layers] == [64, 128, 256, 512, 1]
    assert {layer.kernel_size for layer in layers} == {(5, 5)} and {layer.strides for layer in layers} == {(2, 2)}


@pytest.mark.parametrize("network, number", [(global_critic, 3), (local_critic, 2), (patch_critic, 3)])
def test_attention_stands_behind_its_convolution(network, number):
    for kind, layer_class in zip(KINDS[1:], (SelfAttention, AttentiveNormalization)):
        model = critic(network, kind)
        (attention,) = (layer for layer in model.layers if isinstance(layer, layer_class))
        outputs = attention.output[0] if kind == "attentive_normalization" else attention.output
        assert attention.name == f"attention{number}"
        assert attention.input is model.get_layer(f"leaky_relu{number}").output
        assert model.get_layer(f"conv{number + 1}").input is outputs
    default = network(**({} if network is patch_critic else {"resolution": 32}))
    assert isinstance(default.get_layer(f"attention{number}"), SelfAttention)
    names = [layer.name for layer in critic(network, "none").layers]
    assert not [name for name in names if name.startswith("attention")]


@pytest.mark.parametrize("network", [*FLAT, patch_critic])
def test_options_reach_attentive_normalization(network):
    model = critic(network, "attentive_normalization", num_entities=5, attentive_options={"pool_size": 1})
    (layer,) = (layer for layer in model.layers if isinstance(layer, AttentiveNormalization))
    assert layer.num_entities == 5 and layer.pool_size == 1


@pytest.mark.parametrize("network", [*FLAT, patch_critic])
def test_number_of_channels_is_free(network):
    assert tuple(critic(network, "none", image_channels=1).inputs[0].shape)[-1] == 1


def test_patch_critic_takes_all_sizes():
    model = critic(patch_critic, "self_attention")
    for height, width in ((64, 32), (40, 50)):
        assert np.isfinite(array(model(arguments(patch_critic, height, width)))).all()


def test_patch_critic_is_the_mean_score_of_the_touched_patches():
    model = critic(patch_critic, "none")
    image, mask = images(64, 96), hole(64, 96)
    mask[1, 40, 70] = 1
    scores = array(keras.Model(model.inputs[0], model.get_layer("patch_scores").output)(tensors(image)))
    assert scores.shape == (2, 2, 3, 1)
    touched = mask.reshape(2, 2, 32, 3, 32, 1).max(axis=(2, 4)) > 0
    assert touched.sum(axis=(1, 2, 3)).tolist() == [1, 3]
    expected = [[score[where].mean()] for score, where in zip(scores, touched)]
    np.testing.assert_allclose(array(model(tensors([image, mask]))), expected, rtol=1e-5, atol=1e-6)


def test_patch_critic_ignores_what_no_touched_patch_sees():
    model = critic(patch_critic, "none")
    image = images(32, 192)
    mask = np.zeros((2, 32, 192, 1), np.float32)
    mask[:, 5, 3] = 1  # in the first patch
    end = FIELD - BEFORE
    beyond, within = image.copy(), image.copy()
    beyond[:, :, end:] *= -1
    within[:, :, : end - 8] *= -1
    score, same, other = (array(model(tensors([values, mask]))) for values in (image, beyond, within))
    np.testing.assert_allclose(same, score, rtol=1e-6, atol=1e-7)
    assert np.abs(other - score).min() > 1e-4
    mask[:, 5, 40] = 1  # in the second patch, which sees 32 pixels more
    score, same = (array(model(tensors([values, mask]))) for values in (image, beyond))
    assert np.abs(same - score).min() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_patch_critic_of_an_empty_mask_is_0(kind):
    scores = critic(patch_critic, kind)(tensors([images(), np.zeros((2, 32, 32, 1), np.float32)]))
    np.testing.assert_array_equal(array(scores), np.zeros((2, 1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", [*FLAT, patch_critic])
def test_gradient_penalty_trains_every_kernel(network, kind):
    """Second derivatives through the critic. Biases have none where all between them and the score is linear."""
    model = critic(network, kind)
    mask = tensors(hole())

    def score(image):
        return ops.sum(model([image, mask] if network is patch_critic else image, training=False))

    def penalty(image):
        return gradient_penalty(differentiate(score, image), mask=mask)

    image, *found = gradients(penalty, [images()], model.trainable_weights)
    assert np.isfinite(image).all() and all(np.isfinite(gradient).all() for gradient in found)
    unseen = ("bias", "alpha", "query", "key", "sampling") if kind == "attentive_normalization" else ("bias",)
    names = [getattr(weight, "path", weight.name) for weight in model.trainable_weights]
    silent = [
        name
        for name, gradient in zip(names, found)
        if np.abs(gradient).max() < 1e-9 and not any(word in name.split("/")[-1] for word in unseen)
    ]
    assert not silent
    assert kind == "none" or np.abs(image).max() > 0


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("network", [*FLAT, patch_critic])
def test_a_saved_model_gives_the_same_scores(network, kind, tmp_path):
    model = critic(network, kind)
    model.save(tmp_path / "critic.keras")
    loaded = keras.models.load_model(tmp_path / "critic.keras")
    expected, found = (array(each(arguments(network))) for each in (model, loaded))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", [*FLAT, patch_critic])
def test_mixed_precision_gives_float32_scores(network):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = critic(network, "attentive_normalization")
    scores = model(arguments(network), training=True)
    assert dtype_of(scores) == "float32" and np.isfinite(array(scores)).all()
    assert model.get_layer("conv1").compute_dtype == "bfloat16"


@pytest.mark.parametrize("network", [*FLAT, patch_critic])
def test_unknown_attention_is_an_error(network):
    with pytest.raises(ValueError, match=r"`attention` must be one of \('none', .*\)\. Received: attention='other'"):
        critic(network, "other")


@pytest.mark.parametrize("network", [global_critic, local_critic])
def test_images_that_six_strides_leave_nothing_of_are_errors(network):
    with pytest.raises(ValueError, match="`resolution` must be an integer of at least 16. Received: resolution=8"):
        network(8)
