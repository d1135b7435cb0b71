import dataclasses

import numpy as np
import pytest

from clearweight.artifact import IntegrityLimit
from clearweight.service.drift import check_integrity
from clearweight.service.drift.integrity import map_agreement

LIMIT = IntegrityLimit(logits_atol=1e-4, map_cosine_min=0.9999, map_q999_max=5e-3)


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, 5)), rng.standard_normal((4, 1, 8, 8))


def test_equal_answers_pass(answers):
    logits, maps = answers
    report = check_integrity(LIMIT, (logits, logits), (maps.astype(np.float16), maps))

    assert report.state == "passed"
    assert report.canaries == 4
    assert report.logits_error == 0


def test_one_bad_row_of_many_fails(answers):
    logits, maps = answers
    for worse in (logits + np.eye(4, 5) * 1e-3, np.where(np.eye(4, 5) > 0, np.nan, logits)):
        report = check_integrity(LIMIT, (logits, worse), (maps, maps))
        assert report.state == "failed"
        assert "Logits differ" in report.reason


def test_a_map_that_turned_or_spiked_fails(answers):
    logits, maps = answers
    turned, spiked = maps.copy(), maps.copy()
    turned[2] = turned[2][..., ::-1]
    spiked[1, 0, 0, 0] += 0.02 * np.abs(maps[1]).max()

    assert "cosine" in check_integrity(LIMIT, (logits, logits), (maps, turned)).reason
    spiked_report = check_integrity(LIMIT, (logits, logits), (maps, spiked))
    assert "differs by" in spiked_report.reason


def test_agreement_equals_its_slow_definition(answers):
    _, maps = answers
    other = maps + 1e-3 * np.random.default_rng(1).standard_normal(maps.shape)
    cosine, q999 = map_agreement(maps, other)

    rows = [(a.ravel(), b.ravel()) for a, b in zip(maps, other, strict=True)]
    assert cosine == pytest.approx(min(a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in rows))
    assert q999 == pytest.approx(max(np.quantile(abs(a - b), 0.999) / abs(a).max() for a, b in rows))


def test_zero_maps_agree_with_zero_maps_only():
    zero, one = np.zeros((1, 4)), np.ones((1, 4))

    assert map_agreement(zero, zero) == (1.0, 0.0)
    for pair in ((zero, one), (one, zero), (one, one * np.nan)):
        assert map_agreement(*pair) == (0.0, np.inf)


def test_no_canaries_is_no_proof():
    empty = np.zeros((0, 5))

    assert check_integrity(LIMIT, (empty, empty), None).state == "failed"


def test_occlusion_maps_are_held_against_limits_of_their_own(answers):
    logits, maps = answers
    limit = dataclasses.replace(LIMIT, occlusion_cosine_min=0.99, occlusion_q999_max=0.2)
    turned, spiked = maps.copy(), maps.copy()
    turned[2] = turned[2][..., ::-1]
    spiked[1, 0, 0, 0] += 0.3 * np.abs(maps[1]).max()

    def report(found):
        return check_integrity(
            limit, (logits, logits), (maps, maps), None if found is None else (maps, found)
        )

    near = report(maps + 1e-2)
    assert near.state == "passed"
    assert 0.99 < near.occlusion_cosine < 1.0
    assert report(turned).reason.startswith("An occlusion map has cosine")
    assert "An occlusion map differs by" in report(spiked).reason
    assert (
        report(None).reason == "The canaries hold no occlusion maps, and the manifest has a limit for them."
    )
    assert check_integrity(LIMIT, (logits, logits), (maps, maps)).occlusion_cosine is None
