"""The residual generator: its shapes, where attention stands, and what it gives."""

import pathlib

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import AttentiveNormalization, SpectralNormalization
from keras_an.models import residual_generator
from layer_test_case import BACKEND, dtype_of, gradients, randomize_weights, tensors

TESTDATA = pathlib.Path(__file__).parents[1] / "testdata"
KINDS = ["none", "self_attention", "attentive_normalization"]
SMALL = {"resolution": 16, "num_classes": 5, "latent_dim": 6, "base_channels": 4, "attention_blocks": (2,)}


def inputs(batch_size=4):
    z = np.random.default_rng(0).normal(size=(batch_size, 6)).astype(np.float32)
    return tensors([z, (np.arange(batch_size) % 5).astype(np.int32)])


def wake(model):
    """Gives what keeps attention silent at the start another value than 0, entity by entity."""
    for weight in model.trainable_weights:
        if "residual_weight" in weight.name or "sampling_weight" in weight.name:
            weight.assign(np.random.default_rng(0).uniform(0.2, 1.0, weight.shape))


def layer_names(model):
    return [layer.name for layer in model.layers]


@pytest.mark.parametrize("kind, resolution, image_channels", [*((kind, 16, 3) for kind in KINDS), ("none", 32, 1)])
def test_images_have_their_shape_and_range(kind, resolution, image_channels):
    model = residual_generator(**{**SMALL, "resolution": resolution}, attention=kind, image_channels=image_channels)
    assert tuple(model.output_shape) == (None, resolution, resolution, image_channels)
    randomize_weights(model)
    for training in (False, True):
        images = model(inputs(), training=training)
        assert tuple(images.shape) == (4, resolution, resolution, image_channels) and dtype_of(images) == "float32"
        assert np.abs(images).max() <= 1.0 and np.asarray(images).std() > 0.01


@pytest.mark.slow
def test_defaults_are_the_papers_networks():
    model = residual_generator()
    assert [tuple(tensor.shape) for tensor in model.inputs] == [(None, 128), (None,)]
    shapes = [
        tuple(model.get_layer(name).output.shape[1:]) for name in ("reshape", *(f"block{b}_add" for b in range(1, 6)))
    ]
    assert shapes == [(4, 4, 1024), (8, 8, 1024), (16, 16, 512), (32, 32, 256), (64, 64, 128), (128, 128, 64)]
    assert tuple(model.output_shape) == (None, 128, 128, 3)
    (attentive,) = (layer for layer in model.layers if isinstance(layer, AttentiveNormalization))
    assert attentive.name == "block3_attention" and attentive.num_entities == 16
    assert tuple(attentive.input.shape) == (None, 32, 32, 256)
    assert all(layer.num_classes == 1000 for layer in model.layers if hasattr(layer, "num_classes"))


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize(
    "kind, name", [("attentive_normalization", "block{}_attention"), ("self_attention", "sn_block{}_attention")]
)
def test_attention_stands_between_convolution_and_normalization(block, kind, name):
    model = residual_generator(**{**SMALL, "attention_blocks": (block,)}, attention=kind)
    attention = model.get_layer(name.format(block))
    outputs = attention.output[0] if kind == "attentive_normalization" else attention.output
    assert attention.input is model.get_layer(f"sn_block{block}_conv1").output
    assert model.get_layer(f"block{block}_norm2").input[0] is outputs


def test_kinds_differ_in_the_attention_layer_alone():
    none, self_attention, attentive = (residual_generator(**SMALL, attention=kind) for kind in KINDS)
    assert not [name for name in layer_names(none) if "attention" in name]
    for model, name in ((self_attention, "sn_block2_attention"), (attentive, "block2_attention")):
        assert [other for other in layer_names(model) if other != name] == layer_names(none)
        for layer in none.layers:
            twin = model.get_layer(layer.name)
            assert type(twin) is type(layer)
            assert [weight.shape for weight in twin.weights] == [weight.shape for weight in layer.weights]


def test_attention_starts_as_the_identity():
    models = [residual_generator(**SMALL, attention=kind) for kind in KINDS]
    for model in models[1:]:
        for layer in models[0].layers:
            for mine, theirs in zip(model.get_layer(layer.name).weights, layer.weights):
                mine.assign(np.asarray(theirs))
    none, *others = (np.asarray(model(inputs())) for model in models)
    for other in others:
        np.testing.assert_allclose(other, none, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind):
    """At inference or in training: a bias before a batch's moments has none in training, self-sampling only there."""
    model = residual_generator(**SMALL, attention=kind)
    wake(model)
    weighting = tensors(np.random.default_rng(1).normal(size=(8, 16, 16, 3)).astype(np.float32))
    reached = np.zeros(len(model.trainable_weights))
    for training in (False, True):
        found = gradients(
            lambda training=training: ops.mean(model(inputs(8), training=training) * weighting),
            [],
            model.trainable_weights,
        )
        reached += [np.abs(gradient).max() for gradient in found]
    silent = [weight.name for weight, size in zip(model.trainable_weights, reached) if size < 1e-8]
    assert not silent


def test_labels_decide_the_images():
    model = residual_generator(**SMALL)
    randomize_weights(model)
    z, labels = inputs()
    assert np.abs(model([z, labels]) - model([z, (labels + 1) % 5])).max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_gives_the_same_images(kind, tmp_path):
    model = residual_generator(**SMALL, attention=kind)
    randomize_weights(model)
    model.save(tmp_path / "generator.keras")
    loaded = keras.models.load_model(tmp_path / "generator.keras")
    np.testing.assert_allclose(loaded(inputs()), model(inputs()), rtol=1e-5, atol=1e-5)


def test_files_from_before_convolutions_resampled_give_the_same_images():
    """A file of a version whose networks had `NearestUpsampling` in front of Keras's convolutions."""
    if not hasattr(keras, "ops"):
        pytest.skip("Keras 2 does not read the files of Keras 3")
    old = keras.models.load_model(TESTDATA / "generator_with_upsampling_layers.keras")
    assert "NearestUpsampling" in {type(layer).__name__ for layer in old.layers}
    small = {"resolution": 8, "num_classes": 2, "latent_dim": 3, "base_channels": 4, "image_channels": 1}
    new = residual_generator(**small, num_entities=2)
    assert len(new.layers) == len(old.layers)  # which checkpoints number
    new.load_weights(TESTDATA / "generator_with_upsampling_layers.keras")
    z = np.random.default_rng(2).normal(size=(16, 3)).astype(np.float32)  # enough positions for the fused way
    batch = tensors([z, np.arange(16, dtype=np.int32) % 2])
    expected = np.asarray(old(batch))
    assert expected.std() > 0.05
    np.testing.assert_allclose(np.asarray(new(batch)), expected, rtol=1e-4, atol=1e-5)


def test_options_reach_attentive_normalization():
    options = {"value_projection": True, "pool_size": 1}
    model = residual_generator(**SMALL, num_entities=7, attentive_options=options)
    layer = model.get_layer("block2_attention")
    assert layer.num_entities == 7 and layer.value_projection and layer.pool_size == 1


@pytest.mark.parametrize("spectral_normalization", [False, True])
def test_spectral_normalization_is_for_all_kernels_or_none(spectral_normalization):
    model = residual_generator(**SMALL, attention="self_attention", spectral_normalization=spectral_normalization)
    wrapped = [layer for layer in model.layers if isinstance(layer, SpectralNormalization)]
    assert len(wrapped) == (1 + 2 * 3 + 1 + 1 if spectral_normalization else 0)  # dense, blocks, image, attention
    plain = [layer for layer in model.layers if hasattr(layer, "kernel") or hasattr(layer, "query_kernel")]
    assert bool(plain) != spectral_normalization


@pytest.mark.parametrize("synchronized", [False, True] if BACKEND == "tensorflow" else [False])
def test_synchronized_reaches_every_batch_norm(synchronized):
    model = residual_generator(**SMALL, synchronized=synchronized)
    flags = [layer.synchronized for layer in model.layers if hasattr(layer, "synchronized")]
    assert flags == [synchronized] * 5


def test_mixed_precision_gives_float32_images():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = residual_generator(**SMALL)
    images = model(inputs(), training=True)
    assert dtype_of(images) == "float32" and np.isfinite(images).all()
    assert model.get_layer("sn_to_image").compute_dtype == "bfloat16"


@pytest.mark.parametrize("resolution", [4, 12, 20, 0])
def test_other_resolutions_are_errors(resolution):
    message = rf"`resolution` must be 8, 16, 32, 64, 128, ... Received: resolution={resolution}"
    with pytest.raises(ValueError, match=message):
        residual_generator(**{**SMALL, "resolution": resolution})


def test_unknown_attention_is_an_error():
    with pytest.raises(ValueError, match=r"`attention` must be one of \('none', .*\)\. Received: attention='other'"):
        residual_generator(**SMALL, attention="other")


@pytest.mark.parametrize("blocks", [(0,), (3,), (1, 3)])
def test_attention_in_a_missing_block_is_an_error(blocks):
    message = (
        rf"`attention_blocks` must name blocks from 1 to 2 at .* 16\. Received: .*=\[{', '.join(map(str, blocks))}\]"
    )
    with pytest.raises(ValueError, match=message):
        residual_generator(**{**SMALL, "attention_blocks": blocks})
