"""One step of inpainting: what moves in which phase, the terms against NumPy, replicas, and an exact resume."""

import numpy as np
import pytest
import tensorflow as tf

from inpainting_test_case import small_params
from keras_an.backend import keras
from trainer_test_case import ONE, batches_from, state, train, values
from trainers.data import masks
from trainers.training import distribution, inpainting_trainer

ONE_LOSS = tf.constant(1.0)  # the factor of losses of one replica without loss scaling


def make_trainer(params, strategy=ONE):
    distribution.set_up_runtime(params.runtime)
    return inpainting_trainer.InpaintingTrainer(params, strategy)


@pytest.fixture(scope="module")
def trainer():
    """Its networks stay as they were made, but for what a call of theirs moves."""
    return make_trainer(small_params())


class Unbroken:
    """A run of two steps of pretraining and two of all networks, and what was seen on the way."""

    def __init__(self, folder):
        self.params = small_params(trainer__pretrain_steps=2)
        self.trainer, iterator = make_trainer(self.params), batches_from(self.params)
        self.images_per_step, self.losses, self.states = [], [], [state(self.trainer)]
        for num_steps in (1, 1, 2):
            self.images_per_step.append(self.trainer.images_per_step)
            self.losses.append(train(self.trainer, iterator, num_steps))
            self.states.append(state(self.trainer))
            if int(self.trainer.step) == 1:
                self.checkpoint = tf.train.Checkpoint(**self.trainer.checkpoint_items()).write(f"{folder}/checkpoint")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return Unbroken(tmp_path_factory.mktemp("unbroken"))


def moved(before, after):
    """The names of the items of which something moved."""
    return {key.split("/")[0] for key in before if not np.array_equal(before[key], after[key])}


def test_pretraining_moves_the_generator_alone_and_then_all_move(unbroken):
    """Takes 20 seconds: both phases are traced."""
    trainer, (start, *_, middle, end) = unbroken.trainer, unbroken.states
    assert trainer.phase_ends == (2,) and unbroken.images_per_step == [4, 4, 8]
    names = [tuple(losses) for losses in unbroken.losses]
    assert names == 2 * [inpainting_trainer.RECONSTRUCTION_METRICS] + [inpainting_trainer.ADVERSARIAL_METRICS]
    assert moved(start, middle) == {"generator", "ema_generator", "generator_optimizer", "step"}
    assert moved(middle, end) == set(trainer.checkpoint_items()) - {"skipped_batches"}
    losses = unbroken.losses[-1]
    assert all(np.isfinite(value) for value in losses.values())
    assert 0 < losses["mask_coverage_least"] <= losses["mask_coverage"] <= losses["mask_coverage_most"] < 1


def test_each_update_takes_batches_of_its_own(eager):
    params = small_params(
        trainer__pretrain_steps=1, trainer__discriminator_steps=2, trainer__gradient_accumulation_steps=2
    )
    trainer, iterator = make_trainer(params), batches_from(params)
    assert [trainer.batches_before(step) for step in range(4)] == [0, 2, 8, 14]
    train(trainer, iterator, 1)
    train(trainer, iterator, 1)
    np.testing.assert_array_equal(next(iterator)["image"], next(batches_from(params, start_batch=8))["image"])


@pytest.fixture(scope="module")
def of_rectangles():
    return make_trainer(small_params(task__masks__kinds="[rectangle]"))


@pytest.mark.parametrize("kinds, names", [("of_rectangles", ["global", "local"]), ("trainer", ["global", "patch"])])
def test_critics_follow_the_kinds_of_masks(request, kinds, names):
    trainer = request.getfixturevalue(kinds)
    assert list(trainer.critics) == names
    table = trainer.describe()
    assert all(f"| {name} critic |" in table for name in names) and "| generator |" in table


def test_the_local_critic_sees_the_square_at_the_corner(of_rectangles):
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    corners = [(0, 16), (5, 9), (16, 0)]
    seen = of_rectangles._seen("local", tf.constant(images), tf.constant(corners))
    for one, image, (top, left) in zip(seen, images, corners):
        np.testing.assert_array_equal(one, image[top : top + 16, left : left + 16])
    assert of_rectangles._seen("global", images, None) is images


def test_critics_are_float32_where_the_generator_is_mixed():
    trainer = make_trainer(small_params(runtime__mixed_precision_dtype="bfloat16"))
    dtypes = {layer.compute_dtype for critic in trainer.critics.values() for layer in critic.layers}
    assert dtypes == {"float32"}
    assert trainer.generator.get_layer("coarse_conv1").compute_dtype == "bfloat16"


def batch_of(num_images=4, seed=0):
    images = np.random.default_rng(seed).uniform(-1, 1, (num_images, 32, 32, 3)).astype(np.float32)
    mask = masks.fixed(small_params().task.masks, "strokes", 32, num_images).numpy()
    return images, mask


def test_reconstruction_terms_are_their_formulas(eager):
    params = small_params(task__losses__discount=1.0, task__losses__orthogonal_weight=0.0)
    trainer = make_trainer(params)
    images, mask = batch_of()
    outputs = trainer.generator([images, mask], training=False)
    metrics, _ = trainer._generator_gradients(tf.constant(images), tf.constant(mask), None, ONE_LOSS, False)

    def l1(stage, part):
        sums = (np.abs(images - outputs[stage].numpy()) * part).sum(axis=(1, 2, 3))
        return np.mean(sums / (3 * part.sum(axis=(1, 2, 3))))

    hole, known = (1.2 * (l1("coarse", part) + l1("fine", part)) for part in (mask, 1 - mask))
    # Training samples the layout, but rho is 0 at the start.
    assert float(metrics["hole_l1"]) == pytest.approx(hole, rel=1e-5)
    assert float(metrics["known_l1"]) == pytest.approx(known, rel=1e-5)
    assert float(metrics["generator_loss"]) == pytest.approx(1.4 * hole + 1.2 * known, rel=1e-5)


def test_discount_lowers_the_weight_of_the_hole_alone(trainer, eager, monkeypatch):
    images, mask = (tf.constant(part) for part in batch_of())
    found = []
    for discount in (1.0, 0.5):
        monkeypatch.setattr(trainer.params.task.losses, "discount", discount)
        found.append(trainer._generator_gradients(images, mask, None, ONE_LOSS, False)[0])
    assert float(found[1]["hole_l1"]) < 0.8 * float(found[0]["hole_l1"])
    assert float(found[1]["known_l1"]) == pytest.approx(float(found[0]["known_l1"]), rel=1e-4)


def test_penalty_is_the_slope_in_the_hole_of_a_linear_critic(trainer, monkeypatch):
    """A critic whose gradient is known: w everywhere, so that the slope is |w| times the root of what is missing."""

    def linear(images, training):
        return 0.05 * tf.reduce_sum(images, axis=(1, 2, 3))[:, None]

    monkeypatch.setitem(trainer.critics, "global", linear)
    images, mask = batch_of()
    slopes = 0.05 * np.sqrt(3 * mask.sum(axis=(1, 2, 3)))
    found = trainer._penalty("global", tf.constant(images), tf.constant(mask))
    assert float(found) == pytest.approx(np.mean((slopes - 1) ** 2), rel=1e-5)


def test_critic_terms_are_those_of_wgan_gp(trainer, eager):
    images, mask = (tf.constant(part) for part in batch_of())
    completed = trainer.generator([images, mask], training=False)["completed"]
    places = tf.constant(np.random.default_rng(1).uniform(size=(4, 2, 1, 1, 1)), tf.float32)
    metrics, gradients = trainer._critic_gradients(images, mask, None, places, ONE_LOSS)
    wanted, penalty = 0.0, 0.0
    for index, (name, critic) in enumerate(trainer.critics.items()):

        def score(x, name=name, critic=critic):
            return critic([x, mask] if name == "patch" else x)

        wanted += tf.reduce_mean(score(completed)) - tf.reduce_mean(score(images))
        between = places[:, index] * completed + (1.0 - places[:, index]) * images
        with tf.GradientTape() as tape:
            tape.watch(between)
            result = score(between)
        slopes = np.sqrt(np.sum((tape.gradient(result, between).numpy() * mask.numpy()) ** 2, axis=(1, 2, 3)))
        penalty += np.mean((slopes - 1.0) ** 2)
    assert float(metrics["critic_loss"]) == pytest.approx(float(wanted), rel=1e-3, abs=1e-5)
    assert float(metrics["gradient_penalty"]) == pytest.approx(penalty, rel=1e-4)
    assert all(gradient is not None for gradient in gradients)


def test_adversarial_term_is_weighted_and_pulls_the_generator(trainer, eager, monkeypatch):
    images, mask = (tf.constant(part) for part in batch_of())
    monkeypatch.setattr(trainer.params.task.losses, "adversarial", 3.0)
    (with_it, first), (without, second) = (
        trainer._generator_gradients(images, mask, None, ONE_LOSS, adversarial) for adversarial in (True, False)
    )
    difference = float(with_it["generator_loss"]) - float(without["generator_loss"])
    assert difference == pytest.approx(3.0 * float(with_it["generator_adversarial"]), rel=1e-3, abs=1e-5)
    assert max(np.abs(one - other).max() for one, other in zip(values(first), values(second))) > 1e-6


def test_learning_rates_decay_where_they_are_told_to():
    trainer = make_trainer(
        small_params(
            trainer__generator_optimizer__decay_steps=100, trainer__discriminator_optimizer__learning_rate=0.25
        )
    )
    trainer.set_learning_rates()
    schedule = trainer.generator_optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, 50, 100, 200)]
    # Half a cosine from 1e-3 to a hundredth of it.
    np.testing.assert_allclose(rates, [1e-3, 1e-3 * (0.5 * 0.99 + 0.01), 1e-5, 1e-5], rtol=1e-5)
    assert float(tf.convert_to_tensor(trainer.critic_optimizer.learning_rate)) == 0.25


@pytest.mark.slow
def test_a_run_resumed_across_the_end_of_pretraining_ends_bit_exact(unbroken):
    """Takes 25 seconds: both phases are traced twice."""
    resumed = make_trainer(unbroken.params)
    tf.train.Checkpoint(**resumed.checkpoint_items()).read(unbroken.checkpoint).assert_consumed()
    iterator = batches_from(unbroken.params, start_batch=resumed.batches_before(1))
    for num_steps in (1, 2):
        train(resumed, iterator, num_steps)
    expected, found = unbroken.states[-1], state(resumed)
    assert set(found) == set(expected)
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key], err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"task__model__critic__attention": "attentive_normalization", "runtime__mixed_precision_dtype": "bfloat16"},
        {
            "task__model__critic__attention": "self_attention",
            "task__model__generator__attention": "self_attention",
            "task__masks__kinds": "[rectangle]",
        },
    ],
    ids=["attentive critics in bfloat16", "self-attention, rectangles"],
)
def test_other_networks_train_as_well(changes):
    """Attentive critics take 40 seconds: second order through attention is traced in both phases."""
    params = small_params(trainer__pretrain_steps=0, **changes)
    losses = train(make_trainer(params), batches_from(params), 2)
    assert all(np.isfinite(value) for value in losses.values())


def test_a_generator_without_attention_trains_as_well(eager):
    params = small_params(
        trainer__pretrain_steps=0, task__model__generator__attention="none", task__masks__kinds="[rectangle]"
    )
    losses = train(make_trainer(params), batches_from(params), 2)
    assert all(np.isfinite(value) for value in losses.values())


def test_vgg_weights_that_are_not_there_are_an_error(trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(inpainting_trainer, "build_inpainting_generator", lambda params: trainer.generator)
    monkeypatch.setattr(inpainting_trainer, "build_critics", lambda params: trainer.critics)
    with pytest.raises(ValueError, match="`task.losses.vgg_weights` must be a file"):
        make_trainer(small_params(task__losses__vgg_weights=tmp_path / "none.h5"))
    (tmp_path / "other.weights.h5").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="must hold the weights of keras.applications.VGG19"):
        make_trainer(small_params(task__losses__vgg_weights=tmp_path / "other.weights.h5"))


@pytest.mark.slow
def test_id_mrf_term_takes_vggs_weights_and_pulls_the_generator(tmp_path, eager, monkeypatch):
    path = tmp_path / "vgg19.weights.h5"
    keras.applications.VGG19(include_top=False, weights=None, input_shape=(None, None, 3)).save_weights(path)
    images, mask = (tf.constant(part) for part in batch_of())
    trainer, found = make_trainer(small_params(task__losses__vgg_weights=path)), {}
    for weight in (0.0, 1.0):
        monkeypatch.setattr(trainer.params.task.losses, "id_mrf", weight)
        found[weight] = trainer._generator_gradients(images, mask, None, ONE_LOSS, True)
    assert float(trainer._id_mrf(images, images)) < float(trainer._id_mrf(images, tf.zeros_like(images)))
    assert float(found[1.0][0]["generator_loss"]) > float(found[0.0][0]["generator_loss"])
    assert not [variable for variable in trainer.generator.variables if "block3" in variable.name]
