"""Names and the printed table."""

import dataclasses
import re

from trainers.evaluation import score_names


def test_scores_by_a_classifier_have_no_name_of_inception():
    for name in dataclasses.astuple(score_names.CLASSIFIER_NAMES):
        assert not re.search("fid|kid|inception", name)
    assert dataclasses.astuple(score_names.INCEPTION_NAMES) == ("fid", "kid", "inception_score", "intra_fid")


def test_every_line_of_the_table_has_the_number_of_samples_and_the_seed():
    lines = score_names.table({"fid": 17.84, "kid": -0.00001, "other": 1234.5}, 50000, 7).splitlines()
    assert lines[0].split() == ["score", "value", "samples", "seed"]
    cells = [line.split()[:4] for line in lines[1:]]
    assert cells == [
        ["fid", "17.8400", "50000", "7"],
        ["kid", "-0.0000", "50000", "7"],
        ["other", "1234.5000", "50000", "7"],
    ]
    assert len({line.index("50000") for line in lines[1:]}) == 1


def test_scores_of_real_images_alone_have_neither():
    (line,) = score_names.table({"classifier_test_accuracy": 0.99}, 10, 0).splitlines()[1:]
    assert line.split()[:4] == ["classifier_test_accuracy", "0.9900", "-", "-"]


def test_explanations_do_not_call_another_distance_fid():
    text = score_names.table(dict.fromkeys(dataclasses.astuple(score_names.CLASSIFIER_NAMES), 0.0), 10, 0)
    for line in text.splitlines():
        assert "FID" not in line or "not an" in line
