"""The networks that a configuration describes."""

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import small_params
from keras_an.layers import SelfAttention
from keras_an.models import attentive_layers
from trainers.configs.networks import CheckpointError, build_networks, find_checkpoint


def attentive(**overrides):
    """The attentive layers of both networks."""
    return [layer for network in build_networks(small_params(**overrides)) for layer in attentive_layers(network)]


def values(layer):
    return tf.convert_to_tensor(layer.entities).numpy()


def test_networks_have_the_shapes_of_the_configuration():
    generator, discriminator = build_networks(small_params(task__model__num_classes=7, task__model__resolution=16))
    assert [tuple(part.shape) for part in generator.inputs] == [(None, 8), (None,)]
    assert tuple(generator.outputs[0].shape) == (None, 16, 16, 1)
    assert [tuple(part.shape) for part in discriminator.inputs] == [(None, 16, 16, 1), (None,)]
    assert tuple(discriminator.outputs[0].shape) == (None, 1)


def test_attentive_layers_take_their_settings_from_the_configuration():
    layers = attentive(
        task__losses__orthogonal_weight=0.25, runtime__seed=9, task__model__discriminator__num_entities=5
    )
    assert [layer.num_entities for layer in layers] == [3, 5]
    assert [layer.orthogonal_weight for layer in layers] == [0.25, 0.25]
    assert [layer.seed for layer in layers] == [9, 9]


def test_options_of_a_network_reach_its_layer_alone():
    changed, own = attentive(
        task__model__generator__temperature=0.5,
        task__model__generator__self_sampling="false",
        task__model__generator__value_projection="true",
        task__model__generator__epsilon=0.5,
        task__model__generator__residual_start=0.3,
        task__model__generator__residual_multiplier=10.0,
    )
    for layer, expected in ((changed, (0.5, False, True, 0.5, 10.0)), (own, (0.1, True, False, 1e-5, 1.0))):
        options = layer.temperature, layer.self_sampling, layer.value_projection, layer.epsilon
        assert (*options, layer.residual_multiplier) == expected
    assert [float(layer.rho) for layer in (changed, own)] == pytest.approx([0.3, 0.0])
    assert float(tf.convert_to_tensor(changed.residual_weight)) == pytest.approx(0.03)


def test_self_attention_takes_the_options_of_the_residual():
    params = small_params(
        task__model__attention="self_attention",
        task__model__discriminator__residual_start=0.3,
        task__model__discriminator__residual_multiplier=10.0,
    )
    _, discriminator = build_networks(params)
    (layer,) = (one.layer for one in discriminator.layers if isinstance(getattr(one, "layer", None), SelfAttention))
    assert layer.residual_multiplier == 10.0
    assert float(tf.convert_to_tensor(layer.residual_weight)) == pytest.approx(0.03)


@pytest.mark.parametrize("stddev", [0.0, 50.0])
def test_entity_stddev_sets_the_filters_of_its_network(stddev):
    changed, own = attentive(task__model__generator__entity_stddev=stddev)
    assert np.std(values(changed)) == pytest.approx(stddev, rel=0.5)
    assert np.std(values(own)) == pytest.approx(np.std(values(attentive()[1])))


def test_networks_of_a_seed_have_the_same_entities():
    for first, second, other in zip(attentive(), attentive(), attentive(runtime__seed=2)):
        np.testing.assert_array_equal(values(first), values(second))
        assert not np.array_equal(values(first), values(other))


def test_networks_of_attention_none_have_no_attentive_layer():
    assert not attentive(task__model__attention="none")


def test_newest_checkpoint_is_found_or_what_is_wrong_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="There is no checkpoint in --model_dir="):
        find_checkpoint(str(tmp_path))
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(x=tf.Variable(1.0)), str(tmp_path), max_to_keep=2)
    paths = [manager.save(step) for step in (1, 2)]
    assert find_checkpoint(str(tmp_path)) == paths[1]
    assert find_checkpoint(str(tmp_path), paths[0]) == paths[0]
    for setting, place in (("--model_dir", ("a [b]",)), ("--checkpoint", (str(tmp_path), "a [b]/ckpt-1"))):
        with pytest.raises(CheckpointError, match=rf"{setting}=a \[b\].* must have no \[ in it: TensorFlow takes"):
            find_checkpoint(*place)
