import numpy as np

from clearweight.service.drift.worst_samples import WorstSamples


def test_the_largest_distances_are_kept_and_nothing_else():
    rng = np.random.default_rng(0)
    kept = WorstSamples(5)
    scores = rng.random(100)
    for start in range(0, 100, 8):
        part = slice(start, start + 8)
        kept.add(scores[part], list(range(100))[part], {"x": np.arange(100)[part, None]})

    slow = np.argsort(-scores)[:5]
    found = kept.worst()
    assert [sample.score for sample in found] == scores[slow].tolist()
    assert [sample.explained_class for sample in found] == slow.tolist()
    assert [int(sample.inputs["x"][0]) for sample in found] == slow.tolist()


def test_undefined_distances_are_not_kept_and_inputs_are_copies():
    kept, x = WorstSamples(3), np.ones((3, 2))
    kept.add(np.array([np.nan, 0.5, np.inf]), [0, 1, 2], {"x": x})
    x[:] = 7

    (sample,) = kept.worst()
    assert sample.score == 0.5
    assert sample.inputs["x"].tolist() == [1.0, 1.0]


def test_equal_distances_do_not_compare_their_inputs():
    kept = WorstSamples(2)
    kept.add(np.full(4, 0.5), [0, 1, 2, 3], {"x": np.zeros((4, 2))})

    assert [sample.explained_class for sample in kept.worst()] == [1, 0]
