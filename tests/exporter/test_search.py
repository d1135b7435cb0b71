"""Searching strengths inside a budget, on the digits."""

import dataclasses

import pytest

from clearweight.exporter.errors import RecipeError, SearchError
from clearweight.exporter.journal import outcomes
from clearweight.exporter.outcome import Outcome, chosen, pareto_front
from clearweight.exporter.search import search
from clearweight.exporter.sections import FidelitySection, SearchSection
from clearweight.exporter.trial import with_strengths
from tests import small_digits

TUNE = {"epochs": 1, "batch_size": 64, "learning_rate": 0.003}
RANGES = {
    "prune.density": {"low": 0.1, "high": 0.9, "log": True},
    "share_weights.bits": {"low": 2, "high": 6},
}
STEPS = [
    {"prune": {"density": 0.4, "schedule": "one_shot", "fine_tune": TUNE}},
    {"share_weights": {"bits": 3}},
    {"half_precision": {}},
]


def recipe(trials=4, processes=1, fidelity=None, **limits):
    return small_digits.recipe(
        reference={"fine_tune": {**TUNE, "epochs": 3}},
        objective={"terms": [{"task": {}}]},
        steps=STEPS,
        fidelity=fidelity or {"min_attribution_similarity": -1.0, "max_accuracy_drop": 1.0},
        search={"ranges": RANGES, "trials": trials, "processes": processes, **limits},
    )


def outcome(number, size, drop, similarity, latency=None):
    return Outcome(number, {}, size, drop, similarity, latency)


LIMITS = FidelitySection(min_attribution_similarity=0.9, max_accuracy_drop=0.01)
NOTHING_ELSE = SearchSection(ranges=RANGES)


def test_the_smallest_inside_the_budget_wins_and_else_the_nearest():
    tried = [
        outcome(0, 900, 0.0, 0.95),
        outcome(1, 500, 0.005, 0.91),
        outcome(2, 100, 0.005, 0.85),
        outcome(3, 50, 0.3, 0.2),
    ]

    assert chosen(tried, LIMITS, NOTHING_ELSE).best.number == 1
    assert chosen(tried, LIMITS, NOTHING_ELSE).inside
    nearest = chosen(tried[2:], LIMITS, NOTHING_ELSE)
    assert nearest.best.number == 2
    assert not nearest.inside


def test_bytes_and_latency_count_where_they_are_limited():
    slow = outcome(0, 900, 0.0, 0.95, latency=1.5)

    assert slow.missing(LIMITS, NOTHING_ELSE) == 0.0
    assert slow.missing(LIMITS, SearchSection(ranges=RANGES, max_bytes=600)) == pytest.approx(0.5)
    assert slow.missing(LIMITS, SearchSection(ranges=RANGES, max_latency=1.2)) == pytest.approx(0.25)


def test_the_front_is_what_nothing_dominates():
    tried = [
        outcome(0, 10, 0.1, 0.9),
        outcome(1, 20, 0.1, 0.9),
        outcome(2, 30, 0.0, 0.9),
        outcome(3, 10, 0.1, 0.9),
    ]

    assert [o.number for o in pareto_front(tried)] == [0, 3, 2]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("melt.density", 0.5, "names no step; steps: prune, share_weights, half_precision"),
        ("prune.heat", 0.5, "names no key of prune"),
        ("prune.density.fc1", 0.5, "'fc1' is not a pattern of prune.density"),
        ("prune.density", 7.0, "less than or equal to 1"),
    ],
)
def test_ranges_that_do_not_fit_are_refused_by_name(name, value, said):
    with pytest.raises(RecipeError, match=said):
        with_strengths(recipe(), {name: value})


def test_strengths_reach_keys_and_patterns_of_the_steps():
    made = with_strengths(recipe(), {"prune.density": 0.25, "share_weights.bits": 4})
    assert (made.steps[0].density, made.steps[1].bits) == (0.25, 4)

    patterned = small_digits.recipe(
        steps=[{"prune": {"density": {"fc1.weight": 0.5, "*": 0.9}, "fine_tune": TUNE}}]
    )
    changed = with_strengths(patterned, {"prune.density.fc1.weight": 0.1})
    assert changed.steps[0].density == {"fc1.weight": 0.1, "*": 0.9}


def test_a_search_is_measured_told_and_resumed(tmp_path):
    told = []
    found = search(
        recipe(trials=2), tmp_path, on_trial=lambda o, so_far: told.append((o.number, len(so_far)))
    )
    assert told == [(0, 1), (1, 2)]
    assert found.inside
    assert all(0 < o.packed_bytes < 20_000 and o.similarity <= 1.0 for o in found.outcomes)
    assert found.best.packed_bytes == min(o.packed_bytes for o in found.outcomes)

    again = []
    longer = search(recipe(trials=3), tmp_path, on_trial=lambda o, _: again.append(o))
    assert longer.outcomes[:2] == found.outcomes
    assert longer.outcomes[2:] == tuple(again)
    assert len(again) == 1
    assert again[0].strengths not in [o.strengths for o in found.outcomes], (
        "what is known is not proposed again"
    )

    (journal,) = tmp_path.glob("search-*.log")
    assert outcomes(journal) == list(longer.outcomes)


@pytest.mark.slow
def test_two_processes_share_one_journal(tmp_path):
    found = search(recipe(trials=6, processes=2), tmp_path)

    assert 6 <= len(found.outcomes) <= 7
    assert len({dataclasses.astuple(o)[0] for o in found.outcomes}) == len(found.outcomes)


@pytest.mark.slow
def test_where_every_trial_fails_the_reason_is_told(tmp_path):
    broken = recipe(trials=1)
    steps = (broken.steps[0].model_copy(update={"density": {"nothing*": 0.5}}), *broken.steps[1:])
    ranges = SearchSection(ranges={"share_weights.bits": RANGES["share_weights.bits"]}, trials=1)
    with pytest.raises(SearchError, match="matches no weight"):
        search(broken.model_copy(update={"steps": steps, "search": ranges}), tmp_path)


def test_a_backend_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SearchError, match="No backend 'slurm' is known, expected processes or ray"):
        search(recipe(), tmp_path, backend="slurm")
