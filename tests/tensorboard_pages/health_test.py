"""Statistics of layers against layouts whose answer is known, and what is said of layers that are dead."""

import numpy as np
import pytest

from keras_an_tensorboard import health

RANDOM = np.random.default_rng(0)
ALIVE = {"rho": 0.1, "layout_entropy": 0.7, "largest_share": 0.4}


def halves(entities=2):
    """A layout of 2 x 4 x 4 that gives the upper half to entity 0 and the lower half to entity 1."""
    layout = np.zeros((2, 4, 4, entities), np.float32)
    layout[:, :2, :, 0] = layout[:, 2:, :, 1] = 1.0
    return layout


def normal(*shape, mean=0.0):
    return RANDOM.normal(mean, 1.0, shape).astype(np.float32)


def view(**changes):
    fields = {"features": normal(2, 4, 4, 5), "layout": halves(), "rho": 0.5, "entities": normal(2, 5), **changes}
    return health.LayerView("net/layer", **fields)


def test_uniform_layout_tells_nothing():
    found = health.layout_statistics(normal(2, 4, 4, 5, mean=3.0), np.full((2, 4, 4, 8), 0.125, np.float32))
    assert found["layout_entropy"] == pytest.approx(1.0, abs=1e-5)
    assert found["region_deviation"] == pytest.approx(1.0, abs=1e-5)


def test_hard_layout_has_no_entropy_and_counts_the_winners():
    found = health.layout_statistics(normal(2, 4, 4, 5), halves(8))
    assert found["layout_entropy"] == pytest.approx(0.0, abs=1e-5)
    assert found["entities_in_use"] == 0.25 and found["entities_dead"] == 6 and found["largest_share"] == 0.5


def test_constant_regions_have_no_deviation_wherever_their_mean_is():
    layout = halves()
    features = 100.0 + np.stack([layout[..., 0], 3.0 * layout[..., 1]], axis=-1)
    assert health.layout_statistics(features, layout)["region_deviation"] == pytest.approx(0.0, abs=1e-3)
    assert health.layout_statistics(np.ones((2, 4, 4, 5)), layout)["region_deviation"] == 0.0


def test_region_deviation_weighs_regions_by_their_mass():
    features = normal(1, 4, 4, 3)
    layout = np.zeros((1, 4, 4, 2), np.float32)
    layout[:, 0, :, 0] = layout[:, 1:, :, 1] = 1.0
    inside = 0.25 * features[0, 0].std(axis=0) + 0.75 * features[0, 1:].reshape(-1, 3).std(axis=0)
    expected = inside.mean() / features[0].reshape(-1, 3).std(axis=0).mean()
    assert health.layout_statistics(features, layout)["region_deviation"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 0.04])
def test_gain_is_how_much_the_normalised_regions_vary_beside_the_input(epsilon):
    features = 0.2 * normal(2, 4, 4, 5)
    features[:, 2:] *= 10.0
    seen = view(features=features, rho=-0.5, epsilon=epsilon)
    regions = features.reshape(2, 2, 8, 5)  # images, halves, positions, channels
    normalized = (regions - regions.mean(axis=2, keepdims=True)) / np.sqrt(regions.var(axis=2, keepdims=True) + epsilon)
    expected = 0.5 * normalized.std(axis=2).mean() / regions.std(axis=2).mean()
    found = health.statistics(seen)
    assert found["gain"] == pytest.approx(expected, rel=1e-4) and "magnification" not in found
    assert health.statistics(view(features=np.ones((2, 4, 4, 5))))["gain"] == 0.0


def test_layouts_may_have_one_or_three_spatial_dimensions():
    flat = health.layout_statistics(normal(2, 16, 5), halves().reshape(2, 16, 2))
    deep = health.layout_statistics(normal(2, 2, 2, 4, 5), halves().reshape(2, 2, 2, 4, 2))
    assert flat["largest_share"] == deep["largest_share"] == 0.5


def test_orthogonality_and_cosines_are_of_rows_of_unit_length():
    entities = normal(3, 5)
    rows = entities / np.linalg.norm(entities, axis=1, keepdims=True)
    seen = view(layout=halves(3), entities=entities, t=np.array([0.1, 0.2, 0.6]))
    found = health.statistics(seen)
    assert found["orthogonality"] == pytest.approx(np.square(rows @ rows.T - np.eye(3)).sum(), rel=1e-4)
    np.testing.assert_allclose(seen.cosines(), [rows[0] @ rows[1], rows[0] @ rows[2], rows[1] @ rows[2]], rtol=1e-4)
    assert found["t"] == pytest.approx(0.3) and found["rho"] == 0.5
    assert "t" not in health.statistics(view())


def test_table_is_of_labels_or_of_parts_of_the_images():
    layout = halves()
    layout[1] = layout[1, ::-1]  # the second image has entity 1 on top
    layout[:, 0, 0] = 0.5
    names, means = view(layout=layout, labels=["b", "a"]).table()
    assert names == ["b", "a"]
    np.testing.assert_allclose(means, [[7.5 / 16, 8.5 / 16], [8.5 / 16, 7.5 / 16]], rtol=1e-6)
    top = np.zeros((2, 8, 8), np.float32)
    top[:, :4] = 1.0
    names, means = view(groups={"top": top, "none": 0 * top}).table()
    np.testing.assert_allclose(means, [[1, 0], [0, 0]], atol=1e-6)
    assert view().table() is None


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("layout_entropy", 0.985, "the entropy is 0.985 of log n, more than 0.98. Start with a larger W"),
        ("largest_share", 0.96, "one entity takes 96.0 % of all positions, more than 95 %. Start with a smaller W"),
        ("rho", -9e-4, "it does nothing: |rho| is 9.0e-04 after 50 % of the training, less than 0.001. Look at"),
    ],
)
def test_a_dead_layer_is_told_with_what_to_try(name, value, told):
    found = health.findings({**ALIVE, name: value}, 8, progress=0.5)
    assert list(found) == [name] and told in found[name]
    bound = {"layout_entropy": 0.98, "largest_share": 0.95, "rho": 1e-3}[name]
    assert health.findings({**ALIVE, name: bound}, 8, progress=0.5) == {}


def test_rho_may_be_small_early_and_one_entity_takes_all():
    assert health.findings({**ALIVE, "rho": 0.0}, 8, progress=0.49) == {}
    assert health.findings({"rho": 0.1, "layout_entropy": 0.0, "largest_share": 1.0}, 1, progress=1.0) == {}


def test_a_short_training_is_never_late():
    assert [health.progress_of(*steps) for steps in ((4, 4), (500, 600), (600, 1200))] == [0.004, 0.5, 0.5]


def test_report_tells_what_is_new_and_writes_when_something_changes():
    report = health.HealthReport()
    assert report.update({"a": {}, "b": {}}) == ([], "2 layers, none of them dead.")
    assert report.update({"a": {}, "b": {}}) == ([], None)
    new, text = report.update({"a": {"rho": "nothing."}, "b": {}})
    assert new == ["a may be dead: nothing."] and text == "- **a** may be dead: nothing."
    assert report.update({"a": {"rho": "nothing still."}, "b": {}}) == ([], None)
    new, text = report.update({"a": {"rho": "nothing."}, "b": {"rho": "nor this."}})
    assert new == ["b may be dead: nor this."] and text.count("may be dead") == 2
    assert report.update({"a": {}, "b": {}}) == ([], "2 layers, none of them dead.")
