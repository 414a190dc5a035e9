"""Agreement of pairs: of real ones, of halves that do not belong together, and of what is no pair."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import small_params
from trainers.configs.networks import build_networks
from trainers.data import pairs_source
from trainers.evaluation import gan_evaluator, pair_agreement


def drawn(*objects):
    """A grey picture of 64 x 64 with bars: row, column, hue and angle in degrees, and length."""
    picture = np.full((64, 64, 3), 128.0)
    rows, columns = np.mgrid[:64, :64] + 0.5
    for row, column, hue, angle, length in objects:
        angle = np.radians(angle)
        along = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
        across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
        inside = (np.abs(along) < length / 2) & (np.abs(across) < 3)
        picture[inside] = 255 * np.array(colorsys.hsv_to_rgb(hue / 360 % 1, 0.9, 0.9))
    return picture.astype(np.uint8)


LEFT, RIGHT = (20, 16), (40, 48)


@pytest.mark.parametrize("resolution, count", [(32, 1000), (64, 400)])
def test_real_pairs_agree_and_shuffled_ones_do_by_chance(resolution, count):
    batch = pairs_source.open_pairs("test", resolution).read(tf.range(count, dtype=tf.int64))
    images, labels = batch["image"].numpy(), batch["label"].numpy()
    assert pair_agreement.agreement(images)["agreement"].mean() > 0.995
    mixed = pair_agreement.shuffled(images, labels)
    np.testing.assert_array_equal(mixed[:, :, : resolution // 2], images[:, :, : resolution // 2])
    found = pair_agreement.agreement(mixed)
    assert found["found"].mean() > 0.995
    # Three deviations and more of a share.
    assert abs(found["agreement"].mean() - pair_agreement.CHANCE) < 3 * (0.0185 / count) ** 0.5
    assert abs(found["colour"].mean() - 40 / 360) < 0.05 and abs(found["orientation"].mean() - 30 / 180) < 0.06


@pytest.mark.parametrize(
    "hue, angle, expected",
    [
        (15, 10, (True, True, True, True)),
        (-15, 175, (True, True, True, True)),  # axes have no end
        (25, 0, (True, False, True, False)),
        (0, 20, (True, True, False, False)),
        (180, 90, (True, False, False, False)),
    ],
)
@pytest.mark.parametrize("first", [0, 100, 355])
def test_differences_beyond_the_tolerances_do_not_agree(first, hue, angle, expected):
    picture = drawn((*LEFT, first, 30, 20), (*RIGHT, first + hue, 30 + angle, 20))
    found = pair_agreement.agreement(picture[None])
    assert tuple(found[name][0] for name in ("found", "colour", "orientation", "agreement")) == expected


@pytest.mark.parametrize(
    "objects",
    [
        (),
        ((*LEFT, 0, 0, 20),),
        ((*LEFT, 0, 0, 20), (10, 48, 0, 0, 20), (50, 48, 0, 0, 20)),  # two in a half
        ((*LEFT, 0, 0, 20), (40, 43, 0, 0, 10), (40, 53, 90, 0, 10)),  # of two colours
        ((*LEFT, 0, 0, 20), (*RIGHT, 0, 0, 6)),  # as long as wide, and small
    ],
)
def test_what_is_not_one_object_in_each_half_does_not_agree(objects):
    found = pair_agreement.agreement(drawn(*objects)[None])
    assert not found["found"][0] and not found["agreement"][0]


def test_noise_and_one_colour_are_no_pairs():
    noise = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    red = np.zeros((1, 32, 32, 3), np.uint8) + np.uint8([255, 0, 0])
    assert not pair_agreement.agreement(np.concatenate([noise, red]))["found"].any()


def test_pictures_of_another_type_are_refused():
    with pytest.raises(ValueError, match="must be uint8 .* Received: float64"):
        pair_agreement.agreement(np.zeros((1, 32, 32, 3)))


def test_the_evaluator_scores_pairs_beside_their_floors(tmp_path, monkeypatch):
    for split, count in (("train", 64), ("test", 200)):
        monkeypatch.setitem(pairs_source.NUM_IMAGES, split, count)
    params = small_params(
        task__train_data__dataset="pairs",
        task__validation_data__dataset="pairs",
        task__model__num_classes=4,
        task__model__resolution=16,
        task__model__image_channels=3,
        task__evaluation__classifier_dir=tmp_path / "judge",
        task__evaluation__statistics_dir=tmp_path / "judge",
    )
    evaluator = gan_evaluator.GanEvaluator(params, str(tmp_path), build_networks(params)[0])
    real = evaluator.prepare()
    assert real["pair_agreement_real"] > 0.9 and real["pair_agreement_shuffled"] < 0.1
    scores = evaluator.evaluate()
    assert scores["pair_agreement"] == scores["pair_objects_found"] == 0.0  # of a network that was not trained
    assert {name: scores[name] for name in pair_agreement.REAL} == {name: real[name] for name in pair_agreement.REAL}
    assert not {"classifier.weights.h5", "real_statistics_classifier.npz"} & {p.name for p in tmp_path.iterdir()}
    # A second run takes what lies in the folder.
    again = gan_evaluator.GanEvaluator(params, str(tmp_path / "run"), None)
    monkeypatch.setattr(again, "_measured", lambda data: pytest.fail("measured again"))
    assert again.prepare() == real
