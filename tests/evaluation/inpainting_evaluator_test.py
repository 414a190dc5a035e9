"""Scores of completed images against scikit-image, the fills, and the pictures."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from skimage import metrics as skimage_metrics

from gan_test_case import fake_inception
from inpainting_test_case import small_params
from trainers.configs.networks import build_critics, build_inpainting_generator
from trainers.data import masks
from trainers.evaluation import fills, inception_features, inpainting_evaluator


def pair(seed=0):
    """Images, what was made of them, and masks."""
    random = np.random.default_rng(seed)
    images = random.uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    mask = masks.fixed(small_params().task.masks, "strokes", 32, 3).numpy()
    made = np.clip(images + random.normal(0, 0.2, images.shape), -1, 1)
    return images, np.where(mask > 0, made, images).astype(np.float32), mask


def test_measures_are_those_of_scikit_image():
    images, completed, mask = pair()
    found = inpainting_evaluator.measure(images, completed, mask)
    first, second = 0.5 * images + 0.5, 0.5 * completed + 0.5
    assert list(found) == list(inpainting_evaluator.MEASURES)

    def mean(function):
        return np.mean([function(*pair) for pair in zip(first, second)])

    assert found["l1"] == pytest.approx(np.abs(first - second).mean(), rel=1e-5)
    assert found["psnr"] == pytest.approx(
        mean(lambda a, b: skimage_metrics.peak_signal_noise_ratio(a, b, data_range=1.0)), rel=1e-4
    )
    options = {
        "data_range": 1.0,
        "channel_axis": -1,
        "gaussian_weights": True,
        "use_sample_covariance": False,
        "sigma": 1.5,
    }
    whole, hole = [], []
    for a, b, missing in zip(first, second, mask):
        _, index = skimage_metrics.structural_similarity(a, b, win_size=11, full=True, **options)
        inner = index[5:-5, 5:-5]
        whole.append(inner.mean())
        hole.append(inner[missing[5:-5, 5:-5, 0] > 0].mean())
    assert found["ssim"] == pytest.approx(np.mean(whole), abs=1e-3)
    assert found["ssim_hole"] == pytest.approx(np.mean(hole), abs=1e-3)


def test_measures_of_the_hole_see_the_hole_alone():
    images, completed, mask = pair()
    found = inpainting_evaluator.measure(images, completed, mask)
    inside = mask[..., 0] > 0
    errors = [np.abs(a - b)[m].mean() / 2 for a, b, m in zip(images, completed, inside)]
    squares = [((a - b)[m] ** 2).mean() / 4 for a, b, m in zip(images, completed, inside)]
    assert found["l1_hole"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert found["psnr_hole"] == pytest.approx(np.mean(-10 * np.log10(squares)), rel=1e-4)
    spoiled = np.where(mask > 0, completed, -images)
    again = inpainting_evaluator.measure(images, spoiled, mask)
    assert again["l1_hole"] == pytest.approx(found["l1_hole"]) and again["l1"] > found["l1"]


def test_equal_images_are_perfect():
    images, _, mask = pair()
    found = inpainting_evaluator.measure(images, images, mask)
    assert found["l1"] == found["l1_hole"] == 0 and found["ssim"] == pytest.approx(1)
    assert (found["psnr"], found["psnr_hole"]) == pytest.approx((100, 100))


def test_mean_fill_is_the_known_pixels_mean():
    images, _, mask = pair()
    filled = fills.mean_fill(images, mask)
    for image, one, missing in zip(images, filled, mask[..., 0] > 0):
        np.testing.assert_array_equal(one[~missing], image[~missing])
        np.testing.assert_allclose(
            one[missing], np.broadcast_to(image[~missing].mean(axis=0), one[missing].shape), rtol=1e-4
        )


def test_biharmonic_fill_continues_a_ramp():
    ramp = np.broadcast_to(np.linspace(-0.9, 0.9, 24, dtype=np.float32)[None, None, :, None], (1, 24, 24, 3))
    mask = np.zeros((1, 24, 24, 1), np.float32)
    mask[:, 8:16, 8:16] = 1
    np.testing.assert_allclose(fills.biharmonic_fill(ramp, mask), ramp, atol=1e-3)
    assert np.abs(fills.mean_fill(ramp, mask) - ramp).max() > 0.2


@pytest.mark.parametrize("name", ["telea", "navier_stokes", "diffusion"])
def test_fills_continue_a_ramp_and_leave_what_is_known(name):
    ramp = np.broadcast_to(np.linspace(-0.9, 0.9, 24, dtype=np.float32)[None, None, :, None], (2, 24, 24, 3))
    mask = np.zeros((2, 24, 24, 1), np.float32)
    mask[0, 8:16, 8:16] = mask[1, 3:6, 2:20] = 1
    found = fills.available()[name](ramp, mask)
    np.testing.assert_array_equal(np.where(mask > 0, 0, found), np.where(mask > 0, 0, ramp))
    error, of_mean = (
        np.abs(one - ramp)[np.broadcast_to(mask, ramp.shape) > 0].mean() for one in (found, fills.mean_fill(ramp, mask))
    )
    assert found.dtype == np.float32 and error < 0.12 and error < 0.5 * of_mean
    grey = fills.available()[name](ramp[..., :1], mask)
    np.testing.assert_allclose(grey, found[..., :1], atol=2 / 127.5)


def test_without_opencv_its_fills_are_left_out_with_a_line(monkeypatch, caplog):
    monkeypatch.setattr(fills.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, logger="absl"):
        assert list(fills.available(biharmonic=False)) == ["mean_fill", "diffusion"]
    assert [record.getMessage() for record in caplog.records] == [
        "Without the scores of OpenCV's fills: pip install '.[opencv]' brings it."
    ]


@pytest.fixture(scope="module")
def evaluator():
    params = small_params()
    return inpainting_evaluator.InpaintingEvaluator(params, build_inpainting_generator(params))


def test_scores_name_mask_measure_and_fill(evaluator):
    found = evaluator.evaluate()
    assert set(found) == {
        f"{mask}/{measure}{fill}"
        for mask in ("center", "strokes")
        for measure in inpainting_evaluator.MEASURES
        for fill in ("", "_mean_fill", "_diffusion", "_biharmonic", "_telea", "_navier_stokes")
    }
    assert all(np.isfinite(value) for value in found.values())
    assert evaluator.evaluate() == pytest.approx(found)
    assert found["center/l1_hole_biharmonic"] < found["center/l1_hole_mean_fill"]
    rows = evaluator.table(found).splitlines()
    assert len(rows) == 1 + 2 * 6 + 1 and rows[1].split()[:2] == ["center", "generator"]
    assert rows[1].split()[2] == f"{found['center/l1_hole']:.4g}"
    assert rows[-1] == "Means over 6 images of the test data, fixed masks; PSNR in dB."


def test_known_pixels_cost_nothing(evaluator):
    found = evaluator.evaluate()
    assert found["center/l1"] == pytest.approx(0.25 * found["center/l1_hole"], rel=1e-4)  # 16 x 16 of 32 x 32


def test_pictures_show_a_row_an_image(evaluator):
    picture = evaluator.pictures()["completions"]
    rows, columns = 2 * 4, 4 + 1 + 3  # two masks of four images; four pictures, the winners, three entities
    assert picture.shape == (rows * 34 - 2, columns * 34 - 2, 3) and picture.dtype == np.uint8
    original, masked, completed = (picture[:32, 34 * column : 34 * column + 32] for column in (0, 1, 3))
    hole = (slice(8, 24), slice(8, 24))
    assert (masked[hole] == 255).all()
    outside = np.ones((32, 32), bool)
    outside[hole] = False
    np.testing.assert_array_equal(completed[outside], original[outside])
    np.testing.assert_array_equal(masked[outside], original[outside])


def test_probe_watches_the_attentive_layer_in_the_hole_and_outside(evaluator):
    (view,) = evaluator.probes["generator"].views("generator")
    assert view.name == "generator/attentive_attention" and view.images.shape == (6, 32, 32, 3)
    names, means = view.table()
    assert names == ["hole", "known"]
    np.testing.assert_allclose(means[0], view.layout[:, 2:6, 2:6].mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(means.sum(axis=1), 1.0, rtol=1e-4)


def test_probes_watch_the_attentive_layers_of_critics():
    params = small_params(task__model__critic__attention="attentive_normalization")
    critics = build_critics(params)
    evaluator = inpainting_evaluator.InpaintingEvaluator(params, build_inpainting_generator(params), critics)
    names = [view.name for name, probe in evaluator.probes.items() for view in probe.views(name)]
    assert names == ["generator/attentive_attention", *(f"{name}_critic/attention3" for name in critics)]


def test_inception_gives_a_distance_for_each_mask(tmp_path, monkeypatch):
    monkeypatch.setattr(inception_features, "NUM_FEATURES", 6)
    params = small_params(
        task__evaluation__inception_path=fake_inception(tmp_path / "inception"),
        task__evaluation__biharmonic="false",
    )
    evaluator = inpainting_evaluator.InpaintingEvaluator(params, build_inpainting_generator(params))
    found = evaluator.evaluate()
    assert found["center/fid"] > 0 and found["strokes/fid"] > 0
    assert "center/fid" in evaluator.table(found) and "biharmonic" not in evaluator.table(found)


def test_validation_images_are_spread_over_all_and_in_order():
    few, many = (
        inpainting_evaluator._some_images(small_params(task__evaluation__num_images=number)) for number in (3, 10_000)
    )
    assert few.shape == (3, 32, 32, 3) and len(many) == 6 * 64  # squares of three photographs
    np.testing.assert_array_equal(few, many[[0, 191, 383]])
    assert tf.reduce_max(tf.abs(many)) <= 1


def test_validation_data_that_are_all_left_out_leave_no_scores(tmp_path, caplog):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "0.png").write_bytes(b"none")
    params = small_params(
        task__validation_data__dataset="folder",
        task__validation_data__path=tmp_path,
        task__validation_data__skip_corrupt="true",
    )
    evaluator = inpainting_evaluator.InpaintingEvaluator(params, build_inpainting_generator(params))
    assert evaluator.probes == evaluator.evaluate() == evaluator.pictures() == {}
    assert "no validation image can be used" in caplog.text and "0 images" in evaluator.table({})


def test_measure_that_no_image_has_is_left_out(monkeypatch, caplog):
    """As of a hole at the edge, where no window of SSIM has its middle."""
    params = small_params(task__evaluation__masks="[center]", task__evaluation__biharmonic="false")
    evaluator = inpainting_evaluator.InpaintingEvaluator(params, build_inpainting_generator(params))
    edge = np.zeros_like(evaluator._masks["center"])
    edge[:, :3] = 1.0
    monkeypatch.setattr(evaluator, "_masks", {"center": edge})
    found = evaluator.evaluate()
    assert "center/ssim_hole" not in found and "center/l1_hole" in found and "center/ssim_hole_mean_fill" not in found
    assert "Without center/ssim_hole: it is nan" in caplog.text
    assert "  -" in evaluator.table(found)
