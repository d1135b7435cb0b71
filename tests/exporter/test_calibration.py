"""Fidelity, drift null and integrity limit from arrays small enough to work out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from clearweight.artifact import OTHER, QUANTILE_LEVELS
from clearweight.artifact.score import SCORES
from clearweight.exporter.calibration import (
    Explained,
    autocorrelation,
    class_nulls,
    distances,
    drift_null,
    explained,
    fidelity,
    integrity_limit,
    map_movement,
    null_distribution,
    rounded_integrity_limit,
    summary,
)
from clearweight.exporter.sections import FidelitySection


def judged(cosine, *, drop=0.0, floor=None, **budget):
    return fidelity(
        "gradient",
        {"cosine": np.asarray(cosine, float)},
        agreement=0.9,
        accuracy_drop=drop,
        budget=FidelitySection(**budget),
        retrain_floor=floor,
    )


def test_similarity_is_one_minus_distance():
    found = judged([0.1, 0.3], min_attribution_similarity=0.8)

    assert found.similarity["cosine"].mean == pytest.approx(0.8)
    assert found.passed


def test_the_level_is_held_against_the_budget():
    assert judged([0.2, 0.2], min_attribution_similarity=0.8).passed
    assert not judged([0.2, 0.21], min_attribution_similarity=0.8).passed


def test_a_fine_map_does_not_excuse_a_lost_accuracy():
    assert not judged([0.0], drop=0.02, max_accuracy_drop=0.01).passed
    assert judged([0.0], drop=0.01, max_accuracy_drop=0.01).passed


def test_a_gain_in_accuracy_does_not_excuse_lost_maps():
    assert not judged([0.5], drop=-0.1, min_attribution_similarity=0.8).passed


def test_undefined_maps_count_as_nothing_kept():
    found = judged([0.0, np.nan], min_attribution_similarity=0.8)

    assert found.undefined == 1
    assert found.samples == 2
    assert found.similarity["cosine"].mean == 1.0  # of the defined
    assert not found.passed


def test_the_gap_closed_is_the_share_of_what_retraining_loses():
    assert judged([0.1], floor=0.8).gap_closed == pytest.approx((0.9 - 0.8) / (1 - 0.8))
    assert judged([0.1]).gap_closed is None
    assert judged([0.1], floor=1.0).gap_closed is None


def test_a_summary_is_mean_and_quantiles():
    found = summary(np.arange(101.0))

    assert (found.mean, found.q05, found.q50, found.q95) == (50.0, 5.0, 50.0, 95.0)


def test_autocorrelation_against_the_definition():
    x = np.random.default_rng(0).normal(size=30).cumsum()
    centre = x - sum(x) / 30
    slow = [
        sum(centre[i] * centre[i + k] for i in range(30 - k)) / sum(c * c for c in centre) for k in (1, 2, 3)
    ]

    assert np.allclose(autocorrelation(x, 3), slow)


def test_a_constant_or_short_series_has_no_autocorrelation():
    assert autocorrelation(np.ones(9), 2) == (0.0, 0.0)
    assert autocorrelation(np.arange(2.0), 2) == (0.0, 0.0)


def test_the_null_describes_the_defined_scores_and_counts_the_others():
    found = null_distribution(np.array([0.0, 0.5, np.nan, 1.0]), np.array([0.0, 0.2, np.nan]))

    assert (found.mean, found.samples, found.undefined) == (0.5, 4, 1)
    at = dict(zip(QUANTILE_LEVELS, found.quantiles, strict=True))
    assert (at[0.0], at[0.5], at[1.0]) == (0.0, 0.5, 1.0)
    assert at[0.999] == pytest.approx(0.999)
    assert found.runtime_floor == pytest.approx(np.quantile([0.0, 0.2], 0.99))


def test_the_null_covers_every_score_and_the_disagreements():
    rng = np.random.default_rng(1)
    maps, other = (rng.normal(size=(20, 1, 8, 8)).astype(np.float32) for _ in range(2))
    scores = distances(maps, other)
    found = drift_null(
        "gradient", scores, distances(maps, maps), np.array([0.0] * 15 + [1.0] * 5), np.zeros(20, int)
    )

    assert set(found.scores) == {*SCORES, "disagreement"}
    assert found.scores["disagreement"].mean == 0.25
    assert found.scores["cosine"].mean == pytest.approx(float(np.mean(scores["cosine"])))


def test_the_most_frequent_classes_are_broken_down_and_the_rest_is_one_group():
    rng = np.random.default_rng(2)
    sizes = [40 + index for index in range(10)] + [5, 29]
    classes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = 0.01 * classes + 0.001 * rng.random(len(classes))
    values[np.flatnonzero(classes == 9)[0]] = np.nan

    found = class_nulls(values, classes)

    assert [entry.index for entry in found] == [8, 9, 7, 6, 5, 4, 3, 2, OTHER]
    assert [entry.samples for entry in found[:2]] == [48, 48]
    rest = values[np.isin(classes, [0, 1, 10, 11])]
    assert (found[-1].samples, found[-1].mean) == (len(rest), pytest.approx(rest.mean(), rel=1e-4))
    assert found[0].std == pytest.approx(values[classes == 8].std(), rel=1e-4)


def test_classes_without_samples_enough_have_no_null_of_their_own():
    assert class_nulls(np.zeros(20), np.arange(20) % 2) == ()
    assert class_nulls(np.zeros(200), np.zeros(200, int)) == ()  # one class is no breakdown


def test_the_integrity_limit_leaves_room_for_another_kernel_and_no_more():
    maps = np.ones((2, 1, 2, 2), np.float32)
    own = Explained(np.array([[10.0, -1.0]], np.float32), maps)
    near = Explained(own.logits + np.float32(1e-5), maps)
    far = Explained(own.logits + np.float32(1e-2), maps)

    assert integrity_limit(near, own).logits_atol == pytest.approx(1e-3)
    assert integrity_limit(far, own).logits_atol == pytest.approx(0.2, rel=1e-3)
    assert integrity_limit(near, own).map_cosine_min > 0.99


def test_occlusion_is_held_against_the_same_budget():
    def with_occlusion(*distances):
        return fidelity(
            "gradient",
            {"cosine": np.zeros(2)},
            agreement=1.0,
            accuracy_drop=0.0,
            budget=FidelitySection(min_attribution_similarity=0.8),
            retrain_floor=None,
            occlusion=np.array(distances),
        )

    assert with_occlusion(0.1, 0.3).passed
    assert with_occlusion(0.1, 0.3).occlusion.mean == pytest.approx(0.8)
    assert not with_occlusion(0.1, 0.31).passed
    assert not with_occlusion(0.0, np.nan).passed  # an empty map keeps nothing


def test_the_limits_of_a_rounded_model_are_twice_what_was_seen_to_move():
    maps = np.ones((2, 1, 2, 2), np.float32)
    moved = maps.copy()
    moved[1, 0, 0, 0] = 1.1
    own = Explained(np.array([[10.0, -1.0]], np.float32), maps)
    other = Explained(own.logits + np.float32(0.25), moved)
    cosine = float(maps[1].ravel() @ moved[1].ravel() / np.linalg.norm(maps[1]) / np.linalg.norm(moved[1]))

    found = rounded_integrity_limit(own, (own, other), (maps, maps))

    assert map_movement(maps, moved) == pytest.approx((cosine, np.quantile([0.1, 0, 0, 0], 0.999)))
    assert found.logits_atol == pytest.approx(0.5)
    assert found.map_cosine_min == pytest.approx(1 - 2 * (1 - cosine))
    assert found.map_q999_max == pytest.approx(2 * np.quantile([0.1, 0, 0, 0], 0.999), rel=1e-4)
    assert (found.occlusion_cosine_min, found.occlusion_q999_max) == (0.999, 0.01)
    still = rounded_integrity_limit(own, (own,), (maps, maps))
    assert (still.logits_atol, still.map_cosine_min, still.map_q999_max) == pytest.approx((1e-3, 0.999, 0.01))
    turned = rounded_integrity_limit(own, (Explained(own.logits, maps * [[[1, -1], [1, -1]]]),), (maps, maps))
    assert (turned.map_cosine_min, turned.map_q999_max) == (0.9, 0.5)


class Fake:
    """A session that answers with what it was asked, so that chunks and targets show."""

    class Name:
        def __init__(self, name):
            self.name = name

    def get_inputs(self):
        return [self.Name("input"), self.Name("target")]

    def get_outputs(self):
        return [self.Name("explain"), self.Name("logits"), self.Name("completeness_error")]

    def run(self, outputs, feeds):
        assert outputs == ["explain", "logits"]
        return [feeds["input"] * 2, feeds["target"][:, None].astype(np.float32)]


@pytest.mark.parametrize("count", [1, 64, 65, 130])
def test_explaining_in_chunks_keeps_order_and_targets(count):
    inputs = np.arange(count, dtype=np.float32)[:, None]

    found = explained(Fake(), inputs, np.arange(count))

    assert np.array_equal(found.maps, 2 * inputs)
    assert np.array_equal(found.logits, inputs)
    assert (explained(Fake(), inputs, None).logits == -1).all()


def test_further_inputs_are_made_for_seed_zero_and_baseline_zero():
    class Noisy(Fake):
        def get_inputs(self):
            return [*super().get_inputs(), self.Name("noise"), self.Name("baseline")]

        def run(self, outputs, feeds):
            assert feeds["noise"].shape == (100, 3)
            assert not feeds["baseline"].any()
            assert len(feeds["input"]) <= 2  # 256 rows of the network at once
            return super().run(outputs, feeds)

    graph = SimpleNamespace(inputs=("noise", "baseline"), steps=100, settings={})
    inputs = np.arange(15, dtype=np.float32).reshape(5, 3)

    assert np.array_equal(explained(Noisy(), inputs, None, graph).maps, 2 * inputs)
