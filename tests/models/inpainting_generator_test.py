"""The inpainting generator: its outputs, what the hole may hold, and where attention stands.

The file is long because every kind of first fill, attention and statistics is looked at.
"""

import numpy as np
import pytest

from keras_an.backend import keras, ops
from keras_an.layers import AttentiveNormalization, DiffusionFill
from keras_an.models import attentive_probe, inpainting_generator
from layer_test_case import array, dtype_of, gradients, tensors

KINDS = ["none", "self_attention", "attentive_normalization"]
SMALL = {"base_channels": 2, "num_entities": 3}
IMAGES = ("coarse", "fine", "completed")


def inputs(height=16, width=24, image_channels=3):
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, size=(2, height, width, image_channels)).astype(np.float32)
    mask = np.zeros((2, height, width, 1), np.float32)
    mask[0, 3:11, 5:14] = mask[1, 8:, :7] = 1
    return image, mask


def wake(model):
    """Gives what keeps attention silent at the start another value than 0, entity by entity, and biases theirs."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if "residual_weight" in weight.name or "sampling_weight" in weight.name:
            weight.assign(rng.uniform(0.2, 1.0, weight.shape))
        elif len(weight.shape) == 1:
            weight.assign(rng.normal(0, 0.1, weight.shape))


def generator(**kwargs):
    model = inpainting_generator(**{**SMALL, **kwargs})
    wake(model)
    return model


def arrays(outputs):
    return {name: array(output) for name, output in outputs.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_one_model_takes_all_sizes(kind):
    model = generator(attention=kind)
    for height, width in ((16, 24), (32, 16)):
        for training in (False, True):
            outputs = model(tensors([*inputs(height, width)]), training=training)
            assert set(outputs) == {*IMAGES, *(["layout"] if kind == "attentive_normalization" else [])}
            assert {dtype_of(output) for output in outputs.values()} == {"float32"}
            for name in IMAGES:
                image = array(outputs[name])
                assert image.shape == (2, height, width, 3)
                assert np.abs(image).max() <= 1 and image.std() > 1e-3
            if "layout" in outputs:
                layout = array(outputs["layout"])
                assert layout.shape == (2, height // 4, width // 4, 3) and layout.min() >= 0
                np.testing.assert_allclose(layout.sum(axis=-1), np.ones(layout.shape[:-1]), rtol=1e-5)


def test_number_of_channels_is_free():
    outputs = generator(image_channels=1)(tensors([*inputs(image_channels=1)]))
    assert all(tuple(outputs[name].shape) == (2, 16, 24, 1) for name in IMAGES)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_image_holds_in_the_hole_plays_no_part(kind):
    model = generator(attention=kind)
    image, mask = inputs()
    other = np.where(mask > 0, np.float32(0.75) - image, image)
    assert np.abs(other - image).max() > 0.5
    first, second = (arrays(model(tensors([values, mask]))) for values in (image, other))
    for name, output in first.items():
        np.testing.assert_array_equal(output, second[name])
    changed = arrays(model(tensors([image * 0.5, mask])))
    assert np.abs(changed["fine"] - first["fine"]).max() > 1e-3


def test_completed_has_the_known_pixels_and_the_fine_result():
    image, mask = inputs()
    outputs = arrays(generator()(tensors([image, mask])))
    np.testing.assert_array_equal(outputs["completed"], np.where(mask > 0, outputs["fine"], image))


def test_mask_decides_what_is_filled():
    image, mask = inputs()
    model = generator()
    first, second = (arrays(model(tensors([image, values]))) for values in (mask, np.roll(mask, 4, axis=2)))
    assert np.abs(first["coarse"] - second["coarse"]).max() > 1e-3


def test_defaults_are_the_papers_network():
    model = inpainting_generator()
    assert [tuple(tensor.shape) for tensor in model.inputs] == [(None, None, None, 3), (None, None, None, 1)]
    widths = [32, 64, 64, 128, 128, 128, 128, 128, 128, 128]
    for branch in ("coarse", "dilated"):
        layers = [model.get_layer(f"{branch}_conv{number}") for number in range(1, 11)]
        assert [layer.filters for layer in layers] == widths
        assert [layer.dilation_rate[0] for layer in layers] == [1, 1, 1, 1, 1, 1, 2, 4, 8, 16]
        assert [layer.strides[0] for layer in layers] == [1, 2, 1, 2, 1, 1, 1, 1, 1, 1]
        assert [layer.kernel_size[0] for layer in layers] == [5] + [3] * 9
    for branch in ("coarse", "fused"):
        layers = [model.get_layer(f"{branch}_conv{number}") for number in (11, 12, 13, 14, 15, 16, 18)]
        assert [layer.filters for layer in layers] == [128, 128, 64, 64, 32, 16, 3]
    (attentive,) = (layer for layer in model.layers if isinstance(layer, AttentiveNormalization))
    assert attentive.num_entities == 16 and attentive.statistics == "weighted" and attentive.affine
    assert tuple(attentive.input.shape) == (None, None, None, 128)
    assert tuple(model.get_layer("joined").output.shape) == (None, None, None, 256)
    assert tuple(model.get_layer("fine_input").output.shape) == (None, None, None, 5)


def test_attention_works_at_a_quarter_of_the_side():
    model = generator()
    before = keras.Model(model.inputs, model.get_layer("attentive_conv6").output)
    assert tuple(before(tensors([*inputs()])).shape) == (2, 4, 6, 8)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_attention_stands_between_the_sixth_convolution_and_its_elu(kind):
    model = inpainting_generator(**SMALL, attention=kind)
    attention, convolution = model.get_layer("attentive_attention"), model.get_layer("attentive_conv6")
    outputs = attention.output[0] if kind == "attentive_normalization" else attention.output
    assert attention.input is convolution.output
    assert model.get_layer("attentive_elu6").input is outputs
    assert convolution.activation is keras.activations.linear


def test_kinds_differ_in_the_attention_layer_alone():
    none, *others = (inpainting_generator(**SMALL, attention=kind) for kind in KINDS)
    names = [layer.name for layer in none.layers]
    assert not [name for name in names if name.endswith("attention")]
    for model in others:
        assert sorted(layer.name for layer in model.layers) == sorted([*names, "attentive_attention"])
        for layer in none.layers:
            twin = model.get_layer(layer.name)
            assert [weight.shape for weight in twin.weights] == [weight.shape for weight in layer.weights]


def test_attention_starts_as_the_identity():
    models = [inpainting_generator(**SMALL, attention=kind) for kind in KINDS]
    for model in models[1:]:
        for layer in models[0].layers:
            for mine, theirs in zip(model.get_layer(layer.name).weights, layer.weights):
                mine.assign(array(theirs))
    none, *others = (array(model(tensors([*inputs()]))["fine"]) for model in models)
    for other in others:
        np.testing.assert_allclose(other, none, rtol=1e-5, atol=1e-6)


def test_options_of_the_released_code_reach_the_layers():
    model = generator(statistics="released")
    layer = model.get_layer("attentive_attention")
    assert layer.statistics == "released" and layer.value_projection and not layer.affine and layer.pool_size == 1
    outputs = arrays(model(tensors([*inputs()])))
    assert all(np.isfinite(output).all() for output in outputs.values())


def test_options_of_attentive_normalization_have_the_last_word():
    options = {"pool_size": 2, "temperature": 0.3}
    layer = generator(statistics="released", attentive_options=options).get_layer("attentive_attention")
    assert layer.pool_size == 2 and layer.temperature == 0.3 and layer.num_entities == 3 and layer.value_projection


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind):
    """At inference or in training: self-sampling draws only there."""
    model = generator(attention=kind)
    values = tensors([*inputs()])
    weighting = tensors(np.random.default_rng(1).normal(size=(2, 16, 24, 3)).astype(np.float32))
    reached = np.zeros(len(model.trainable_weights))
    for training in (False, True):

        def loss(training=training):
            outputs = model(values, training=training)
            return ops.mean((outputs["coarse"] + outputs["fine"]) * weighting)

        found = gradients(loss, [], model.trainable_weights)
        assert all(np.isfinite(gradient).all() for gradient in found)
        reached += [np.abs(gradient).max() for gradient in found]
    silent = [weight.name for weight, size in zip(model.trainable_weights, reached) if size < 1e-9]
    assert not silent


def test_completed_trains_the_hole_alone():
    """The loss of `completed` at known pixels has no gradient."""
    model = generator(attention="none")
    image, mask = tensors([*inputs()])
    (known,) = gradients(
        lambda: ops.sum((1 - mask) * model([image, mask])["completed"]), [], [model.get_layer("fused_conv18").kernel]
    )
    assert (known == 0).all()


@pytest.mark.parametrize(
    "kwargs", [{"attention": "self_attention"}, {"first_fill": "diffusion"}, {"statistics": "released"}]
)
def test_a_saved_model_gives_the_same(kwargs, tmp_path):
    model = generator(**kwargs)
    model.save(tmp_path / "generator.keras")
    loaded = keras.models.load_model(tmp_path / "generator.keras")
    expected, found = (arrays(each(tensors([*inputs()]))) for each in (model, loaded))
    assert set(found) == set(expected)
    for name, output in expected.items():
        np.testing.assert_allclose(found[name], output, rtol=1e-5, atol=1e-5)


def test_mixed_precision_gives_float32_and_exact_known_pixels():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = generator()
    image, mask = inputs()
    outputs = model(tensors([image, mask]), training=True)
    assert {dtype_of(output) for output in outputs.values()} == {"float32"}
    outputs = arrays(outputs)
    assert all(np.isfinite(output).all() for output in outputs.values())
    np.testing.assert_array_equal(outputs["completed"], np.where(mask > 0, outputs["fine"], image))
    assert model.get_layer("fused_conv16").compute_dtype == "bfloat16"
    assert model.get_layer("fused_conv18").compute_dtype == "float32"


@pytest.mark.parametrize("kind, layouts", list(zip(KINDS, (0, 0, 1))))
def test_probe_has_the_dictionary_of_outputs(kind, layouts):
    model = generator(attention=kind)
    values = tensors([*inputs()])
    probed = attentive_probe(model)(values)
    expected = arrays(model(values))
    assert set(probed["outputs"]) == set(expected)
    for name, output in expected.items():
        np.testing.assert_allclose(array(probed["outputs"][name]), output, rtol=1e-5, atol=1e-6)
    assert len(probed["layouts"]) == len(probed["inputs"]) == layouts
    for layout in probed["layouts"]:
        np.testing.assert_allclose(array(layout), expected["layout"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_the_image_holds_in_the_hole_plays_no_part_nan_too(value):
    model = generator()
    image, mask = inputs()
    expected = arrays(model(tensors([image, mask])))
    found = arrays(model(tensors([np.where(mask > 0, np.float32(value), image), mask])))
    for name, output in expected.items():
        np.testing.assert_array_equal(found[name], output)


def test_with_a_first_fill_an_untrained_generator_gives_that_fill():
    model = inpainting_generator(**SMALL, first_fill="diffusion")
    image, mask = inputs()
    expected = array(DiffusionFill()(tensors([image, mask])))
    image = np.where(mask > 0, np.float32(np.nan), image)
    outputs = arrays(model(tensors([image, mask]), training=True))
    for name in IMAGES:
        np.testing.assert_array_equal(outputs[name], expected)


def test_with_a_first_fill_both_stages_add_to_what_they_take():
    model = inpainting_generator(**SMALL, first_fill="diffusion")
    image, mask = inputs()
    filled = array(DiffusionFill()(tensors([image, mask])))
    for branch, change in (("coarse", 0.125), ("fused", -0.25)):
        model.get_layer(f"{branch}_conv18").bias.assign([10 * change] * 3)
    outputs = arrays(model(tensors([image, mask])))
    np.testing.assert_allclose(outputs["coarse"], np.clip(filled + 0.125, -1, 1), atol=1e-6)
    completed = np.where(mask > 0, outputs["coarse"], image)
    np.testing.assert_allclose(outputs["fine"], np.clip(completed - 0.25, -1, 1), atol=1e-6)


def test_with_a_first_fill_shortcuts_lead_around_a_quarter_of_the_side():
    model = inpainting_generator(**SMALL, first_fill="diffusion")
    for branch, encoder in (("coarse", "coarse"), ("fused", "dilated")):
        for decoded, encoded in ((15, 1), (13, 3)):
            joined = model.get_layer(f"{branch}_shortcut{decoded}").input
            expected = [model.get_layer(f"{branch}_conv{decoded}"), model.get_layer(f"{encoder}_conv{encoded}")]
            assert [tensor is layer.output for tensor, layer in zip(joined, expected)] == [True, True]


def test_a_first_fill_leaves_the_weights_as_they_are():
    zeros, diffusion = (inpainting_generator(**SMALL, first_fill=kind) for kind in ("zeros", "diffusion"))
    shapes = [
        {layer.name: [w.shape for w in layer.weights] for layer in m.layers if layer.weights}
        for m in (zeros, diffusion)
    ]
    assert shapes[0] == shapes[1]
    assert not [layer.name for layer in zeros.layers if isinstance(layer, DiffusionFill)]


def test_unknown_first_fill_is_an_error():
    with pytest.raises(
        ValueError, match=r"`first_fill` must be one of \('zeros', 'diffusion'\)\. Received: first_fill='x'"
    ):
        inpainting_generator(**SMALL, first_fill="x")


@pytest.mark.parametrize("height, width", [(18, 24), (16, 21)])
def test_sides_that_do_not_divide_by_4_are_errors(height, width):
    message = rf"Height and width of an image must divide by 4\. Received: \({height}, {width}\)"
    with pytest.raises(ValueError, match=message):
        generator(attention="none")(tensors([*inputs(height, width)]))


def test_mask_of_another_size_is_an_error():
    image, mask = inputs()
    message = r"Image and mask must have the same height and width\. Received: \(16, 24\) and \(16, 20\)"
    with pytest.raises(ValueError, match=message):
        generator(attention="none")(tensors([image, mask[:, :, :20]]))


@pytest.mark.parametrize("base_channels", [0, -2, 3, 2.0])
def test_other_base_channels_are_errors(base_channels):
    message = rf"`base_channels` must be an even positive integer\. Received: base_channels={base_channels}"
    with pytest.raises(ValueError, match=message):
        inpainting_generator(base_channels=base_channels)


def test_unknown_attention_is_an_error():
    with pytest.raises(ValueError, match=r"`attention` must be one of \('none', .*\)\. Received: attention='other'"):
        inpainting_generator(**SMALL, attention="other")


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_statistics_are_an_error(kind):
    message = r"`statistics` must be one of \('weighted', 'released'\)\. Received: statistics='other'"
    with pytest.raises(ValueError, match=message):
        inpainting_generator(**SMALL, attention=kind, statistics="other")
