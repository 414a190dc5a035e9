"""The projection discriminator: its shapes, where attention stands, and its logit."""

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import AttentiveNormalization, SpectralNormalization
from keras_an.models import projection_discriminator
from layer_test_case import dtype_of, gradients, randomize_weights, tensors

KINDS = ["none", "self_attention", "attentive_normalization"]
SMALL = {"resolution": 16, "num_classes": 5, "base_channels": 4, "image_channels": 1}


def inputs(batch_size=4, resolution=16):
    images = np.random.default_rng(0).uniform(-1, 1, size=(batch_size, resolution, resolution, 1)).astype(np.float32)
    return tensors([images, (np.arange(batch_size) % 5).astype(np.int32)])


def layer_names(model):
    return [layer.name for layer in model.layers]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resolution", [16, 32])
def test_every_image_has_one_logit(kind, resolution):
    model = projection_discriminator(**{**SMALL, "resolution": resolution}, attention=kind)
    assert tuple(model.output_shape) == (None, 1)
    for training in (False, True):
        logits = model(inputs(resolution=resolution), training=training)
        assert tuple(logits.shape) == (4, 1) and dtype_of(logits) == "float32"
        assert np.isfinite(logits).all() and np.asarray(logits).std() > 0


@pytest.mark.slow
def test_defaults_are_the_papers_networks():
    model = projection_discriminator()
    assert [tuple(tensor.shape) for tensor in model.inputs] == [(None, 128, 128, 3), (None,)]
    shapes = [tuple(model.get_layer(f"block{block}_add").output.shape[1:]) for block in range(1, 6)]
    assert shapes == [(64, 64, 64), (32, 32, 128), (16, 16, 256), (8, 8, 512), (4, 4, 1024)]
    (attentive,) = (layer for layer in model.layers if isinstance(layer, AttentiveNormalization))
    assert attentive.name == "block1_attention" and attentive.num_entities == 16
    assert tuple(attentive.input.shape) == (None, 128, 128, 64)
    assert tuple(model.get_layer("sn_embed").output.shape) == (None, 1024)


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize(
    "kind, name", [("attentive_normalization", "block{}_attention"), ("self_attention", "sn_block{}_attention")]
)
def test_attention_stands_between_convolution_and_activation(block, kind, name):
    model = projection_discriminator(**SMALL, attention_blocks=(block,), attention=kind)
    attention = model.get_layer(name.format(block))
    outputs = attention.output[0] if kind == "attentive_normalization" else attention.output
    assert attention.input is model.get_layer(f"sn_block{block}_conv1").output
    assert model.get_layer(f"block{block}_relu2").input is outputs


def test_the_first_block_takes_pixels_without_activation():
    model = projection_discriminator(**SMALL)
    assert "block1_relu1" not in layer_names(model) and "block2_relu1" in layer_names(model)
    assert model.get_layer("sn_block1_conv1").input is model.inputs[0]


def test_kinds_differ_in_the_attention_layer_alone():
    none, self_attention, attentive = (projection_discriminator(**SMALL, attention=kind) for kind in KINDS)
    assert not [name for name in layer_names(none) if "attention" in name]
    for model, name in ((self_attention, "sn_block1_attention"), (attentive, "block1_attention")):
        assert [other for other in layer_names(model) if other != name] == layer_names(none)
        for layer in none.layers:
            twin = model.get_layer(layer.name)
            assert type(twin) is type(layer)
            assert [weight.shape for weight in twin.weights] == [weight.shape for weight in layer.weights]


def test_the_logit_is_a_projection_on_the_label():
    """`w . h + embed(label) . h + b`, h the sum of the last features over 4 x 4 positions."""
    model = projection_discriminator(**SMALL, attention="none", spectral_normalization=False)
    images, labels = inputs()
    last = keras.Model(model.inputs, model.get_layer("final_relu").output)([images, labels])
    h = np.asarray(last, np.float64).sum((1, 2))
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.get_layer("logit").weights)
    embedding = np.asarray(model.get_layer("embed").weights[0], np.float64)[np.asarray(labels)]
    expected = h @ kernel + bias + np.sum(embedding * h, axis=-1, keepdims=True)
    np.testing.assert_allclose(model([images, labels]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind):
    model = projection_discriminator(**SMALL, attention=kind)
    for weight in model.trainable_weights:
        if "residual_weight" in weight.name or "sampling_weight" in weight.name:
            weight.assign(np.random.default_rng(0).uniform(0.2, 1.0, weight.shape))
    weighting = tensors(np.random.default_rng(1).normal(size=(8, 1)).astype(np.float32))
    found = gradients(lambda: ops.sum(model(inputs(8), training=True) * weighting), [], model.trainable_weights)
    weights_and_gradients = zip(model.trainable_weights, found)
    silent = [weight.name for weight, gradient in weights_and_gradients if np.abs(gradient).max() < 1e-8]
    assert not silent


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_gives_the_same_logits(kind, tmp_path):
    model = projection_discriminator(**SMALL, attention=kind)
    randomize_weights(model)
    model.save(tmp_path / "discriminator.keras")
    loaded = keras.models.load_model(tmp_path / "discriminator.keras")
    np.testing.assert_allclose(loaded(inputs()), model(inputs()), rtol=1e-4, atol=1e-3)


def test_options_reach_attentive_normalization():
    options = {"value_projection": True, "pool_size": 1}
    model = projection_discriminator(**SMALL, num_entities=7, attentive_options=options)
    layer = model.get_layer("block1_attention")
    assert layer.num_entities == 7 and layer.value_projection and layer.pool_size == 1


@pytest.mark.parametrize("spectral_normalization", [False, True])
def test_spectral_normalization_is_for_all_kernels_or_none(spectral_normalization):
    model = projection_discriminator(**SMALL, attention="self_attention", spectral_normalization=spectral_normalization)
    wrapped = [layer for layer in model.layers if isinstance(layer, SpectralNormalization)]
    assert len(wrapped) == (2 * 3 + 2 + 1 if spectral_normalization else 0)  # blocks, logit and embedding, attention
    attributes = ("kernel", "embeddings", "query_kernel")
    plain = [layer for layer in model.layers if any(hasattr(layer, name) for name in attributes)]
    assert bool(plain) != spectral_normalization


def test_mixed_precision_gives_float32_logits():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = projection_discriminator(**SMALL)
    logits = model(inputs(), training=True)
    assert dtype_of(logits) == "float32" and np.isfinite(logits).all()
    assert model.get_layer("sn_logit").compute_dtype == "bfloat16"


@pytest.mark.parametrize("resolution", [4, 12, 20, 0])
def test_other_resolutions_are_errors(resolution):
    message = rf"`resolution` must be 8, 16, 32, 64, 128, ... Received: resolution={resolution}"
    with pytest.raises(ValueError, match=message):
        projection_discriminator(**{**SMALL, "resolution": resolution})


def test_unknown_attention_is_an_error():
    with pytest.raises(ValueError, match=r"`attention` must be one of \('none', .*\)\. Received: attention='other'"):
        projection_discriminator(**SMALL, attention="other")


@pytest.mark.parametrize("blocks", [(0,), (3,), (1, 3)])
def test_attention_in_a_missing_block_is_an_error(blocks):
    message = (
        rf"`attention_blocks` must name blocks from 1 to 2 at .* 16\. Received: .*=\[{', '.join(map(str, blocks))}\]"
    )
    with pytest.raises(ValueError, match=message):
        projection_discriminator(**SMALL, attention_blocks=blocks)
